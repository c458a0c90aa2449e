"""Environments that cannot be provided, for reasons other than what the model asks for."""

from __future__ import annotations

import asyncio
import pwd
from pathlib import Path
from typing import Any

import pytest
import uvloop

from headrace.environments import build, shelf
from headrace.environments.environments import Environments
from headrace.errors import LoadFailed
from headrace.settings import ModelSettings, ServerSettings
from support.wheels import FAKE_NUMPY, make_wheel, offline


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "numpy", "9.9", FAKE_NUMPY)
    make_wheel(folder, "small", "1.0")
    for name, value in offline(folder).items():
        monkeypatch.setenv(name, value)


def refusal(tmp_path: Path, **wanted: Any) -> str:
    """Why a model does not get its environment, on the event loop that servers use."""

    async def main() -> None:
        environments = Environments(ServerSettings(environments_dir=str(tmp_path / "e")))
        try:
            settings = ModelSettings("m", "x:Y", **wanted)
            await asyncio.wait_for(environments.python_for(settings, lambda _: None), 60)
        finally:
            await environments.close()

    with (
        pytest.raises(LoadFailed) as failure,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(main())
    return failure.value.message


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("script", ["exit 0", "echo '[1]'", "echo '{}'; exit 1", "kill -SEGV $$"])
def test_a_python_that_ends_at_once_does_not_run(tmp_path: Path, script: str) -> None:
    program(tmp_path / "odd/bin/python", script)

    for _ in range(5):
        message = refusal(tmp_path, environment_path=str(tmp_path / "odd"))
        assert message == "model 'm': environment_path 'odd': its Python does not run"


def test_a_uv_that_is_killed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = program(tmp_path / "uv", "kill -9 $$")
    monkeypatch.setattr(build.uv, "find_uv_bin", lambda: str(killed))

    assert "uv was ended by SIGKILL; " in refusal(tmp_path, environment={"packages": ["small"]})


def test_an_environment_that_may_not_be_run_is_built_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf.os, "access", lambda *_: False)

    message = refusal(tmp_path, environment={"packages": ["small"]})

    assert message == "model 'm': its environment was made, but its Python may not be run"
    assert list((tmp_path / "e").glob("*/pyvenv.cfg")) == []


def test_a_user_without_a_home_gets_another_python_or_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)

    assert "no environment of Python 3.99 could be made" in refusal(
        tmp_path, environment={"python": "3.99"}
    )
