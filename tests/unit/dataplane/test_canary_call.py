"""A call that is given to a canary is answered, whatever the canary does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.dataplane import Call, Calls, CanaryCall
from headrace.errors import InvalidInput, ModelFailed, Poisoned
from headrace.rollouts.traffic import Traffic
from headrace.serving.served_model import ServedModel
from headrace.settings import ModelSettings
from headrace.sources.follow import Followed
from support import virtual_time
from support.world import World, model, request

FOLLOW = {"canary": {"alias": "@c", "percent": 100}, "rollback": {"min_requests": 2}}


class Tried:
    """A stable version 1 and a canary 2 that gets everything, and what becomes of one call."""

    def __init__(self, world: World) -> None:
        followed = Followed(ModelSettings("m", "mlflow", uri="models:/m@champion", follow=FOLLOW))
        self.breaches: list[str] = []
        self.traffic = Traffic(followed, self.breaches.append)
        self.world = world

    async def start(self, stable: dict[str, Any], canary: dict[str, Any]) -> Tried:
        await self.world.repository.load_all([model("m", "1", **stable)])
        self.traffic.stable = self.world.repository.get("m", "1")
        added = await self.world.repository.add(model("m", "2", **canary))
        self.traffic.start_canary(added, 100, 0)
        return self

    def canary_call(self) -> tuple[Call, CanaryCall[Any]]:
        call = Call("p", "r", "1")
        call.traffic, call.for_canary = self.traffic, True
        call.model = call.given = self.traffic.canary
        return call, CanaryCall(Calls(), call, _prepare)


async def _prepare(model: ServedModel, waited: float) -> Any:
    if model.settings.extra.get("refuses"):
        raise InvalidInput("it cannot be decoded")
    return SimpleNamespace(model=model, timeout=None if not waited else 60 - waited)


async def _ask(prepared: Any) -> str:
    await prepared.model.submit(request(), prepared.timeout)
    return str(prepared.model.version)


async def _pieces(prepared: Any) -> AsyncGenerator[str, None]:
    async for _ in prepared.model.stream(request(), prepared.timeout):
        yield str(prepared.model.version)
        if prepared.model.settings.extra.get("breaks"):
            raise ModelFailed("in the middle")


async def streamed(canary_call: CanaryCall[Any]) -> list[str]:
    return [piece async for piece in canary_call.stream(_pieces)]


async def answered(canary_call: CanaryCall[Any]) -> list[str]:
    return [await canary_call.answer(_ask)]


HOW = pytest.mark.parametrize("how", [answered, streamed])
How = Callable[[CanaryCall[Any]], Coroutine[Any, Any, list[str]]]


def tried(
    how: How, stable: dict[str, Any] | None = None, canary: dict[str, Any] | None = None
) -> tuple[Tried, Call, list[str]]:
    """What became of one call."""

    async def main() -> tuple[Tried, Call, list[str]]:
        found = await Tried(World()).start(stable or {}, canary or {})
        call, canary_call = found.canary_call()
        return found, call, await how(canary_call)

    found: tuple[Tried, Call, list[str]] = virtual_time.run(main())
    return found


@HOW
def test_a_canary_that_answers_is_the_one_that_answers(how: How) -> None:
    found, call, answer = tried(how)

    assert answer == ["2"]
    assert call.model is call.given is found.traffic.canary
    assert not found.traffic.failures


@HOW
@pytest.mark.parametrize(
    ("canary", "kind"),
    [
        ({"fault": ModelFailed("no")}, "model_error"),
        ({"fault": Poisoned("no")}, "poisoned"),
        ({"fault": ZeroDivisionError()}, "internal"),
        ({"refuses": True}, "invalid_argument"),
        ({"hangs": True}, "deadline_exceeded"),
    ],
)
def test_the_stable_version_answers_for_a_canary_that_fails(
    how: How, canary: dict[str, Any], kind: str
) -> None:
    found, call, answer = tried(how, canary=canary)

    assert answer == ["1"]
    assert call.model is found.traffic.stable
    assert call.given is None
    assert found.traffic.failures == {("2", kind): 1}
    assert found.traffic.evidence.failures == {kind: 1}


@HOW
def test_a_request_that_both_fail_says_nothing_about_the_canary(how: How) -> None:
    stable, canary = {"fault": ModelFailed("stable")}, {"fault": ModelFailed("canary")}

    async def main() -> Tried:
        found = await Tried(World()).start(stable, canary)
        with pytest.raises(ModelFailed, match="stable"):
            await how(found.canary_call()[1])
        return found

    assert not virtual_time.run(main()).traffic.failures


def test_a_canary_that_hangs_costs_half_of_the_time() -> None:
    async def main() -> float:
        found = await Tried(World()).start({}, {"hangs": True})
        await found.canary_call()[1].answer(_ask)
        return asyncio.get_running_loop().time()

    assert virtual_time.run(main()) == pytest.approx(30, abs=0.1)


def test_a_slow_canary_that_answers_before_the_stable_version_counts() -> None:
    async def main() -> tuple[str, Call]:
        found = await Tried(World()).start({"hangs": True}, {})
        call, canary_call = found.canary_call()

        async def ask(prepared: Any) -> str:
            if prepared.model is found.traffic.canary:
                await asyncio.sleep(40)
            return await _ask(prepared)

        return await canary_call.answer(ask), call

    answer, call = virtual_time.run(main())
    assert (answer, call.model.version) == ("2", "2")


def test_a_stream_that_breaks_in_the_middle_counts_against_the_canary() -> None:
    async def main() -> Tried:
        found = await Tried(World()).start({}, {"breaks": True})
        with pytest.raises(ModelFailed, match="in the middle"):
            await streamed(found.canary_call()[1])
        return found

    assert virtual_time.run(main()).traffic.failures == {("2", "model_error"): 1}


def test_a_rule_ends_the_canary_at_once() -> None:
    async def main() -> Tried:
        found = await Tried(World()).start({}, {"fault": ModelFailed("no")})
        for _ in range(2):
            assert await found.canary_call()[1].answer(_ask) == "1"
        return found

    found = virtual_time.run(main())
    assert found.traffic.canary is None
    assert found.traffic.percent == 0
    assert len(found.breaches) == 1


def test_a_caller_who_leaves_withdraws_the_request_from_both() -> None:
    async def main() -> int:
        found = await Tried(World()).start({"hangs": True}, {"hangs": True})
        task = asyncio.create_task(found.canary_call()[1].answer(_ask))
        await asyncio.sleep(35)
        assert found.world.executor.withdrawn == 0
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(1)
        return found.world.executor.withdrawn

    assert virtual_time.run(main()) == 2
