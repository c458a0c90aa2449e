"""Models in environments of their own, as a user sees them. Packages come from wheels made here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support.asking import ask
from support.custom import write_model
from support.serving import COMMAND, Server, serving, starting, until
from support.wheels import make_wheel, offline, repack

pytestmark = pytest.mark.e2e

VALUE = "return x * __import__('small').value"


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where uv finds numpy and two versions of `small`."""
    wheels = tmp_path_factory.mktemp("wheels")
    repack(wheels, "numpy")
    make_wheel(wheels, "small", "1.0", "value = 1")
    make_wheel(wheels, "small", "2.0", "value = 2")
    return offline(wheels)


@pytest.fixture
def env(variables: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return {**variables, "HEADRACE_HOME": str(tmp_path / "home")}


def answer(server: Server, name: str) -> Any:
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [10]}]}
    return ask(server.http, "POST", f"/v2/models/{name}/infer", body).json["outputs"][0]["data"]


def reasons(server: Server) -> dict[str, str]:
    index = ask(server.http, "POST", "/v2/repository/index").json
    return {model["name"]: model["reason"] for model in index}


def headrace(env: dict[str, str], *arguments: str) -> str:
    found = subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_models_with_conflicting_requirements_are_served_side_by_side(
    tmp_path: Path, env: dict[str, str]
) -> None:
    root = tmp_path / "models"
    write_model(root, "return x * 7", name="plain")
    for version in (1, 2):
        packages = {"packages": [f"small=={version}.0"]}
        write_model(root, VALUE, name=f"m{version}", environment=packages)

    with serving(root, env=env) as server:
        assert [answer(server, name) for name in ("m1", "m2", "plain")] == [[10], [20], [70]]
        assert "Installed" in server.log()


def test_a_model_whose_environment_cannot_be_built_does_not_hold_up_the_others(
    tmp_path: Path, env: dict[str, str]
) -> None:
    root = tmp_path / "models"
    write_model(root, VALUE, name="good", environment={"packages": ["small"]})
    write_model(root, VALUE, name="bad", environment={"packages": ["nosuch==3"]})

    with serving(root, env=env) as server:
        assert answer(server, "good") == [20]
        # While it is retried, the reason is the step in progress.
        until(lambda: "nosuch" in reasons(server)["bad"], 60, "the failure is the reason")
        assert str(tmp_path) not in reasons(server)["bad"]


def test_an_environment_is_pruned_when_its_server_is_gone(
    tmp_path: Path, env: dict[str, str]
) -> None:
    root = tmp_path / "models"
    write_model(root, VALUE, environment={"packages": ["small==1.0"]})

    with serving(root, env=env):
        (used,) = json.loads(headrace(env, "env", "list", "--json"))
        assert (used["in_use"], used["requirements"]) == (True, ["small==1.0"])
        assert "0 environments removed" in headrace(env, "env", "prune", "--older-than", "0")

    table = headrace(env, "env", "list").splitlines()
    assert [line.split()[0] for line in table] == ["KEY", used["key"]]
    assert "0 environments removed" in headrace(env, "env", "prune")
    assert "1 environment removed" in headrace(env, "env", "prune", "--all")
    assert headrace(env, "env", "list") == "no environments\n"
    assert list((tmp_path / "home/environments/cache").glob("archive-*")) == []


def test_the_second_start_builds_nothing(tmp_path: Path, env: dict[str, str]) -> None:
    root = tmp_path / "models"
    write_model(root, VALUE, environment={"packages": ["small==1.0"]})
    with serving(root, env=env):
        pass

    with serving(root, env=env) as server:
        assert "being made" not in server.log()
        assert answer(server, "m") == [10]


def write_endless_build(tmp_path: Path) -> Path:
    """A folder of a model whose environment takes forever: uv runs `slow.py` to build a package."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        "[build-system]\nrequires=[]\nbuild-backend='slow'\nbackend-path=['.']\n"
    )
    (project / "slow.py").write_text("import time\nwhile True: time.sleep(1)\n")
    write_model(tmp_path / "models", environment={"packages": [str(project)]})
    return tmp_path / "models"


def test_a_server_that_is_stopped_while_it_builds_leaves_nothing(
    tmp_path: Path, env: dict[str, str]
) -> None:
    with starting(write_endless_build(tmp_path), env=env) as server:
        server.wait_listening()
        until(lambda: "slow" in commands(server), 30, "uv builds the package")
        server.signal()

        assert server.wait(30) == 0, server.log()
        until(lambda: not server.workers(), 20, "no process is left")
    assert list((tmp_path / "home/environments").glob("*/pyvenv.cfg")) == []


def test_a_build_ends_with_a_server_that_is_killed(tmp_path: Path, env: dict[str, str]) -> None:
    with starting(write_endless_build(tmp_path), env=env) as server:
        server.wait_listening()
        until(lambda: "slow" in commands(server), 30, "uv builds the package")
        server.signal(signal.SIGKILL)

        server.wait(30)
        until(lambda: not server.workers(), 20, "no process is left")


def commands(server: Server) -> str:
    found = []
    for pid in server.workers():
        # The process may end in the meantime.
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_text(errors="replace"))
    return " ".join(found)
