"""A registry that is killed, and versions of every kind of fault, under thirty-two clients.

`make faults-registry` moves the alias fifty times and writes the figures.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import grpc
import pytest

from headrace.protocol.open_inference import inference_pb2 as pb
from support.asking import Client, ask, request, tensor
from support.registered import World
from support.rounds import ROUNDS
from support.serving import Server, serving, until
from support.tracking import TrackingServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.registry,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(7200),
]

NAME = "wine"
FLAGS = ["--follow", "--follow-interval", "0.2", "--env-manager", "local"]
PATIENCE = 300
REST_CLIENTS, GRPC_CLIENTS = 24, 8
# Each version answers its own number, or does what its kind says.
GOOD = "return [{number}.0] * len(model_input)"
BODIES = {
    "good": GOOD,
    "is slow": f"import time; time.sleep(0.05); {GOOD}",
    "does not load": "return 1\nimport no_such_module",
    "raises": "raise RuntimeError('no')",
    "crashes": "import os; os._exit(1)",
    "answers what is no output": "return object()",
}
ANSWERS = ("good", "is slow")
ORDER = ("good", "does not load", "is slow", "raises", "crashes", "answers what is no output")
# The registry is killed in the middle of every so many moves.
KILLED_EVERY = 5


class Crowd:
    """Clients that ask without a pause, each on a connection of its own."""

    def __init__(self, server: Server) -> None:
        self.failed: list[str] = []
        self.seconds: list[float] = []
        self.versions: Counter[int] = Counter()
        self._server = server
        self._over = threading.Event()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask until the end of the block."""
        clients = [self._rest] * REST_CLIENTS + [self._grpc] * GRPC_CLIENTS
        with ThreadPoolExecutor(len(clients)) as pool:
            asking = [pool.submit(client) for client in clients]
            try:
                yield
            finally:
                self._over.set()
        for each in asking:
            each.result()

    @property
    def answered(self) -> int:
        return self.versions.total()

    def _rest(self) -> None:
        body = request(tensor("x", "FP64", [1, 1], [1.0]))
        with Client(self._server.http) as client:
            while not self._over.is_set():
                began = time.monotonic()
                answer = client.ask("POST", f"/v2/models/{NAME}/infer", body)
                if answer.status != 200:
                    self.failed.append(f"{answer.status}: {answer.body!r}")
                    continue
                said = answer.json
                version = answer.headers["x-model-version"]
                self._add(began, said["outputs"][0]["data"], version, said["model_version"])

    def _grpc(self) -> None:
        data = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 1])
        data.contents.fp64_contents.append(1.0)
        message = pb.ModelInferRequest(model_name=NAME, inputs=[data])
        with grpc.insecure_channel(self._server.announced["grpc"]) as channel:
            infer = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=pb.ModelInferRequest.SerializeToString,
                response_deserializer=pb.ModelInferResponse.FromString,
            )
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    answer, call = infer.with_call(message, timeout=90)
                except grpc.RpcError as error:
                    self.failed.append(f"{error.code()}: {error.details()}")
                    continue
                version = dict(call.initial_metadata())["x-model-version"]
                found = list(answer.outputs[0].contents.fp64_contents)
                self._add(began, found, version, answer.model_version)

    def _add(self, began: float, found: list[float], *versions: str) -> None:
        """Count an answer; the model's number and all that names the version must agree."""
        self.seconds.append(time.monotonic() - began)
        if {found[0], *map(float, versions)} != {found[0]}:
            self.failed.append(f"{found} was answered as version {versions}")
        self.versions[int(found[0])] += 1


class Story:
    """One server, its registry, and what happens to both."""

    def __init__(self, registry: TrackingServer, world: World, server: Server) -> None:
        self.crowd = Crowd(server)
        self.kinds: Counter[str] = Counter()
        self.kills = 0
        self._registry, self._world, self._server = registry, world, server

    def move(self, kind: str) -> None:
        """Point the alias at a new version of that kind, and wait for what follows."""
        number = self.kinds.total() + 2
        body = BODIES[kind].format(number=number)
        version = self._world.register(NAME, body, example=True)
        assert version == str(number), "versions are numbered from one"
        self._world.point(NAME, "champion", version)
        self.kinds[kind] += 1
        if kind in ANSWERS:
            until(lambda: self.crowd.versions[number], PATIENCE, f"version {number} answers")
        else:
            held = f"version {version} gets no requests"
            until(lambda: held in self._server.log(), PATIENCE, f"version {number} is held")

    def lose_the_registry(self) -> None:
        """Kill it, serve without it, and start it again on the same database."""
        self._registry.kill()
        self.kills += 1
        until(lambda: "may be stale" in self._reasons(), PATIENCE, "what is served may be stale")
        before = self.crowd.answered
        until(lambda: self.crowd.answered > before + 200, PATIENCE, "the crowd goes on")
        self._registry.start()
        until(lambda: "may be stale" not in self._reasons(), PATIENCE, "it answers again")

    def _reasons(self) -> str:
        entries = ask(self._server.http, "POST", "/v2/repository/index", {}).json
        return " ".join(entry["reason"] for entry in entries)

    def figures(self, seconds: float) -> dict[str, Any]:
        taken = sorted(self.crowd.seconds)
        return {
            "name": "follow_faults",
            "clients": {"rest": REST_CLIENTS, "grpc": GRPC_CLIENTS},
            "moves": dict(self.kinds),
            "registry_killed": self.kills,
            "seconds": round(seconds, 1),
            "requests": len(taken),
            "failed": len(self.crowd.failed),
            "milliseconds": {
                "p50": round(1000 * taken[len(taken) // 2], 2),
                "p99": round(1000 * taken[len(taken) * 99 // 100], 2),
                "longest": round(1000 * taken[-1], 2),
            },
        }


def test_no_request_fails_whatever_the_registry_and_its_versions_do(tmp_path: Path) -> None:
    registry = TrackingServer(tmp_path)
    try:
        registry.start()
        world = World(registry.url)
        world.point(NAME, "champion", world.register(NAME, GOOD.format(number=1), example=True))
        began = time.monotonic()
        with serving(f"models:/{NAME}@champion", *FLAGS, env=world.env) as server:
            story = Story(registry, world, server)
            with story.crowd.asking():
                for number, kind in enumerate(islice(cycle(ORDER), max(ROUNDS, len(ORDER)))):
                    story.move(kind)
                    if number % KILLED_EVERY == 1:
                        story.lose_the_registry()
            figures = story.figures(time.monotonic() - began)
            assert story.crowd.failed == [], figures
    finally:
        registry.stop()
    if folder := os.environ.get("HEADRACE_TEST_RESULTS"):
        Path(folder, "follow_faults.json").write_text(json.dumps(figures, indent=1) + "\n")
