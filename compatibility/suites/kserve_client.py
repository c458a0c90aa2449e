"""KServe's client: its own tests against our server, and a list of calls of our own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from compatibility.foreign_pytest import run_pytest
from compatibility.own_calls import run_calls
from compatibility.suite import Case, Setting, Suite

MODELS = Path(__file__).parent.parent / "models" / "asked_by_clients.py"
TESTS = "test/test_inference_client.py"
# These ask a mock, or nobody.
WITHOUT_SERVER = "not graph and not path_based and not no_scheme"


def run(setting: Setting) -> Iterator[Case]:
    """Serve the two models that the tests know, one of them unloaded."""
    from support.asking import ask
    from support.serving import serving

    root = setting.folder / "models"
    for name in ("TestModel", "NotReadyModel"):
        folder = root / name
        folder.mkdir(parents=True)
        shutil.copy(MODELS, folder / "echoing.py")
        settings = {"name": name, "implementation": "echoing.Identity"}
        (folder / "model-settings.json").write_text(json.dumps(settings))
    with serving(root) as server:
        ask(server.http, "POST", "/v2/repository/models/NotReadyModel/unload", {})
        yield from run_calls(setting, "kserve_calls.py", server.http, server.announced["grpc"])
        yield from run_pytest(
            setting,
            [TESTS],
            area=lambda id: "its tests",
            plugin="kserve_server",
            environ={"ASKED_SERVER": server.http},
            arguments=["-k", WITHOUT_SERVER],
        )


SUITE = Suite(
    title="KServe's client",
    version="kserve 0.21.0, the tests of its repository at 0.20.0",
    url="https://github.com/kserve/kserve",
    get=(
        "git clone https://github.com/kserve/kserve\n"
        "python3.11 -m venv .venv-kserve\n"
        ".venv-kserve/bin/pip install kserve==0.21.0 pytest pytest-asyncio pytest-httpx"
    ),
    arguments="--source kserve/python/kserve --python .venv-kserve/bin/python",
    run=run,
)
