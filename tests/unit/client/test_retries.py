"""Which failures are retried, after what pause, and until when. No clock, no sockets."""

from __future__ import annotations

import pytest

from headrace.client import ConnectionFailed, InvalidRequest, TimedOut, Unavailable
from headrace.client.flows import LONGEST_PAUSE, Call, Pause, Policy
from headrace.client.operations import Live

BUSY = Unavailable("busy", retry_after=1.0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def steps(policy, *answers):
    """What the flow yields while its calls end in these errors or values."""
    flow = policy.calling(Live())
    seen = [next(flow)]
    for answer in answers:
        if isinstance(answer, Exception):
            seen.append(flow.throw(answer))
            seen.append(next(flow))
        else:
            with pytest.raises(StopIteration) as done:
                flow.send(answer)
            seen.append(done.value.value)
    return seen


def test_a_failed_connection_is_retried_after_growing_pauses():
    policy = Policy(None, 2)
    broken = ConnectionFailed("broken")

    call = Call(Live(), None)
    assert steps(policy, broken, broken, "ok") == [
        call,
        Pause(0.1),
        call,
        Pause(0.2),
        call,
        "ok",
    ]


def test_a_retry_waits_as_long_as_the_answer_says():
    assert steps(Policy(None, 1), BUSY)[1] == Pause(1.0)


def test_no_pause_is_longer_than_the_longest():
    patient = Unavailable("busy", retry_after=3600.0)

    assert steps(Policy(None, 1), patient)[1] == Pause(LONGEST_PAUSE)


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("no"),
        TimedOut("late"),
        Unavailable("gone for good", code="model_unavailable"),
    ],
    ids=["refused", "timed out", "no retry asked for"],
)
def test_other_failures_are_final(error):
    flow = Policy(None, 5).calling(Live())
    next(flow)

    with pytest.raises(type(error)):
        flow.throw(error)


def test_a_proxy_that_names_neither_a_kind_nor_a_pause_is_tried_again():
    assert steps(Policy(None, 1), Unavailable("Bad Gateway", status=502))[1] == Pause(0.1)


def test_the_last_failure_is_raised_when_no_retry_is_left():
    flow = Policy(None, 1).calling(Live())
    next(flow)
    flow.throw(BUSY)
    next(flow)

    with pytest.raises(Unavailable):
        flow.throw(BUSY)


def test_a_pause_that_outlasts_the_deadline_is_not_begun():
    flow = Policy(0.5, 5, Clock()).calling(Live())
    next(flow)

    with pytest.raises(Unavailable):
        flow.throw(BUSY)


def test_each_attempt_has_what_is_left_of_the_time():
    clock = Clock()
    flow = Policy(10.0, 5, clock).calling(Live())

    assert next(flow) == Call(Live(), 10.0)
    clock.now += 3
    flow.throw(BUSY)
    clock.now += 1
    assert next(flow) == Call(Live(), 6.0)
