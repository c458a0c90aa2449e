"""When the event loop counts as idle, by a clock that the test sets."""

from __future__ import annotations

import asyncio

import pytest

from headrace.dataplane import lull as module
from headrace.dataplane.lull import Lull


class Turns:
    """Looks for lulls, each in a turn of the loop that takes as long as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._lull = Lull()
        self._now = 0.0
        monkeypatch.setattr(module, "perf_counter", lambda: self._now)

    async def looked(self, seconds: float) -> bool:
        """Whether a turn of this length counts as empty."""
        found: list[bool] = []
        self._lull.look(found.append)
        # The first turn only starts the clock.
        await asyncio.sleep(0)
        assert not found
        self._now += seconds
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return found[0]


def test_a_turn_that_takes_longer_than_others_has_something_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def body() -> None:
        turns = Turns(monkeypatch)
        assert await turns.looked(8e-6)
        assert not await turns.looked(40e-6)
        assert await turns.looked(19e-6)

    asyncio.run(body())


def test_a_slow_machine_has_lulls_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        turns = Turns(monkeypatch)
        assert await turns.looked(30e-6)
        assert await turns.looked(80e-6)
        assert not await turns.looked(95e-6)

    asyncio.run(body())


def test_a_loop_that_was_never_seen_idle_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        turns = Turns(monkeypatch)
        assert not await turns.looked(110e-6)
        assert not await turns.looked(2e-3)

    asyncio.run(body())
