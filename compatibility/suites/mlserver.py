"""MLServer's own tests, on what Headrace offers as `mlserver` and against Headrace as the server.

Its tests and test data are copied beside a conftest of ours, which makes their fixtures. Tests
of the parts that MLServer's server is made of are not run: each of their files is one case.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from compatibility.foreign_pytest import PLUGINS, run_pytest
from compatibility.suite import Case, Setting, Suite, SuiteFailed

CONFTEST = PLUGINS / "mlserver_conftest.py"
# Folders and files of the tests whose subject users see, by area.
RUN = {
    "codecs": ["tests/codecs", "tests/rest/test_codecs.py", "tests/grpc/test_codecs.py"],
    "types, settings and helpers": [
        "tests/test_types.py", "tests/test_settings.py", "tests/test_context.py",
        "tests/test_utils.py", "tests/test_raw.py", "tests/test_cloudevents.py",
        "tests/grpc/test_converters.py",
    ],
    "models and handlers": [
        "tests/test_model.py", "tests/handlers/test_custom.py", "tests/metrics/test_context.py",
        "tests/metrics/test_registry.py",
    ],
    "REST": ["tests/rest/test_endpoints.py", "tests/rest/test_custom.py"],
    "gRPC": ["tests/grpc/test_servicers.py"],
    "metrics": [
        "tests/metrics/test_rest.py", "tests/metrics/test_grpc.py", "tests/metrics/test_queue.py",
        "tests/metrics/test_endpoint.py",
    ],
}  # fmt: skip
AREAS = {file: area for area, files in RUN.items() for file in files}
INSIDE = "parts of MLServer's server"


def run(setting: Setting) -> Iterator[Case]:
    """Run the tests of a copy, and list the files that are left out."""
    if not (setting.source / "tests" / "fixtures.py").exists():
        raise SuiteFailed(f"{setting.source} does not contain MLServer's tests")
    copied = setting.folder / "mlserver"
    shutil.copytree(setting.source / "tests", copied / "tests")
    for conftest in copied.rglob("conftest.py"):
        conftest.unlink()
    shutil.copy(CONFTEST, copied / "tests" / "conftest.py")
    # One of their tests takes a fixture from a conftest that is left out.
    taken = "from ..conftest import model_infer_request  # noqa: F401\n"
    (copied / "tests" / "grpc" / "conftest.py").write_text(taken)
    yield from run_pytest(
        replace(setting, source=copied),
        list(AREAS),
        area=_area,
        environ={"MLSERVER_SOURCE": str(setting.source)},
        arguments=["-o", "asyncio_mode=auto", "--timeout=120"],
    )
    for file in sorted((setting.source / "tests").rglob("test_*.py")):
        path = str(file.relative_to(setting.source))
        if not _is_run(path):
            yield Case(INSIDE, path, "failed", "not run")


def _area(id: str) -> str:
    path = id.partition("::")[0]
    return AREAS.get(path) or AREAS[str(Path(path).parent)]


def _is_run(path: str) -> bool:
    return path in AREAS or str(Path(path).parent) in AREAS


SUITE = Suite(
    title="MLServer's tests",
    version="1.7.1",
    url="https://github.com/SeldonIO/MLServer",
    get=(
        "git clone --branch 1.7.1 https://github.com/SeldonIO/MLServer mlserver-1.7.1\n"
        "python3.11 -m venv mlserver-tests\n"
        "mlserver-tests/bin/pip install -e . 'pandas<3' 'numpy<2' 'pytest<8' "
        "'pytest-asyncio==0.21.1' pytest-cases pytest-timeout pydantic-settings fastapi "
        "aiohttp-retry aiofiles 'httpx<1' httpx-sse"
    ),
    arguments="--source mlserver-1.7.1 --python mlserver-tests/bin/python",
    run=run,
)
