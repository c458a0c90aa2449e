"""The threads and the loop that the endpoints of a service run in."""

from __future__ import annotations

import asyncio
import sys
import threading
from queue import SimpleQueue
from typing import Any

import pytest

from headrace.errors import Cancelled
from headrace.protocol.messages import InferenceResponse
from headrace.runners.current_call import Answer
from headrace.runtimes.service import fast_loop
from headrace.runtimes.threads_on_demand import ThreadsOnDemand
from support.serving import until

# Ends a hang; no test takes as long.
FAR = 20


def held(threads: ThreadsOnDemand, count: int) -> tuple[SimpleQueue[int], threading.Event]:
    """The threads in which `count` functions have begun, and what lets them end."""
    begun: SimpleQueue[int] = SimpleQueue()
    may_end = threading.Event()

    def function() -> None:
        begun.put(threading.get_ident())
        assert may_end.wait(FAR)

    for _ in range(count):
        threads.submit(function)
    return begun, may_end


def test_functions_run_side_by_side_up_to_the_most() -> None:
    threads = ThreadsOnDemand(2, "test")
    begun, may_end = held(threads, 3)
    first = {begun.get(timeout=FAR) for _ in range(2)}
    assert len(first) == 2
    assert begun.empty()

    may_end.set()
    assert begun.get(timeout=FAR) in first
    threads.close()


def test_a_thread_that_is_free_is_used_again() -> None:
    threads = ThreadsOnDemand(8, "test")
    seen = set()
    for _ in range(20):
        seen.add(threads.call(threading.get_ident).result(FAR))
        until(lambda: bool(threads._idle), FAR, "the thread is free")
    assert len(seen) == 1
    threads.close()


def test_a_thread_survives_what_its_function_raises(caplog: pytest.LogCaptureFixture) -> None:
    threads = ThreadsOnDemand(1, "test")

    def fails() -> None:
        raise SystemExit

    threads.submit(fails)
    assert threads.call(lambda: 1).result(FAR) == 1
    assert "this is a bug" in caplog.text
    threads.close()


def test_what_a_called_function_raises_is_raised() -> None:
    threads = ThreadsOnDemand(1, "test")

    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        threads.call(fails).result(FAR)
    threads.close()


def test_threads_end_once_they_are_closed_and_finish_what_was_submitted() -> None:
    threads = ThreadsOnDemand(2, "test")
    begun, may_end = held(threads, 3)
    for _ in range(2):
        begun.get(timeout=FAR)
    started = [each for each in threading.enumerate() if each.name.startswith("test_")]
    threads.close()
    may_end.set()
    for each in started:
        each.join(FAR)

    assert begun.qsize() == 1
    assert not any(each.is_alive() for each in started)


def test_of_two_outcomes_a_thread_gets_the_first() -> None:
    answer, response = Answer(), InferenceResponse([])
    answer.settle(response)
    answer.settle(Cancelled("too late"))

    assert answer.wait() is response


def test_a_thread_that_waits_is_woken_and_gets_the_error() -> None:
    answer = Answer()
    threads = ThreadsOnDemand(1, "test")
    waiting = threads.call(answer.wait)
    answer.settle(Cancelled("the caller left"))

    with pytest.raises(Cancelled, match="the caller left"):
        waiting.result(FAR)
    threads.close()


@pytest.mark.parametrize("is_installed", [True, False])
def test_a_service_runs_with_and_without_uvloop(
    monkeypatch: pytest.MonkeyPatch, is_installed: bool
) -> None:
    if not is_installed:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = fast_loop.new()
    try:
        result: Any = loop.run_until_complete(asyncio.sleep(0, "done"))
    finally:
        loop.close()

    assert result == "done"
    assert type(loop).__module__.startswith("uvloop" if is_installed else "asyncio")
