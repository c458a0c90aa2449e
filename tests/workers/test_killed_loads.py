"""Workers and builds that something outside ends while a model loads: it is not the model's fault.

Every process here is real. What kills it may be the model itself: nobody can tell.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.environments import build
from headrace.environments.environments import Environments
from headrace.errors import LoadKilled
from headrace.executors import retry
from headrace.executors.early_worker import EarlyWorker
from headrace.executors.placement import Placement
from headrace.executors.worker_program import WorkerProgram
from headrace.repository.loading import Loader, may_pass
from headrace.repository.repository import ModelRepository
from headrace.serving.served_model import State
from headrace.settings import ModelSettings, ServerSettings
from support.pool import write_model
from support.wheels import FAKE_NUMPY, make_wheel, offline


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries that are short and do not grow."""
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.02)


KILLS = 4


class World:
    """A repository whose models run on this interpreter unless they ask for another one."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = ServerSettings(environments_dir=str(folder / "environments"), **settings)
        self.environments = Environments(self.settings)
        first = EarlyWorker(WorkerProgram(sys.executable))
        self.placement = Placement(self.settings, self.environments, first)
        self.found: list[ModelSettings] = []
        self.repository = ModelRepository(
            Loader(self.settings, self.placement), lambda name: self.found
        )


def run(world: World, test: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        try:
            await asyncio.wait_for(test(world), 100)
        finally:
            await world.repository.close()

    asyncio.run(main())


def killed(folder: Path, times: int = KILLS, number: int = signal.SIGKILL) -> ModelSettings:
    """A model whose first loads are killed."""
    folder.mkdir()
    load = f"""
        with open({str(folder / "loads")!r}, "a") as file:
            file.write(".")
            file.flush()
            if file.tell() <= {times}:
                os.kill(os.getpid(), {number})
                time.sleep(600)
    """
    return write_model(folder, "return x", load)


def innocent(folder: Path) -> ModelSettings:
    folder.mkdir()
    return replace(write_model(folder, "return x"), name=folder.name)


async def at_start(world: World, settings: ModelSettings) -> None:
    await world.repository.load_all([settings])


async def beside_a_neighbour(world: World, settings: ModelSettings) -> None:
    neighbour = innocent(Path(settings.folder).with_name("neighbour"))
    await world.repository.load_all([neighbour, settings])


async def by_request(world: World, settings: ModelSettings) -> None:
    world.repository.add_unloaded([settings])
    world.found = [settings]
    await world.repository.load(settings.name)


async def over_another(world: World, settings: ModelSettings) -> None:
    old = replace(innocent(Path(settings.folder).with_name("old")), name=settings.name)
    await world.repository.load_all([old])
    world.found = [settings]
    await world.repository.load(settings.name)


async def as_a_further_version(world: World, settings: ModelSettings) -> None:
    await world.repository.add(settings)


async def alone(world: World, settings: ModelSettings) -> None:
    await world.repository.load_all([innocent(Path(settings.folder).with_name("neighbour"))])
    await world.repository.add(settings, alone=True)


async def on_two_workers(world: World, settings: ModelSettings) -> None:
    await world.repository.load_all([replace(settings, instances=2)])


PATHS = [at_start, beside_a_neighbour, by_request, over_another, as_a_further_version, alone]


@pytest.mark.parametrize("path", [*PATHS, on_two_workers], ids=lambda path: path.__name__)
def test_a_model_whose_worker_is_killed_while_it_loads_never_fails(
    tmp_path: Path, path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World) -> None:
        await path(world, killed(tmp_path / "m"))

        assert {model.state for model in world.repository.models()} == {State.READY}
        assert {model.reason for model in world.repository.models()} == {""}
        assert "did not load" not in caplog.text

    run(World(tmp_path, parallel_workers=2), test)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_other_signals_from_outside_are_not_its_fault_either(
    tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World) -> None:
        await world.repository.load_all([killed(tmp_path / "m", 3, number)])

        assert [model.state for model in world.repository.models()] == [State.READY]
        assert "did not load" not in caplog.text

    run(World(tmp_path), test)


def test_a_load_that_is_always_killed_ends_with_its_time_and_may_be_tried_later(
    tmp_path: Path,
) -> None:
    async def test(world: World) -> None:
        with pytest.raises(LoadKilled, match="was killed by SIGKILL") as caught:
            await world.repository.add(killed(tmp_path / "m", 1_000_000))

        assert may_pass(caught.value)

    run(World(tmp_path, load_timeout=3.0), test)


def test_a_build_that_is_killed_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, "numpy", "9.9", FAKE_NUMPY)
    for name, value in offline(wheels).items():
        monkeypatch.setenv(name, value)
    script = tmp_path / "uv"
    script.write_text(
        f"#!/bin/sh\necho >> {tmp_path}/runs\n"
        f"[ $(wc -l < {tmp_path}/runs) -gt {KILLS} ] || kill -9 $$\n"
        f'exec {build.uv.find_uv_bin()} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(build.uv, "find_uv_bin", lambda: str(script))
    folder = tmp_path / "m"
    folder.mkdir()
    settings = replace(write_model(folder, "return x"), environment={"packages": ["numpy==9.9"]})

    async def test(world: World) -> None:
        # NumPy is a fake, so that the load itself fails; but not the build.
        await world.repository.load_all([settings])

        assert len((tmp_path / "runs").read_text()) > KILLS
        assert "uv was ended" not in caplog.text
        assert list(tmp_path.glob("environments/*/pyvenv.cfg"))

    run(World(tmp_path, env_manager="uv", load_timeout=20.0), test)
