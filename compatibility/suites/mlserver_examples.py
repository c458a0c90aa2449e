"""The examples in MLServer's documentation, unedited, beside MLServer itself.

Each page is a notebook. Its cells train the model, write the settings and send the requests, once
to MLServer and once to Headrace, both in a copy of the example's folder. Each request is a case,
which passes if it is answered as MLServer answers it, or at all where MLServer does not start.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compatibility.answers import difference
from compatibility.downloads import offered
from compatibility.own_calls import CLIENTS
from compatibility.suite import Case, Setting, Suite, SuiteFailed

EXAMPLES = Path("docs/examples")
# What a page takes from the folder of another.
NEEDS = {"model-repository": "mms"}
# Examples that are not a notebook, or whose notebook cannot be run; the triage says why.
NOT_RUN = (
    "alibi-detect", "alibi-explain", "cassava", "conda", "huggingface", "mllib", "tempo",
)  # fmt: skip
# Of a data set whose address answers no more, or only where there is a network.
DATA = {"winequality-red.csv": "wine/wine-quality-red.csv"}
TIMEOUT = 900
# MLServer does not start without a broker, so that there is nothing to compare with.
ALONE = ("kafka",)
ANSWERED = ("200", "OK")


def run(setting: Setting) -> Iterator[Case]:
    """Run each page twice, and compare."""
    folder = setting.source / EXAMPLES
    if not folder.is_dir():
        raise SuiteFailed(f"{setting.source} does not contain MLServer's examples")
    if not setting.original:
        raise SuiteFailed("give the environment of MLServer with --original")
    chosen = setting.options or sorted(path.name for path in folder.iterdir() if path.is_dir())
    itself = [str(Path(setting.original).absolute().with_name("mlserver")), "start", "."]
    ours = [str(Path(setting.python).absolute()), "-m", "headrace", "serve", "."]
    for name in chosen:
        if name in NOT_RUN:
            yield Case(name, name, "failed", "not run")
            continue
        expected = _page(setting, name, "mlserver", itself)
        yield from _cases(name, _page(setting, name, "headrace", ours), expected)


def _page(setting: Setting, name: str, by: str, command: list[str]) -> list[dict[str, Any]]:
    """What the cells of a page sent to the server that `command` starts, and what came back."""
    folder = setting.folder / by / name
    for each in filter(None, (name, NEEDS.get(name))):
        shutil.copytree(
            setting.source / EXAMPLES / each, folder.with_name(each), dirs_exist_ok=True
        )
    report = setting.folder / f"{by}-{name}.json"
    script = [
        str(Path(setting.original).absolute()),
        str(CLIENTS / "mlserver_page.py"),
        str(report),
    ]
    with offered(_data()) as proxy, (folder / "page.log").open("wb") as log:
        home = {"HEADRACE_HOME": str(setting.folder / "home"), "IPYTHONDIR": str(setting.folder)}
        subprocess.run(
            [*script, *command],
            cwd=folder,
            env={**os.environ, **proxy, **home},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=TIMEOUT,
        )
    if not report.exists():
        raise SuiteFailed(f"{name} with {by}: {(folder / 'page.log').read_text()[-2000:]}")
    return list(json.loads(report.read_text()))


def _data() -> Mapping[str, bytes]:
    root = os.environ.get("HEADRACE_TEST_DATA")
    found = {name: Path(root, path) for name, path in DATA.items()} if root else {}
    # The data set is published with semicolons.
    return {name: path.read_bytes().replace(b",", b";") for name, path in found.items()}


def _cases(name: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> Iterator[Case]:
    for found, expected in zip(ours, theirs, strict=True):
        asked, answered = found["requests"], expected["requests"]
        for at in range(max(len(asked), len(answered), found["asks"])):
            id = f"{name}/cell {found['cell']}" + (f", request {at + 1}" if at else "")
            if at >= len(asked):
                reason = found["error"] or "sends nothing"
            elif at >= len(answered):
                alone = name in ALONE and asked[at]["status"] in ANSWERED
                reason = "" if alone else f"MLServer: {expected['error'] or 'sends nothing'}"
            else:
                reason = difference(asked[at], answered[at])
                # What the cell does with the answer.
                reason = reason or ("" if expected["error"] else found["error"])
            yield Case(name, id, "failed" if reason else "passed", reason.replace("\n", " ")[:300])


SUITE = Suite(
    title="MLServer's examples",
    version="1.7.1",
    url="https://github.com/SeldonIO/MLServer",
    get=(
        "git clone --branch 1.7.1 https://github.com/SeldonIO/MLServer mlserver-1.7.1\n"
        "python3.11 -m venv mlserver-itself\n"
        "mlserver-itself/bin/pip install 'mlserver==1.7.1' 'mlserver-sklearn==1.7.1' "
        "'mlserver-xgboost==1.7.1' 'mlserver-lightgbm==1.7.1' 'mlserver-catboost==1.7.1' "
        "'mlserver-mlflow==1.7.1' 'uvloop<0.22' 'setuptools<81' 'numpy<2' 'pandas<3' "
        "'mlflow==2.22.5' 'scikit-learn==1.7.2' 'xgboost==3.2.0' ipython 'httpx<1' httpx-sse "
        "numpyro pillow kafka-python\n"
        "python3.11 -m venv mlserver-examples\n"
        "mlserver-examples/bin/pip install -e '.[sklearn,xgboost,lightgbm,catboost,mlflow]' "
        "'numpy<2' 'pandas<3' 'scikit-learn==1.7.2' 'xgboost-cpu==3.2.0' numpyro pillow"
    ),
    arguments=(
        "--source mlserver-1.7.1 --python mlserver-examples/bin/python "
        "--original mlserver-itself/bin/python"
    ),
    run=run,
)
