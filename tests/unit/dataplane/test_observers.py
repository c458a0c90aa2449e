"""What observers see of a call, and that hooks which do nothing cost nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from headrace.dataplane import Call, Calls
from headrace.dataplane.observers.access_log import AccessLog, RefusalLog
from headrace.dataplane.observers.call_counters import MetricsObserver
from headrace.dataplane.observers.observer import Observer, Observers
from headrace.errors import InvalidInput, ModelFailed
from support.world import World, in_world, model, request

CALLER = ("open_inference", "/v2/models/{name}/infer", "id-1", ("10.0.0.9", 4711))


def test_a_hook_that_is_not_overridden_is_not_called() -> None:
    class Answers(Observer):
        def answered(self, call: Call) -> None: ...

    hooks = Observers((Observer(), Answers()))

    assert (hooks.admit, hooks.decoded, hooks.refused, hooks.left) == ((), (), (), ())
    assert len(hooks.answered) == 1


def test_an_observer_may_refuse_a_call_before_its_body_is_read() -> None:
    class Guard(Observer):
        def admit(self, call: Call) -> None:
            raise InvalidInput("not you")

    with pytest.raises(InvalidInput, match="not you"):
        Calls((Guard(),)).admit(Call(*CALLER))


@in_world
async def test_answers_and_failures_are_counted_with_their_times_and_callers_who_left_are_not(
    world: World,
) -> None:
    world.disk = [model()]
    await world.repository.load_all(world.disk)
    served = world.repository.get("m")
    calls = Calls((MetricsObserver(),))
    for end in ("answered", "refused", "refused", "left"):
        call = Call(*CALLER)
        await calls.submit(call, served, request(), None)
        if end == "refused":
            calls.refused(call, ModelFailed("it raised"), 500, 10)
        elif end == "answered":
            calls.answered(call, 200, 10)
        else:
            calls.left(call, 499)

    assert served.metrics.successes == 1
    assert served.metrics.failures == {"model_error": 2}
    assert sum(served.metrics.duration.counts) == 3


def test_a_call_ends_once_and_an_observer_that_fails_affects_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ends: list[str] = []

    class Fails(Observer):
        def answered(self, call: Call) -> None:
            raise RuntimeError("the observer's own")

    class Listens(Observer):
        def answered(self, call: Call) -> None:
            ends.append("answered")

        def left(self, call: Call) -> None:
            ends.append("left")

    calls, call = Calls((Fails(), Listens())), Call(*CALLER)
    calls.answered(call, 200, 1)
    calls.left(call, 499)

    assert ends == ["answered"]
    assert "an observer failed" in caplog.text


def test_a_refusal_without_a_model_makes_no_series() -> None:
    Calls((MetricsObserver(),)).refused(Call(*CALLER), InvalidInput("nobody"), 404, 10)


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == "headrace.calls"]


def test_the_access_log_has_one_line_for_an_answer_with_its_times(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @in_world
    async def body(world: World) -> None:
        world.disk = [model(version="3")]
        await world.repository.load_all(world.disk)
        call = Call(*CALLER)
        call.received = 77
        calls = Calls((AccessLog(),))
        await calls.submit(call, world.repository.get("m"), request(), None)
        # The batcher is done with a batch after its answers are delivered.
        await asyncio.sleep(0)
        calls.answered(call, 200, 99)

    with caplog.at_level(logging.INFO, "headrace.calls"):
        body()

    (line,) = logged(caplog)
    known = {
        "protocol": "open_inference",
        "route": "/v2/models/{name}/infer",
        "model": "m",
        "version": "3",
        "status": 200,
        "request_id": "id-1",
        "bytes_in": 77,
        "bytes_out": 99,
        "rows": 1,
        "batch": 1,
        "caller": "10.0.0.9:4711",
    }
    assert {name: line[name] for name in known} == known
    assert line["total_ms"] >= line["compute_ms"] >= 0
    assert line["queue_ms"] >= 0


@pytest.mark.parametrize("log", [RefusalLog(), AccessLog()], ids=["refusals", "access"])
def test_a_refusal_is_one_line_with_its_kind(
    caplog: pytest.LogCaptureFixture, log: RefusalLog
) -> None:
    with caplog.at_level(logging.INFO, "headrace.calls"):
        Calls((log,)).refused(Call(*CALLER), InvalidInput("x is missing"), 400, 10)

    (line,) = logged(caplog)
    assert line["message"] == "x is missing"
    assert (line["status"], line["kind"], line["request_id"]) == (400, "invalid_argument", "id-1")


def test_a_refused_call_of_a_runner_is_left_to_the_line_of_the_call_that_made_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    call = Call("runner", "iris", "id-1")
    call.is_inner = True
    with caplog.at_level(logging.INFO, "headrace.calls"):
        Calls((RefusalLog(),)).refused(call, ModelFailed("it raised"), 500, 0)
    assert logged(caplog) == []

    again = Call("runner", "iris", "id-1")
    again.is_inner = True
    with caplog.at_level(logging.INFO, "headrace.calls"):
        Calls((AccessLog(),)).refused(again, ModelFailed("it raised"), 500, 0)
    (line,) = logged(caplog)
    assert (line["levelname"], line["status"], line["kind"]) == ("INFO", 500, "model_error")


@pytest.mark.parametrize("log", [RefusalLog(), AccessLog()], ids=["refusals", "access"])
def test_a_status_that_is_a_name_has_a_field_of_its_own(
    caplog: pytest.LogCaptureFixture, log: RefusalLog
) -> None:
    with caplog.at_level(logging.INFO, "headrace.calls"):
        Calls((log,)).refused(Call(*CALLER), InvalidInput("no"), "INVALID_ARGUMENT", 10)

    (line,) = logged(caplog)
    assert line["grpc_status"] == "INVALID_ARGUMENT"
    assert "status" not in line
