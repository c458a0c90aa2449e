"""A served model by itself: its states, its successor, its streams and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest

from headrace.batching.batcher import Batcher
from headrace.batching.limits import BatchLimits
from headrace.dataplane.statistics import model_statistics
from headrace.errors import (
    InvalidInput,
    ModelNotReady,
    Overloaded,
    ShuttingDown,
    Unimplemented,
)
from headrace.executors.retry import Retry
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.protocol.mlflow.signature import SCORING
from headrace.serving.served_model import ServedModel, State
from headrace.settings import ModelSettings
from support import virtual_time


class Answers:
    """What stands behind a served model: answers with its name, once it may."""

    def __init__(self, name: str, **more: Any) -> None:
        self.name = name
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.deadlines: list[float] = []
        self.closed = 0
        self.model = ServedModel(
            ModelSettings(name, "fake:Fake"),
            key=name,
            state=State.READY,
            model_metadata=ModelMetadata(streams=True),
            batcher=Batcher(self._infer, BatchLimits()),
            streamer=self._stream,
            **more,
        )

    async def _infer(self, request: InferenceRequest, deadline: float) -> InferenceResponse:
        self.deadlines.append(deadline)
        await self.may_answer.wait()
        return InferenceResponse([], {"from": self.name})

    async def _stream(
        self, request: InferenceRequest, deadline: float
    ) -> AsyncGenerator[InferenceResponse, None]:
        self.deadlines.append(deadline)
        try:
            for number in range(2):
                yield InferenceResponse([], {"from": self.name, "number": number})
        finally:
            self.closed += 1


class NeverFits:
    """A signature that no request fits."""

    def conform(self, request: InferenceRequest) -> InferenceRequest:
        raise InvalidInput("column 'a': expected double")

    conform_joined = conform


def unloaded(**more: Any) -> ServedModel:
    return ServedModel(ModelSettings("m", "fake:Fake"), key="m", **more)


def request(**parameters: Any) -> InferenceRequest:
    return InferenceRequest([], parameters)


def now() -> float:
    return asyncio.get_running_loop().time()


async def answer(model: ServedModel, timeout: float | None = None) -> Any:
    return ((await model.submit(request(), timeout)).parameters or {})["from"]


async def pieces(model: ServedModel, timeout: float | None = None) -> list[Any]:
    return [piece.parameters async for piece in model.stream(request(), timeout)]


def timed(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        virtual_time.run(test())

    run.__name__ = test.__name__
    return run


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_a_state_is_followed_by_those_of_the_table_only(before: State, after: State) -> None:
    allowed = {
        ("LOADING", "READY"),
        ("LOADING", "UNAVAILABLE"),
        ("READY", "UNLOADING"),
        ("UNLOADING", "UNAVAILABLE"),
        ("UNAVAILABLE", "LOADING"),
    }
    model = unloaded(state=before, reason="old")
    if (before, after) in allowed:
        model.become(after, "new")
        assert (model.state, model.reason) == (after, "new")
    else:
        with pytest.raises(AssertionError, match=f"{before}.*{after}"):
            model.become(after)
        assert (model.state, model.reason) == (before, "old")


def test_a_reason_does_not_outlive_its_state() -> None:
    model = unloaded(reason="half of it is there")
    model.become(State.READY)

    assert model.reason == ""


@pytest.mark.parametrize("state", [State.LOADING, State.UNAVAILABLE, State.UNLOADING])
def test_a_model_that_is_not_ready_takes_no_request_and_says_why(state: State) -> None:
    async def test() -> None:
        behind = Answers("m")
        behind.model.state, behind.model.reason = state, "because"
        with pytest.raises(ModelNotReady, match="'m'.*because"):
            behind.model.submit(request(), None)
        with pytest.raises(ModelNotReady, match="'m'.*because"):
            await pieces(behind.model)

    virtual_time.run(test())


def test_a_model_without_a_reason_names_its_state() -> None:
    with pytest.raises(ModelNotReady, match="'m'.*LOADING"):
        unloaded().submit(request(), None)
    assert unloaded().why_not_ready() == "LOADING"
    assert unloaded(reason="building").why_not_ready() == "building"


@timed
async def test_a_failed_load_says_when_it_is_tried_again_while_it_is_not() -> None:
    retry = Retry()
    for _ in range(2):
        retry.failed("no route to host")
    model = unloaded(state=State.UNAVAILABLE, reason="no route to host", retry=retry)
    assert model.why_not_ready() == str(retry) != "no route to host"
    model.become(State.LOADING, "fetching")

    assert model.why_not_ready() == "fetching"


@timed
async def test_whoever_found_a_model_before_it_was_replaced_never_notices() -> None:
    old, middle, new = (Answers(name) for name in ("old", "middle", "new"))
    for before, after in ((old, middle), (middle, new)):
        before.model.become(State.UNLOADING)
        before.model.successor = after.model

    assert await answer(old.model) == "new"
    assert [piece["from"] for piece in await pieces(old.model)] == ["new"] * 2


@timed
async def test_a_model_that_still_answers_does_not_ask_its_successor() -> None:
    old = Answers("old", successor=Answers("new").model)

    assert await answer(old.model) == "old"


@timed
async def test_a_stream_that_is_left_is_closed_in_the_successor_too() -> None:
    old, new = Answers("old"), Answers("new")
    old.model.become(State.UNLOADING)
    old.model.successor = new.model
    stream = old.model.stream(request(), None)
    await anext(stream)
    await stream.aclose()

    assert (new.closed, new.model.streams) == (1, 0)


@pytest.mark.parametrize(
    ("timeout", "limit"), [(None, 60.0), (5.0, 5.0), (1000.0, 60.0)], ids=["none", "less", "more"]
)
def test_a_caller_may_wait_less_than_the_model_takes_but_not_more(
    timeout: float | None, limit: float
) -> None:
    async def test() -> None:
        behind = Answers("m", infer_timeout=60.0)
        began = now()
        await answer(behind.model, timeout)
        await pieces(behind.model, timeout)

        assert behind.deadlines == [began + limit] * 2

    virtual_time.run(test())


@timed
async def test_a_request_that_does_not_fit_the_signature_is_refused_before_it_waits() -> None:
    behind = Answers("m", signature=NeverFits())
    with pytest.raises(InvalidInput, match="column 'a'"):
        behind.model.submit(request(), None)
    with pytest.raises(InvalidInput, match="column 'a'"):
        await pieces(behind.model)

    assert (behind.deadlines, behind.model.streams) == ([], 0)


@timed
async def test_a_body_that_travels_whole_is_left_to_the_worker_to_check() -> None:
    behind = Answers("m", signature=NeverFits())
    whole = request(content_type=SCORING)
    await behind.model.submit(whole, None)
    stream = behind.model.stream(whole, None)

    assert (await anext(stream)).parameters == {"from": "m", "number": 0}
    await stream.aclose()


@timed
async def test_a_stream_that_ended_well_is_an_execution_of_one_row_in_the_statistics() -> None:
    behind = Answers("m")
    await pieces(behind.model)
    left = behind.model.stream(request(), None)
    await anext(left)
    await left.aclose()

    found = model_statistics(behind.model)
    assert (found["inference_count"], found["execution_count"]) == (1, 1)
    assert found["inference_stats"]["compute_infer"]["count"] == 1
    assert found["last_inference"] > 0


@timed
async def test_a_model_that_does_not_stream_says_so() -> None:
    behind = Answers("m")
    behind.model.model_metadata = ModelMetadata(streams=False)
    with pytest.raises(Unimplemented, match="'m'"):
        await pieces(behind.model)


@timed
async def test_a_stream_that_fails_is_open_no_longer() -> None:
    async def fails(request: InferenceRequest, deadline: float) -> Any:
        raise InvalidInput("no")
        yield

    behind = Answers("m")
    behind.model.streamer = fails
    with pytest.raises(InvalidInput):
        await pieces(behind.model)

    assert behind.model.streams == 0


@timed
async def test_draining_waits_for_the_requests_that_were_taken() -> None:
    behind = Answers("m")
    behind.may_answer.clear()
    taken = [behind.model.submit(request(), None) for _ in range(2)]
    draining = asyncio.create_task(behind.model.drain())
    await asyncio.sleep(1)
    assert not draining.done()
    behind.may_answer.set()
    await draining

    assert all(future.done() for future in taken)


@timed
async def test_draining_waits_for_the_last_stream() -> None:
    behind = Answers("m")
    streams = [behind.model.stream(request(), None) for _ in range(2)]
    for stream in streams:
        await anext(stream)
    draining = asyncio.create_task(behind.model.drain())
    for stream in streams:
        await asyncio.sleep(1)
        assert not draining.done()
        await stream.aclose()

    await draining


@timed
async def test_a_model_that_has_nothing_to_do_is_drained_at_once() -> None:
    began = now()
    await Answers("m").model.drain()
    await unloaded().drain()

    assert now() == began


@timed
async def test_an_abandoned_model_fails_its_requests_and_lets_its_streams_go_on() -> None:
    behind = Answers("m")
    behind.may_answer.clear()
    running = [behind.model.submit(request(), None) for _ in range(2)]
    async with aclosing(behind.model.stream(request(), None)) as stream:
        await anext(stream)
        behind.model.abandon(ShuttingDown("the server stops"))
        outcomes = await asyncio.gather(*running, return_exceptions=True)

        assert [type(outcome) for outcome in outcomes] == [ShuttingDown] * 2
        assert ((await anext(stream)).parameters or {})["number"] == 1


def test_a_model_that_never_loaded_has_nothing_to_abandon() -> None:
    model = unloaded()
    model.abandon(ShuttingDown("the server stops"))

    assert (model.has_loaded, model.is_ready) == (False, False)


@timed
async def test_a_model_is_told_by_its_name_and_its_version() -> None:
    model = ServedModel(ModelSettings("m", "fake:Fake", version="3"), key="m#1")

    assert (model.name, model.version) == ("m", "3")
    # Its counters live as long as it does.
    assert model.metrics is model.metrics
    assert Answers("n").model.has_loaded


@timed
async def test_the_requests_of_streams_share_the_bytes_of_the_queue() -> None:
    answers = Answers("m")
    answers.model.batcher = Batcher(answers._infer, BatchLimits(max_queue_bytes=1000))
    large = request()
    large.received = 900
    async with aclosing(answers.model.stream(large, None)) as first:
        await anext(first)
        with pytest.raises(Overloaded, match="--max-queue-bytes"):
            await anext(answers.model.stream(large, None))

    assert len([piece async for piece in answers.model.stream(large, None)]) == 2
