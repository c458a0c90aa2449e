"""Which calls are mirrored to a shadow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.dataplane import Call, Calls
from headrace.dataplane.observers.observer import Observer
from headrace.dataplane.observers.shadow import Shadows
from headrace.serving.served_model import ServedModel
from support.world import World, in_world, model, request


class Versions:
    """A model of three versions, of which the first has the second as its shadow."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls = Calls()
        self.shadows = Shadows(self.calls.observe)
        self.judged: asyncio.Queue[bool] = asyncio.Queue()

    def version(self, number: str) -> ServedModel:
        return self.world.repository.get("m", number)

    def begin(self) -> None:
        self.shadows.begin(self.version("1"), self.version("2"), 1.0, 0.0, self.judged.put_nowait)

    async def ask(self, number: str, names_version: bool = False) -> None:
        call = Call("open_inference", "/v2/models/{name}/infer", "id-1")
        call.given = None if names_version else self.version(number)
        await self.calls.submit(call, self.version(number), request(), None)
        self.calls.answered(call, 200, 1)

    async def judgement(self) -> bool:
        return await asyncio.wait_for(self.judged.get(), 60)


@asynccontextmanager
async def versions(world: World) -> AsyncIterator[Versions]:
    world.disk = [model(version=number) for number in "123"]
    await world.repository.load_all(world.disk)
    found = Versions(world)
    try:
        yield found
    finally:
        found.shadows.close()


@in_world
async def test_calls_that_name_no_version_are_mirrored(world: World) -> None:
    async with versions(world) as found:
        found.begin()
        await found.ask("1", names_version=True)
        # Such as a canary.
        await found.ask("3")
        await found.ask("1")
        await found.judgement()

        counts = found.version("2").metrics.shadow
        assert counts is not None
        assert (counts.compared, counts.dropped) == (1, {})


@in_world
async def test_a_shadow_that_has_ended_gets_nothing(world: World) -> None:
    async with versions(world) as found:
        found.begin()
        found.shadows.end("m")
        found.shadows.end("unknown")
        await found.ask("1")
        # The next one does.
        found.begin()
        await found.ask("1")
        await found.judgement()

        assert found.version("2").metrics.batching.batches == 1


@in_world
async def test_only_a_server_with_a_shadow_has_the_observer(world: World) -> None:
    seen: list[Observer] = []
    async with versions(world) as found:
        found.shadows = Shadows(seen.append)
        assert seen == []
        found.begin()
        found.begin()
        assert seen == [found.shadows]


@in_world
async def test_copies_are_not_counted_as_requests_of_callers(world: World) -> None:
    async with versions(world) as found:
        found.begin()
        await found.ask("1")
        await found.judgement()

        shadow = found.version("2").metrics
        assert (shadow.successes, shadow.failures) == (0, {})
        assert shadow.batching.batches == 1
