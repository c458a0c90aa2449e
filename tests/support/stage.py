"""Where a fault happens: a server under a steady load, what came of it, and what was left."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import machine

from support.fault_table import ROOT, Fault
from support.leftovers import Held, held, resident_mb
from support.rounds import ROUNDS
from support.serving import Server, serving, until
from support.steady_load import RATE, SteadyLoad, milliseconds

# Seconds in which what a fault has taken must be given back.
GIVEN_BACK = 30.0


class Stage:
    """One fault, how often it is caused, and the figures."""

    def __init__(self, fault: Fault, folder: Path) -> None:
        self.fault = fault
        self.folder = folder
        self.times = ROUNDS * fault.per_round
        self.load: dict[str, Any] = {}
        self.figures: dict[str, Any] = {}
        self.left: dict[str, int] | None = None
        self.scratch = folder / "scratch"
        self.scratch.mkdir()

    @contextmanager
    def serving(self, *args: object, **more: Any) -> Iterator[Server]:
        """A server whose temporary files can be counted."""
        env = {
            "TMPDIR": str(self.scratch),
            "HEADRACE_HOME": str(self.scratch / "home"),
            **more.pop("env", {}),
        }
        with serving("--no-access-log", *args, env=env, **more) as server:
            assert "has no effect" not in server.log(), server.log()
            yield server

    def python_with(self, before: str = "", redirected: str = "") -> Path:
        """A program that starts Python after a line of bash, with output redirected."""
        program = self.folder / "python"
        program.write_text(f'#!/bin/bash\n{before}\nexec {sys.executable} "$@" {redirected}\n')
        program.chmod(0o755)
        return program

    @contextmanager
    def under_load(
        self,
        server: Server,
        *models: str,
        may: Collection[str] = (),
        rate: float = RATE,
        clients: int = 0,
    ) -> Iterator[SteadyLoad]:
        """Load during the block; every request must be answered right, or refused as `may` says."""
        load = SteadyLoad(server, models or ("m",), rate, clients)
        before = resident_mb(server.process.pid)
        try:
            yield load
        finally:
            load.stop()
        self._count(load, may)
        self.load["front_mb"] = round(resident_mb(server.process.pid) - before, 2)
        assert self.load["wrong"] == 0, self.load
        assert self.load["failed"] == 0, self.load
        assert self.load["health_failed"] == 0, self.load

    def repeat(
        self,
        server: Server,
        cause: Callable[[], object],
        *models: str,
        may: Collection[str] = (),
        rate: float = RATE,
        clients: int = 0,
    ) -> None:
        """Cause the fault again and again under load; nothing may fail, and nothing may be left.

        The first time comes before what the server holds is counted.
        """
        load_of = partial(self.under_load, server, *models, may=may, rate=rate, clients=clients)
        with load_of():
            cause()
        with self.leaving_nothing(server), load_of() as load:
            for _ in range(self.times):
                cause()
                load.wait_answers()

    @contextmanager
    def leaving_nothing(self, server: Server) -> Iterator[None]:
        """After the block, the server must hold no more than before it."""
        before = self._settled(server)
        yield
        after: list[Held] = []

        def given_back() -> bool:
            after.append(held(server, self.scratch))
            self.left = after[-1].more_than(before)
            return not self.left

        try:
            until(given_back, GIVEN_BACK, "what the fault has taken is given back")
        except AssertionError:
            raise AssertionError(f"left after the fault: {self.left}") from None

    def record(self, **figures: Any) -> None:
        """Keep figures for the page, by what they are called there."""
        self.figures.update({name.replace("_", " "): value for name, value in figures.items()})

    def write(self, seconds: float, holds: bool) -> None:
        """Write the result, if the environment says where."""
        if not (folder := os.environ.get("HEADRACE_TEST_RESULTS")):
            return
        described = machine.describe(ROOT, "")
        result = {
            "name": self.fault.name,
            "times": self.times,
            "holds": holds,
            "seconds": round(seconds, 1),
            **self.load,
            "left": self.left,
            "figures": self.figures,
            "machine": {
                name: described[name]
                for name in ("date", "commit", "cpu", "cores", "memory_mb", "system", "python")
            },
        }
        path = Path(folder, f"{self.fault.name}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n")

    def _settled(self, server: Server) -> Held:
        """What the server holds once two counts in a row are the same."""
        seen = [held(server, self.scratch)]

        def same() -> bool:
            seen.append(held(server, self.scratch))
            return seen[-1] == seen[-2]

        until(same, GIVEN_BACK, "the server comes to rest")
        return seen[-1]

    def _count(self, load: SteadyLoad, may: Collection[str]) -> None:
        outcomes = sum((each.outcomes for each in load.counted.values()), Counter[str]())
        refused = sum(count for outcome, count in outcomes.items() if outcome in may)
        taken: dict[bool, list[float]] = {True: [], False: []}
        for each in load.counted.values():
            for outcome, seconds in each.seconds.items():
                taken[outcome in may] += seconds
        self.load = {
            "requests": outcomes.total(),
            "failed": outcomes.total() - outcomes["right"] - refused - outcomes["wrong"],
            "refused": refused,
            "wrong": outcomes["wrong"],
            "outcomes": dict(outcomes),
            "request_ms": milliseconds(taken[False]),
            "refusal_ms": milliseconds(taken[True]) if refused else None,
            "health_ms": milliseconds(load.health.seconds.get("right", ())),
            "health_failed": load.health.outcomes["lost"],
        }
