"""The loop that coroutines of a service run on, when user code stops it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace.runtimes.service.service_loop import ServiceLoop


async def in_a_task(error: BaseException) -> None:
    async def fail() -> None:
        raise error

    # Not awaited: the loop is stopped, and nobody else learns of it.
    asyncio.get_running_loop().create_task(fail())
    await asyncio.sleep(0)


async def in_a_callback(error: BaseException) -> None:
    def fail() -> None:
        raise error

    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)


async def by_itself() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceLoop]:
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = ServiceLoop("test")
    yield loop
    loop.close()


@pytest.mark.parametrize(
    ("stop", "arguments"),
    [
        (by_itself, []),
        (in_a_task, [SystemExit(1)]),
        (in_a_task, [KeyboardInterrupt()]),
        (in_a_callback, [SystemExit(1)]),
        (in_a_callback, [KeyboardInterrupt()]),
    ],
)
def test_a_loop_that_user_code_stops_goes_on(
    loop: ServiceLoop, stop: Callable[..., Any], arguments: list[Any]
) -> None:
    async def answer() -> str:
        await asyncio.sleep(0)
        return "still there"

    loop.run(stop, *arguments)

    assert loop.run(answer) == "still there"


@pytest.mark.parametrize("error", [StopIteration, SystemExit, asyncio.CancelledError, ValueError])
def test_whatever_a_function_in_a_thread_raises_ends_the_wait_for_it(
    loop: ServiceLoop, error: type[BaseException]
) -> None:
    def fail() -> None:
        raise error

    async def wait() -> str:
        try:
            await loop.in_thread(fail)
        except BaseException as caught:
            return type(caught).__name__
        return "nothing"

    # A coroutine cannot raise StopIteration, which becomes a RuntimeError.
    expected = RuntimeError if error is StopIteration else error
    assert loop.run(wait) == expected.__name__
