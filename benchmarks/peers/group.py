"""One group of servers: started, compared, loaded in turn, measured, stopped."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import h2load, load, servers
from benchmarks.peers import answers
from benchmarks.peers.contender import Contender, Place
from benchmarks.peers.forms import Form
from benchmarks.peers.models import Models
from benchmarks.peers.scenarios import SCENARIOS, Scenario

WARM_UP = 1
LIVE_TIMEOUT = 180.0
# The bytes of these answers are what an echo answers with.
ECHOED = {"row": "answer.json", "grpc": "answer.grpc"}

Figures = dict[str, float]


@dataclass
class Running:
    """A server, and the files of its load by scenario."""

    contender: Contender
    server: servers.Server
    folder: Path
    answer_sizes: dict[str, int]

    def form(self, scenario: Scenario) -> Form:
        """Its request in a scenario."""
        return self.contender.forms[scenario.name]

    def load(self, scenario: Scenario, checked: bool = False) -> Path:
        """The script of wrk, or the message of h2load."""
        return self.folder / f"{scenario.name}{'-checked' if checked else ''}.load"

    def loaded(
        self, scenario: Scenario, connections: int, seconds: int, checked: bool = False
    ) -> Figures:
        """Load it once; processor time is in microseconds per request.

        Raises:
            LoadFailed: an answer was missing or wrong.
        """
        server, form = self.server, self.form(scenario)
        before = server.cpu_seconds()
        if scenario.streams:
            size = self.answer_sizes[scenario.name]
            streams = scenario.streams
            called = h2load.run(
                server.grpc, form.path, self.load(scenario), connections, streams, seconds, size
            )
            requests, figures = called.requests, {"rate": called.rate}
        else:
            script = self.load(scenario, (checked or scenario.checked) and form.compared)
            sent = load.run(server.url + form.path, script, connections, seconds)
            requests = sent.requests
            figures = {"rate": sent.rate, "p50_ms": sent.p50_ms, "p99_ms": sent.p99_ms}
        after = server.cpu_seconds()
        for kind in ("front", "workers"):
            figures[f"{kind}_us"] = (after[kind] - before[kind]) / requests * 1e6
        return {name: round(value, 3) for name, value in figures.items()}


class Group:
    """The servers of one group that still answer, and why the others do not."""

    def __init__(
        self,
        scenarios: Sequence[str],
        models: Models,
        pythons: Mapping[str, Path],
        unprepared: Mapping[str, str],
    ) -> None:
        self._scenarios = [SCENARIOS[name] for name in scenarios]
        self._models = models
        self._pythons = pythons
        self._up: dict[str, Running] = {}
        self.failed = dict(unprepared)
        self.rounds: list[dict[str, dict[str, dict[str, Figures]]]] = []
        self.servers: dict[str, dict[str, Any]] = {}

    def measure(self, contenders: Sequence[Contender], rounds: int, seconds: int) -> None:
        """Start them, load them in turn, and measure their memory."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-peer-")))
            for contender in contenders:
                if contender.name not in self.failed:
                    with self._survived(contender.name):
                        self._start(stack, folder, contender)
            self._everywhere(WARM_UP, checked=True)
            for number in range(rounds):
                self.rounds.append(self._everywhere(seconds, label=f"round {number + 1}"))
            self._everywhere(WARM_UP, checked=True, last=True)
            for name, running in self._up.items():
                self._note(name, running.server)

    @contextmanager
    def _survived(self, name: str) -> Iterator[None]:
        """Take a server that fails out of the group, and keep the reason."""
        try:
            yield
        except Exception as error:  # Whatever it is, the others can still be measured.
            self.failed[name] = f"{type(error).__name__}: {error}"
            self._up.pop(name, None)
            print(f"{name} is left out: {self.failed[name]}", flush=True)

    def _start(self, stack: ExitStack, folder: Path, contender: Contender) -> None:
        ports = servers.free_ports(3)
        place = Place(folder / contender.name, self._pythons[contender.name], *ports)
        place.folder.mkdir()
        contender.fill(place, self._models.folder)
        launch = servers.Launch(
            contender.name, contender.command(place), contender.live, place.port, place.grpc_port,
            contender.environ(place), place.folder, place.python, LIVE_TIMEOUT,
        )  # fmt: skip
        log = folder / f"{contender.name}.log"
        server = stack.enter_context(servers.started(launch, log))
        loads = folder / f"{contender.name}-load"
        loads.mkdir()
        running = Running(contender, server, loads, {})
        for scenario in self._scenarios:
            if scenario.name in contender.forms:
                self._compare(running, scenario)
        print(f"{contender.name} answers after {server.ready_after:.2f} s", flush=True)
        self._up[contender.name] = running

    def _compare(self, running: Running, scenario: Scenario) -> None:
        """See that each answer is right, and write what the load sends."""
        form, rows = running.form(scenario), self._models.rows[scenario.data]
        server = running.server
        if not server.ready_after:
            answers.first(server, form, rows.requests[0])
        answer = answers.compare(server, form, rows)
        if scenario.name in ECHOED and running.contender.name == "headrace":
            (self._models.folder / ECHOED[scenario.name]).write_bytes(answer)
        running.answer_sizes[scenario.name] = len(answer)
        message, part = form.encode(rows.requests[0]), form.part(rows.predictions[0])
        if scenario.streams:
            h2load.write_message(running.load(scenario), message.body)
            return
        for checked in (False, True):
            load.write_script(
                running.load(scenario, checked), message.body, message.content_type,
                part if checked else None, message.headers,
            )  # fmt: skip

    def _everywhere(
        self, seconds: int, checked: bool = False, last: bool = False, label: str = ""
    ) -> dict[str, dict[str, dict[str, Figures]]]:
        """Load each scenario over each number of connections, in random order."""
        found: dict[str, dict[str, dict[str, Figures]]] = {}
        lots = [
            (scenario, connections)
            for scenario in self._scenarios
            for connections in (scenario.connections[-1:] if last else scenario.connections)
        ]
        for scenario, connections in random.sample(lots, len(lots)):
            for name in random.sample(list(self._up), len(self._up)):
                running = self._up[name]
                if scenario.name not in running.contender.forms:
                    continue
                with self._survived(name):
                    figures = running.loaded(scenario, connections, seconds, checked)
                    at = found.setdefault(scenario.name, {}).setdefault(str(connections), {})
                    at[name] = figures
                    if label:
                        _print(label, scenario, connections, name, figures)
        return found

    def _note(self, name: str, server: servers.Server) -> None:
        self.servers[name] = {
            "live_after_seconds": round(server.live_after, 3),
            "ready_after_seconds": round(server.ready_after, 3),
            "memory_mb": {kind: round(size, 1) for kind, size in server.memory_mb().items()},
            "processes": 1 + len(server.processes()["workers"]),
        }


def _print(
    label: str, scenario: Scenario, connections: int, name: str, figures: Mapping[str, float]
) -> None:
    print(
        f"{label}, {scenario.name:12} {connections:3} connections, {name:16} "
        f"{figures['rate']:9,.0f}/s, "
        f"{figures['front_us']:7,.0f} + {figures['workers_us']:7,.0f} us",
        flush=True,
    )
