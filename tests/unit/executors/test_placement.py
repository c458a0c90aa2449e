"""Which models share a pool; no worker is ever started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from headrace.errors import InvalidModel, LoadFailed
from headrace.executors import placement
from headrace.executors.early_worker import EarlyWorker
from headrace.executors.inline import InlineExecutor
from headrace.executors.placement import Placement
from headrace.executors.worker_program import WorkerProgram
from headrace.settings import ModelSettings, ServerSettings


class FakePool:
    """A pool that holds nothing, and whose end takes as long as the test wants."""

    def __init__(self, environment: Any, size: int, load_timeout: float) -> None:
        self.environment, self.size, self.load_timeout = environment, size, load_timeout
        self.restarts = 0
        self.is_stopped = False
        self.may_stop = asyncio.Event()
        self.may_stop.set()

    async def measured(self, timeout: float) -> list[list[Any]]:
        return [[f"of {self.environment.python}"]]

    async def stop(self) -> None:
        await self.may_stop.wait()
        self.is_stopped = True


class Interpreters:
    """Gives each model the interpreter that its settings name."""

    def __init__(self) -> None:
        self.is_closed = False

    async def python_for(self, settings: ModelSettings, note: Any) -> str:
        note("building it")
        python = settings.extra.get("python", "python")
        if python == "broken":
            raise LoadFailed("it cannot be built")
        return str(python)

    async def close(self) -> None:
        self.is_closed = True


class World:
    """A placement, and who it put where."""

    def __init__(self, **settings: Any) -> None:
        self.interpreters = Interpreters()
        server = ServerSettings(**settings)
        first = EarlyWorker(WorkerProgram("python", server.log_level, "json"))
        self.placement = Placement(server, self.interpreters, first)
        self.notes: list[str] = []

    async def place(
        self, key: str, gid: str | None = None, background: bool = False, **extra: Any
    ) -> Any:
        settings = ModelSettings(
            key, "fake:Fake", extra=extra, inference_pool_gid=gid, in_background=background
        )
        return await self.placement.place(key, settings, self.notes.append)


@pytest.fixture
def world_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(placement, "WorkerPool", FakePool)
    monkeypatch.setattr(placement, "own_modules", lambda model: model.extra.get("modules", {}))

    def run(test: Callable[[World], Coroutine[Any, Any, None]], **settings: Any) -> None:
        async def body() -> None:
            await test(World(**settings))

        asyncio.run(body())

    return run


def test_models_of_one_interpreter_share_a_pool(world_of: Any) -> None:
    async def test(world: World) -> None:
        pools = [await world.place(key) for key in "abc"]

        assert pools == [pools[0]] * 3
        assert world.placement.pools == [pools[0]]
        assert world.notes == ["building it"] * 3

    world_of(test)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"python": "one"}, {"python": "two"}),
        ({"gid": "1"}, {"gid": "2"}),
        ({"gid": "1"}, {}),
        ({"modules": {"late": "/a/late.py"}}, {"modules": {"late": "/b/late.py"}}),
        ({}, {"background": True}),
        ({"gid": "1"}, {"gid": "1", "background": True}),
    ],
    ids=[
        *("interpreters", "groups", "one in a group", "modules of a name"),
        *("one in the background", "one of a group in the background"),
    ],
)
def test_models_that_differ_share_none(first: Any, second: Any, world_of: Any) -> None:
    async def test(world: World) -> None:
        assert await world.place("a", **first) is not await world.place("b", **second)
        # Who comes later finds the one it belongs to.
        assert await world.place("c", **first) is world.placement.pools[0]
        assert await world.place("d", **second) is world.placement.pools[1]

    world_of(test)


def test_models_that_bring_one_module_from_one_place_share_a_pool(world_of: Any) -> None:
    async def test(world: World) -> None:
        mine = {"late": "/a/late.py"}
        first = await world.place("a", modules=mine)

        assert await world.place("b", modules={**mine, "other": "/b/other.py"}) is first
        assert await world.place("c", modules={}) is first

    world_of(test)


def test_a_model_joins_the_first_part_where_its_modules_clash_with_none(world_of: Any) -> None:
    async def test(world: World) -> None:
        parts = [await world.place(key, modules={"m": key}) for key in "abc"]
        await world.placement.leave("b")

        assert len(set(map(id, parts))) == 3
        # What was the second part ended with its only model.
        assert await world.place("d", modules={"m": "d"}) not in parts
        assert (await world.place("e", modules={"m": "c"})) is parts[2]

    world_of(test)


def test_models_that_name_a_group_share_it_whatever_modules_they_bring(world_of: Any) -> None:
    async def test(world: World) -> None:
        first = await world.place("a", gid="1", modules={"m": "a"})
        await world.place("b", modules={"m": "b"})

        assert await world.place("c", gid="1", modules={"m": "c"}) is first

    world_of(test)


def test_a_pool_is_made_as_the_server_is_set(world_of: Any) -> None:
    async def test(world: World) -> None:
        pool = await world.place("m", python="/opt/python")

        assert (pool.size, pool.load_timeout) == (3, 7.0)
        assert (pool.environment.python, pool.environment.log_level) == ("/opt/python", "debug")
        assert pool.environment.log_format == "json"

    world_of(test, parallel_workers=3, load_timeout=7.0, log_level="debug")


def test_models_in_the_background_share_one_worker_even_if_the_others_run_inside(
    world_of: Any,
) -> None:
    async def test(world: World) -> None:
        front = await world.place("a")
        pool = await world.place("b", background=True)

        assert isinstance(front, InlineExecutor)
        assert (pool.size, pool.environment.in_background) == (1, True)
        assert pool.load_timeout == 70.0
        assert await world.place("c", background=True) is pool

    world_of(test, parallel_workers=0, load_timeout=7.0)


def test_a_pool_ends_with_its_last_model(world_of: Any) -> None:
    async def test(world: World) -> None:
        pool = await world.place("a")
        await world.place("b")
        await world.placement.leave("a")
        assert not pool.is_stopped
        await world.placement.leave("b")
        await world.placement.leave("b")

        assert pool.is_stopped
        assert world.placement.pools == []
        assert await world.place("c") is not pool

    world_of(test)


def test_restarts_are_counted_on_while_a_pool_ends_and_after(world_of: Any) -> None:
    async def test(world: World) -> None:
        pool = await world.place("a")
        (await world.place("b", gid="1")).restarts = 2
        pool.restarts = 3
        pool.may_stop.clear()
        leaving = asyncio.create_task(world.placement.leave("a"))
        await asyncio.sleep(0)
        seen = [world.placement.restarts]
        pool.may_stop.set()
        await leaving

        assert [*seen, world.placement.restarts] == [5, 5]

    world_of(test)


def test_a_model_that_comes_while_its_pool_ends_gets_a_new_one(world_of: Any) -> None:
    async def test(world: World) -> None:
        old = await world.place("a")
        old.may_stop.clear()
        leaving = asyncio.create_task(world.placement.leave("a"))
        await asyncio.sleep(0)
        new = await world.place("b")
        old.may_stop.set()
        await leaving

        assert new is not old
        assert not new.is_stopped

    world_of(test)


def test_a_model_that_shares_a_pool_can_have_one_alone(world_of: Any) -> None:
    async def test(world: World) -> None:
        shared = await world.place("a")
        await world.place("b")
        alone = world.placement.place_alone("a")

        assert alone not in (None, shared)
        assert await world.place("c") is shared
        await world.placement.leave("a")
        assert (alone.is_stopped, shared.is_stopped) == (True, False)

    world_of(test)


def test_a_model_that_is_alone_already_gets_no_other_pool(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.place("a")
        await world.place("b", gid="1")

        assert world.placement.place_alone("a") is None
        assert world.placement.place_alone("never placed") is None

    world_of(test)


@pytest.mark.parametrize(
    ("server", "model"), [({"parallel_workers": 0}, {}), ({}, {"inline": True})]
)
def test_without_workers_models_run_in_this_process(server: Any, model: Any, world_of: Any) -> None:
    async def test(world: World) -> None:
        settings = ModelSettings("m", "fake:Fake", **model)
        executor = await world.placement.place("m", settings, print)

        assert isinstance(executor, InlineExecutor)
        assert world.placement.pools == []

    world_of(test, **server)


@pytest.mark.parametrize(
    "wish",
    [
        {"environment": {"packages": ["x"]}},
        {"environment_path": "/opt"},
        {"environment_tarball": "environment.tar.gz"},
    ],
)
def test_a_model_in_this_process_cannot_have_an_environment(wish: Any, world_of: Any) -> None:
    async def test(world: World) -> None:
        settings = ModelSettings("m", "fake:Fake", inline=True, **wish)
        with pytest.raises(InvalidModel, match="'m' asks for an environment"):
            await world.placement.place("m", settings, print)

    world_of(test)


def test_a_model_whose_interpreter_cannot_be_had_is_placed_nowhere(world_of: Any) -> None:
    async def test(world: World) -> None:
        with pytest.raises(LoadFailed, match="it cannot be built"):
            await world.place("m", python="broken")

        assert world.placement.pools == []
        await world.placement.leave("m")

    world_of(test)


def test_what_is_measured_comes_from_every_pool(world_of: Any) -> None:
    async def test(world: World) -> None:
        await world.place("a", python="one")
        await world.place("b", python="two")

        assert await world.placement.measured(1) == [["of one"], ["of two"]]

    world_of(test)


def test_a_stopped_placement_has_ended_its_pools_and_let_go_of_the_environments(
    world_of: Any,
) -> None:
    async def test(world: World) -> None:
        pools = [await world.place("a"), await world.place("b", gid="1")]
        await world.placement.stop()

        assert all(pool.is_stopped for pool in pools)
        assert world.interpreters.is_closed

    world_of(test)
