"""Requests at a steady rate, from a process of their own, whether or not earlier ones are answered.

Each has a number of its own, and its answer is checked. Latencies count from the moment at which a
request was due, so that a server that stands still is charged for all who would have asked. The
same process asks whether the server is live, at a steady rate too.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.steady_clients import BROKEN, GrpcClient, RestClient

from support.serving import Server, until

# Requests a second: few enough for a machine that others use as well.
RATE = 100.0
HEALTH_RATE = 20.0
# Seconds that a client of the crowd waits before it asks again.
THINKING = 0.05
# Longer than a server with its default `infer_timeout` takes to answer, in whatever state it is.
PATIENCE = 90.0
LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"


@dataclass
class Counted:
    """The latencies of the requests of one model, or of health checks, by what came of them."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, outcome: str, seconds: float) -> None:
        self.seconds.setdefault(outcome, []).append(seconds)

    @property
    def outcomes(self) -> Counter[str]:
        return Counter({outcome: len(taken) for outcome, taken in self.seconds.items()})


def milliseconds(seconds: Iterable[float]) -> dict[str, float]:
    """The 50th and 99th percentiles and the longest."""
    taken = sorted(seconds) or [0.0]
    places = {"p50": len(taken) // 2, "p99": len(taken) * 99 // 100, "max": len(taken) - 1}
    return {name: round(taken[place] * 1000, 2) for name, place in places.items()}


class SteadyLoad:
    """Load on a server until `stop`; then `counted` and `health` say what came of it in `seconds`.

    Besides the `rate`, which is of requests a second, `clients` ask again and again, each a moment
    after its last answer.
    """

    def __init__(
        self, server: Server, models: tuple[str, ...], rate: float = RATE, clients: int = 0
    ) -> None:
        self.counted: dict[str, Counted] = {}
        self.health = Counted()
        self.seconds = 0.0
        context = multiprocessing.get_context("spawn")
        self._answered = context.Value("q", 0)
        self._over = context.Event()
        self._results, theirs = context.Pipe(duplex=False)
        addresses = (server.http, server.announced["grpc"])
        arguments = (addresses, models, rate, clients, self._answered, self._over, theirs)
        self._process = context.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self.wait_answers(1)

    @property
    def answered(self) -> int:
        """Requests answered so far, in whatever way."""
        return int(self._answered.value)

    def wait_answers(self, more: int = 10) -> None:
        """Wait until so many more requests have been answered."""
        before = self.answered
        until(lambda: self.answered >= before + more, PATIENCE, "requests are answered")

    def stop(self) -> None:
        """Send no more, and wait for the answers that are due."""
        self._over.set()
        assert self._results.poll(PATIENCE + 30), "the load does not end"
        self.counted, self.health, self.seconds = self._results.recv()
        self._process.join(30)


def _run(*arguments: Any) -> None:
    asyncio.run(_load(*arguments))


async def _load(
    addresses: tuple[str, str],
    models: tuple[str, ...],
    rate: float,
    crowd: int,
    answered: Any,
    over: Any,
    results: Any,
) -> None:
    clients = (RestClient(addresses[0]), GrpcClient(addresses[1]))
    probe = RestClient(addresses[0])
    counted = {model: Counted() for model in models}
    health = Counted()
    began = time.perf_counter()

    async def infer(number: int, due: float) -> None:
        # Both transports ask every model.
        model = models[number // len(clients) % len(models)]
        outcome = await clients[number % len(clients)].ask(model, float(number))
        now = time.perf_counter()
        counted[model].add(outcome, now - due)
        answered.value += 1

    async def is_live(number: int, due: float) -> None:
        status = 0
        # A server may close a connection that is idle at the moment at which it is used again, so
        # clients repeat such a request (RFC 9110 9.2.2).
        for _ in range(2):
            with suppress(BROKEN):
                status, _ = await probe.send(LIVE)
                break
        health.add("right" if status == 200 else "lost", time.perf_counter() - due)

    async def again_and_again(number: int) -> None:
        while not over.is_set():
            number += crowd
            await infer(number, time.perf_counter())
            await asyncio.sleep(THINKING)

    async def steadily(ask: Any, rate: float) -> list[asyncio.Task[None]]:
        """Ask until it is over; returns those that are not answered yet."""
        asking: set[asyncio.Task[None]] = set()
        number = 0
        while not over.is_set():
            number += 1
            due = began + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(ask(number, due))
            asking.add(task)
            task.add_done_callback(asking.discard)
        return list(asking)

    pending = [asyncio.create_task(again_and_again(number)) for number in range(crowd)]
    lefts = await asyncio.gather(steadily(infer, rate), steadily(is_live, HEALTH_RATE))
    seconds = time.perf_counter() - began
    for left in lefts:
        pending += left
    if pending:
        _, unanswered = await asyncio.wait(pending, timeout=PATIENCE)
        for task in unanswered:
            counted[models[0]].add("unanswered", PATIENCE)
            task.cancel()
    for client in (*clients, probe):
        await client.close()
    results.send((counted, health, seconds))
