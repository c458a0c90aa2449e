"""The tests of the runtimes that ship with MLServer, on what Headrace offers as `mlserver`.

The runtimes are MLServer's own code, so this shows how large custom runtimes do.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace

from compatibility.foreign_pytest import PLUGINS, run_pytest
from compatibility.suite import Case, Setting, Suite, SuiteFailed

RUNTIMES = ("sklearn", "xgboost", "lightgbm", "catboost")
# Their dependencies are not installed beside those of the others; the triage names them.
NOT_RUN = ("alibi-detect", "alibi-explain", "huggingface", "mlflow")


def run(setting: Setting) -> Iterator[Case]:
    """Run the tests of a copy, which has no `mlserver` of its own beside the runtimes."""
    if not (setting.source / "runtimes" / "sklearn").is_dir():
        raise SuiteFailed(f"{setting.source} does not contain MLServer's runtimes")
    shutil.copytree(setting.source / "runtimes", setting.folder / "runtimes")
    for name in RUNTIMES:
        # All have a package `tests`, so that each needs a process of its own.
        yield from run_pytest(
            replace(setting, source=setting.folder),
            [f"runtimes/{name}/tests"],
            area=lambda id: id.split("/")[1],
            plugin="mlserver_is_headrace",
            environ={"PYTHONPATH": f"{PLUGINS}{os.pathsep}{setting.folder / 'runtimes' / name}"},
            arguments=["--rootdir=.", "-o", "asyncio_mode=auto", "--timeout=120"],
        )
    for name in NOT_RUN:
        for file in sorted((setting.folder / "runtimes" / name).rglob("test_*.py")):
            yield Case(name, str(file.relative_to(setting.folder)), "failed", "not run")


SUITE = Suite(
    title="The tests of MLServer's runtimes",
    version="1.7.1",
    url="https://github.com/SeldonIO/MLServer",
    get=(
        "git clone --branch 1.7.1 https://github.com/SeldonIO/MLServer mlserver-1.7.1\n"
        "python3.11 -m venv mlserver-runtimes\n"
        "mlserver-runtimes/bin/pip install -e '.[sklearn,xgboost,lightgbm,catboost]' "
        "'numpy<2' 'pandas<3' 'scikit-learn==1.7.2' 'xgboost-cpu==3.2.0' 'pytest<8' "
        "'pytest-asyncio==0.21.1' 'pytest-cases<3.9' pytest-timeout pydantic-settings orjson "
        "filelock 'httpx<0.28'"
    ),
    arguments="--source mlserver-1.7.1 --python mlserver-runtimes/bin/python",
    run=run,
)
