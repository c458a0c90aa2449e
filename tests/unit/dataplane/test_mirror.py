"""Copies of requests on their way to a shadow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from headrace.batching.batcher import Batcher
from headrace.batching.limits import BatchLimits
from headrace.codecs.array import tensor_of
from headrace.dataplane import mirror as limits
from headrace.dataplane.mirror import Mirror
from headrace.errors import InvalidInput, ModelFailed
from headrace.executors.daemon_thread import DaemonThread
from headrace.observability.counters import ShadowCounts
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.model_call import ModelCall, to_request
from headrace.serving.served_model import ServedModel, State
from headrace.settings import ModelSettings
from support import virtual_time


def numbers(*values: float, name: str = "y") -> InferenceResponse:
    return InferenceResponse([tensor_of(name, np.array(values))])


def request(*values: float, **parameters: Any) -> InferenceRequest:
    return InferenceRequest([tensor_of("x", np.array(values))], parameters, id="id-1")


class Side:
    """A version of a model that holds its requests until the test answers them."""

    def __init__(self, version: str, slots: int = 1000) -> None:
        self.held: list[tuple[InferenceRequest, asyncio.Future[InferenceResponse]]] = []
        self.model = ServedModel(ModelSettings("m", "fake:Fake", version=version), key=version)
        self.model.batcher = Batcher(self._execute, BatchLimits(), slots)
        self.model.become(State.READY)

    async def _execute(self, request: InferenceRequest, deadline: float) -> InferenceResponse:
        future = asyncio.get_running_loop().create_future()
        self.held.append((request, future))
        found: InferenceResponse = await future
        return found

    async def answer(self, outcome: InferenceResponse | Exception) -> None:
        """Answer all requests that are held."""
        await turns()
        held, self.held = self.held, []
        for _, future in held:
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        await turns()


class Idleness:
    """Tells the mirror that the event loop is idle, if the test says that it is."""

    def __init__(self) -> None:
        self.is_idle = True

    def look(self, then: Callable[[bool], None]) -> None:
        asyncio.get_running_loop().call_soon(lambda: then(self.is_idle))


class World:
    """A model with a shadow."""

    def __init__(self, sample: float = 1.0, primary_slots: int = 1000) -> None:
        self.primary, self.shadow = Side("1", primary_slots), Side("2")
        self.lull = Idleness()
        self.judged: list[bool] = []
        self.thread: DaemonThread | None = None
        self.mirror = Mirror(
            *(self.primary.model, self.shadow.model, sample, 1e-3, self.judged.append),
            self.lull,  # type: ignore[arg-type]
            self._thread,
        )

    def _thread(self) -> DaemonThread:
        self.thread = self.thread or DaemonThread("comparing")
        return self.thread

    def ask(self, asked: InferenceRequest) -> asyncio.Future[InferenceResponse]:
        """Send a request to the primary, and offer it."""
        answer = self.primary.model.submit(asked, None)
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.mirror.offer(asked, answer)
        return answer

    async def exchange(
        self,
        primary: InferenceResponse | Exception,
        shadow: InferenceResponse | Exception | None = None,
        times: int = 1,
    ) -> None:
        """Let the primary answer, and the shadow too if there is an answer for it."""
        for _ in range(times):
            self.ask(request(1.0))
            await self.primary.answer(primary)
            if shadow is not None:
                await self.shadow.answer(shadow)

    @property
    def counts(self) -> ShadowCounts:
        found = self.shadow.model.metrics.shadow
        assert found is not None
        return found


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def in_world(test: Callable[..., Coroutine[Any, Any, None]], **options: Any) -> None:
    async def body() -> None:
        await test(World(**options))

    virtual_time.run(body())


def test_a_request_that_is_answered_is_sent_to_the_shadow_and_the_answers_are_compared() -> None:
    async def test(world: World) -> None:
        asked = request(1.0, 2.0, user="ann")
        world.ask(asked)
        await turns()
        assert world.shadow.held == []
        await world.primary.answer(numbers(3.0))
        ((copy, _),) = world.shadow.held
        await world.shadow.answer(numbers(3.0001))

        assert copy is not asked
        assert (copy.id, copy.parameters) == ("id-1", {"user": "ann"})
        assert bytes(copy.inputs[0].data) == bytes(asked.inputs[0].data)
        assert (world.counts.compared, world.counts.disagreed) == (1, 0)
        assert sum(world.counts.duration.counts) == 1
        assert world.judged == [True]

    in_world(test)


def test_what_becomes_of_a_request_later_does_not_change_its_copy() -> None:
    async def test(world: World) -> None:
        asked = request(1.0, user="ann")
        world.ask(asked)
        assert asked.parameters is not None
        asked.parameters["user"] = "bob"
        asked.inputs.clear()
        await world.primary.answer(numbers(3.0))

        ((copy, _),) = world.shadow.held
        assert copy.parameters == {"user": "ann"}
        assert [tensor.name for tensor in copy.inputs] == ["x"]

    in_world(test)


def test_an_answer_that_differs_is_counted_and_logged_without_values(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(world: World) -> None:
        await world.exchange(numbers(41.5), numbers(97.25), times=9)

        assert (world.counts.compared, world.counts.disagreed) == (9, 9)
        assert world.judged == [False] * 9

    in_world(test)
    lines = [record for record in caplog.records if record.name == "headrace.shadow"]
    # The first ones, and then no more than one a minute.
    assert len(lines) == limits.LOGGED
    assert lines[0].getMessage() == (
        "the shadow, version 2, answers otherwise than version 1: "
        "output 'y' differs in 1 of 1 elements"
    )
    known = {"model": "m", "version": "2", "role": "shadow", "request_id": "id-1"}
    assert known.items() <= vars(lines[0]).items()


def test_a_line_is_logged_again_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        await world.exchange(numbers(1.0), numbers(2.0), times=limits.LOGGED + 1)
        await asyncio.sleep(limits.LOG_INTERVAL)
        await world.exchange(numbers(1.0), numbers(2.0), times=2)

    in_world(test)
    lines = [record for record in caplog.records if record.name == "headrace.shadow"]
    assert len(lines) == limits.LOGGED + 1


@pytest.mark.parametrize("error", [InvalidInput("x is missing"), ModelFailed("it raised")])
def test_a_request_that_the_primary_does_not_answer_is_not_mirrored(error: Exception) -> None:
    async def test(world: World) -> None:
        await world.exchange(error)
        world.ask(request(1.0)).cancel()
        await turns()

        assert world.shadow.held == []
        assert world.counts.dropped == {}

    in_world(test)


def test_a_failure_of_the_shadow_is_counted_and_is_no_agreement() -> None:
    async def test(world: World) -> None:
        await world.exchange(numbers(1.0), ModelFailed("it raised"))

        assert world.counts.errors == {"model_error": 1}
        assert (world.counts.compared, world.judged) == (0, [False])

    in_world(test)


def test_a_shadow_that_keeps_failing_gets_a_copy_only_now_and_then() -> None:
    async def test(world: World) -> None:
        failed, loop = ModelFailed("it raised"), asyncio.get_running_loop()
        await world.exchange(numbers(1.0), failed, times=limits.FAILURES_IN_A_ROW)
        began = loop.time()
        sent: list[float] = []
        for _ in range(limits.MOST_WAITING + 5):
            await world.exchange(numbers(1.0))
        while len(sent) < 3:
            await asyncio.sleep(0.1)
            if world.shadow.held:
                sent.append(loop.time() - began)
                await world.shadow.answer(failed)

        assert [round(at) for at in sent] == [0, 1, 2]
        assert world.counts.dropped == {"failing": 4}

    in_world(test)


def test_no_copy_is_sent_while_a_request_of_the_primary_waits() -> None:
    async def test(world: World) -> None:
        await world.exchange(numbers(1.0), numbers(1.0))
        # One of them runs, and the others wait for the only slot.
        for _ in range(3):
            world.ask(request(1.0))
        await world.primary.answer(numbers(1.0))
        assert len(world.primary.held) == 1
        assert world.shadow.held == []

        await world.primary.answer(numbers(1.0))
        await world.primary.answer(numbers(1.0))
        await asyncio.sleep(2 * limits.PAUSE)
        await turns()
        assert len(world.shadow.held) == 3

    in_world(test, primary_slots=1)


def test_no_copy_is_sent_until_the_event_loop_is_idle() -> None:
    async def test(world: World) -> None:
        world.lull.is_idle = False
        await world.exchange(numbers(1.0))
        await asyncio.sleep(1)
        assert world.shadow.held == []

        world.lull.is_idle = True
        await asyncio.sleep(limits.PAUSE)
        await turns()
        assert len(world.shadow.held) == 1

    in_world(test)


def test_few_copies_are_on_their_way_at_once_and_further_ones_are_dropped() -> None:
    async def test(world: World) -> None:
        room = limits.MOST_AT_ONCE + limits.MOST_WAITING
        await world.exchange(numbers(1.0), times=room + 3)

        assert len(world.shadow.held) == limits.MOST_AT_ONCE
        assert world.counts.dropped == {"shadow_busy": 3}

        await world.shadow.answer(numbers(1.0))
        assert len(world.shadow.held) == limits.MOST_AT_ONCE

    in_world(test)


def test_what_is_dropped_is_counted_by_what_the_queue_waits_for() -> None:
    async def test(world: World) -> None:
        world.lull.is_idle = False
        await world.exchange(numbers(1.0), times=limits.MOST_WAITING + 2)
        assert world.counts.dropped == {"server_busy": 2}

        world.lull.is_idle = True
        world.ask(request(1.0))
        world.ask(request(1.0))
        await asyncio.sleep(2 * limits.PAUSE)
        world.ask(request(1.0))
        assert world.counts.dropped == {"server_busy": 4, "primary_busy": 1}

    in_world(test, primary_slots=1)


def test_the_queue_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    # The request and the answer have a number each, of eight bytes.
    monkeypatch.setattr(limits, "MOST_BYTES", 40)

    async def test(world: World) -> None:
        await world.exchange(numbers(1.0), times=3)
        assert len(world.shadow.held) == 2
        await world.exchange(numbers(*[1.0] * 9))
        assert world.counts.dropped == {"server_busy": 1, "too_large": 1}

        await world.shadow.answer(numbers(1.0))
        await world.exchange(numbers(1.0), numbers(1.0))
        assert world.counts.compared == 3

    in_world(test)


def test_the_sample_is_an_exact_share() -> None:
    async def test(world: World) -> None:
        await world.exchange(numbers(1.0), numbers(1.0), times=200)

        assert abs(world.counts.compared - 50) <= 1

    in_world(test, sample=0.25)


def test_a_shadow_that_is_not_loaded_gets_nothing() -> None:
    async def test(world: World) -> None:
        world.shadow.model.become(State.UNLOADING)
        await world.exchange(numbers(1.0))

        assert world.counts.dropped == {"not_ready": 1}

    in_world(test)


def test_a_call_of_a_route_of_the_model_is_not_repeated() -> None:
    async def test(world: World) -> None:
        route = ModelCall("send", "POST", "/send", "/send", "", [], {}, "http", None)
        world.ask(to_request(route, b"money"))
        await world.primary.answer(numbers(1.0))

        assert world.shadow.held == []

    in_world(test)


def test_the_end_of_a_mirror_withdraws_what_is_on_its_way_and_judges_no_more() -> None:
    async def test(world: World) -> None:
        await world.exchange(numbers(1.0), times=limits.MOST_AT_ONCE + 2)
        late = world.ask(request(1.0))
        world.mirror.end()
        await world.primary.answer(numbers(1.0))
        await world.shadow.answer(numbers(2.0))

        assert late.done()
        assert world.shadow.held == []
        assert world.counts.dropped == {"ended": 2}
        assert (world.counts.compared, world.judged) == (0, [])

    in_world(test)


def test_large_answers_are_compared_outside_of_the_event_loop() -> None:
    async def main() -> None:
        world, large = World(), numbers(*[1.0] * limits.SMALL)
        await world.exchange(large, large)
        assert world.thread is not None
        # What was submitted before has been compared when this has run.
        await asyncio.wrap_future(world.thread.submit(lambda: None))
        await turns()
        world.thread.end()

        assert (world.counts.compared, world.judged) == (1, [True])

    asyncio.run(main())
