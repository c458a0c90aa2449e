"""Models that a platform loads by name, against a fake executor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from headrace.dataplane.hosting import Hosting, find_hosted
from headrace.errors import Conflict, InvalidModel, MemoryShort, NotFound, ShuttingDown
from headrace.repository.loading import Loader
from headrace.repository.repository import ModelRepository
from headrace.settings import ServerSettings
from headrace.sources.hosted_source import HostedSource
from support.world import World, in_world


class Host:
    """A platform's hosting over the fake executor of a world; its folders hold real settings."""

    def __init__(self, world: World, room: int = 2**40, draining: bool = False) -> None:
        source = HostedSource({"MLSERVER_MODEL_NAME": "other"}, ("/",))
        self.repository = ModelRepository(
            Loader(ServerSettings(), world.placement), find_hosted(source, lambda name: [])
        )
        self.hosting = Hosting(
            self.repository, source, lambda: not draining, lambda size: size <= room
        )


@in_world
async def test_a_model_is_known_by_the_name_that_the_platform_gave_it(world: World) -> None:
    host = Host(world)
    with folder() as place:
        await host.hosting.load("a b+c=", place)

    assert host.hosting.places() == [("a b+c=", place)]
    assert [model.name for model in host.repository.models()] == ["a b+c="]


@in_world
async def test_a_model_that_is_loading_is_a_conflict_even_before_its_files_are_read(
    world: World,
) -> None:
    host = Host(world)
    world.placement.may_place.clear()
    with folder() as place:
        first = asyncio.create_task(host.hosting.load("m", place))
        await asyncio.sleep(0)
        with pytest.raises(Conflict):
            await host.hosting.load("m", "elsewhere")
        world.placement.may_place.set()
        await first

    assert host.hosting.place("m") == place


@in_world
async def test_files_that_exceed_free_memory_are_refused_before_they_are_loaded(
    world: World,
) -> None:
    host = Host(world, room=10)
    with folder() as place, pytest.raises(MemoryShort):
        await host.hosting.load("m", place)

    assert (host.hosting.places(), host.repository.models(), world.executor.tried) == ([], [], {})


@in_world
async def test_a_caller_who_leaves_does_not_end_the_load(world: World) -> None:
    host = Host(world)
    world.placement.may_place.clear()
    with folder() as place:
        load = asyncio.create_task(host.hosting.load("m", place))
        await asyncio.sleep(0)
        load.cancel()
        world.placement.may_place.set()
        while not host.hosting.places():
            await asyncio.sleep(0)

    await host.hosting.unload("m")
    assert (host.hosting.places(), host.repository.models()) == ([], [])


@in_world
async def test_a_folder_without_a_model_or_with_several_is_refused(world: World) -> None:
    host = Host(world)
    with folder("a", "b") as several, TemporaryDirectory() as empty:
        for place, words in [(several, "holds 2 models"), (empty, "holds no model")]:
            with pytest.raises(InvalidModel, match=words):
                await host.hosting.load("m", place)


@in_world
async def test_only_what_the_platform_loaded_can_be_unloaded(world: World) -> None:
    with pytest.raises(NotFound):
        await Host(world).hosting.unload("m")


@in_world
async def test_a_server_that_drains_loads_nothing(world: World) -> None:
    with pytest.raises(ShuttingDown):
        await Host(world, draining=True).hosting.load("m", "/")


@contextmanager
def folder(*names: str) -> Iterator[str]:
    """A folder with the models, or with one that is in the folder itself."""
    with TemporaryDirectory() as root:
        for name in names or ("",):
            (Path(root) / name).mkdir(exist_ok=True)
            settings = {"name": name or "m", "implementation": "sklearn"}
            (Path(root) / name / "model-settings.json").write_text(json.dumps(settings))
        yield root


@in_world
async def test_a_place_that_is_no_path_is_refused_as_no_folder(world: World) -> None:
    host = Host(world)

    for place in ("/" + "a" * 5000, "/tmp/\0"):
        with pytest.raises(InvalidModel, match="is not a folder"):
            await host.hosting.load("m", place)

    assert host.hosting.places() == []
