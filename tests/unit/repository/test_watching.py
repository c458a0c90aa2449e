"""Watching models on disk, against a fake executor."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from headrace.executors import retry
from headrace.repository.watching import Watcher
from headrace.serving.served_model import State
from headrace.sources.folder_source import FolderSource
from support import virtual_time
from support.world import World, in_world


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.0)


class Disk:
    """A folder of models that a watcher looks at."""

    def __init__(self, world: World, folder: Path) -> None:
        self.folder = folder
        self._source = FolderSource(str(folder))
        self.watcher = Watcher(
            world.repository, lambda: [each.settings for each in self._source.each()], 15
        )
        self._world = world

    def write(self, folder: str, text: str = "", **settings: object) -> None:
        """A model, or another state of it."""
        place = self.folder / folder
        place.mkdir(exist_ok=True)
        (place / "weights").write_text(text)
        described = {"implementation": "sklearn", **settings}
        (place / "model-settings.json").write_text(json.dumps(described))

    async def begin(self) -> None:
        self.find()
        await self._world.repository.load_all(self._world.disk)
        self.watcher.begin()

    def find(self) -> None:
        """What the repository reads when it loads a model."""
        self._world.disk = [each.settings for each in self._source.each()]

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.find()
            await self.watcher.look()
            await self.watcher.settled()


def states(world: World) -> dict[str, State]:
    return {model.name: model.state for model in world.repository.models()}


@in_world
async def test_what_does_not_change_is_left_alone(world: World, tmp_path: Path) -> None:
    disk = Disk(world, tmp_path)
    disk.write("m")
    await disk.begin()
    await disk.look(5)

    assert world.executor.tried == {"m": 1}


@in_world
async def test_a_model_that_changes_is_loaded_once_it_stays_the_same(
    world: World, tmp_path: Path
) -> None:
    disk = Disk(world, tmp_path)
    disk.write("m")
    await disk.begin()
    for size in range(3):
        disk.write("m", "x" * (size + 1))
        await disk.look()
    assert world.executor.tried == {"m": 1}

    await disk.look(3)
    assert world.executor.tried == {"m": 2}
    assert await world.answer("m") == "m#2"


@in_world
async def test_a_new_model_is_loaded_and_one_that_is_gone_is_unloaded(
    world: World, tmp_path: Path
) -> None:
    disk = Disk(world, tmp_path)
    disk.write("a")
    await disk.begin()
    disk.write("b")
    await disk.look(2)
    assert states(world) == {"a": State.READY, "b": State.READY}

    for file in (tmp_path / "a").iterdir():
        file.unlink()
    await disk.look(2)
    assert states(world) == {"b": State.READY}


@in_world
async def test_a_folder_that_is_moved_to_another_name_is_not_missed(
    world: World, tmp_path: Path
) -> None:
    disk = Disk(world, tmp_path)
    disk.write("a", name="m")
    await disk.begin()
    (tmp_path / "a").rename(tmp_path / "b")
    await disk.look(2)

    assert await world.answer("m") == "m#2"


@in_world
async def test_a_version_that_does_not_load_is_tried_once_and_harms_nobody(
    world: World, tmp_path: Path
) -> None:
    disk = Disk(world, tmp_path)
    disk.write("m")
    await disk.begin()
    disk.write("m", parameters={"extra": {"invalid": True}})
    await disk.look(5)

    assert world.executor.tried == {"m": 2}
    assert await world.answer("m") == "m#1"


@in_world
async def test_a_description_that_is_half_written_harms_nobody(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(world, tmp_path)
    for name in ("a", "b"):
        disk.write(name, name=f"model-{name}")
    await disk.begin()
    (tmp_path / "a" / "model-settings.json").write_text('{"implementation": "skl')
    await disk.look(4)

    assert states(world) == {"model-a": State.READY, "model-b": State.READY}
    assert world.executor.tried == {"model-a": 1, "model-b": 1}
    assert caplog.text.count("not loaded again") == 1


@in_world
async def test_a_description_that_was_wrong_from_the_start_is_replaced_once_it_is_right(
    world: World, tmp_path: Path
) -> None:
    disk = Disk(world, tmp_path)
    disk.write("a")
    disk.write("b")
    (tmp_path / "b" / "model-settings.json").write_text("{")
    await disk.begin()
    disk.write("b", name="model-b")
    await disk.look(3)

    assert states(world) == {"a": State.READY, "model-b": State.READY}


@in_world
async def test_a_folder_that_is_empty_all_at_once_changes_nothing(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(world, tmp_path / "models")
    disk.folder.mkdir()
    disk.write("m")
    await disk.begin()
    disk.folder.rename(tmp_path / "unmounted")
    disk.folder.mkdir()
    await disk.look(3)
    disk.folder.rmdir()
    await disk.watcher.look()

    assert states(world) == {"m": State.READY}
    assert caplog.text.count("the models stay as they are") == 2


@in_world
async def test_a_model_whose_pool_is_generated_does_not_seem_to_change(
    world: World, tmp_path: Path
) -> None:
    disk = Disk(world, tmp_path)
    disk.write("m", parameters={"autogenerate_inference_pool_gid": True})
    await disk.begin()
    await disk.look(3)

    assert world.executor.tried == {"m": 1}


def test_a_look_that_fails_does_not_end_the_watching(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        watcher = Watcher(World().repository, list, 15)
        looks: list[None] = []

        async def look() -> None:
            looks.append(None)
            raise RuntimeError("a bug")

        monkeypatch.setattr(watcher, "look", look)
        watching = asyncio.create_task(watcher.run())
        await asyncio.sleep(50)
        watching.cancel()
        assert len(looks) == 3

    virtual_time.run(main())
    assert "watching failed; this is a bug" in caplog.text
