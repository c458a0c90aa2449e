"""What a long run leaves"""

from __future__ import annotations

import json
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from statistics import median

import pytest
from benchmarks import h2load, load

from headrace.protocol.open_inference import inference_pb2 as pb
from support.asking import ask, connect, numbers, request, tensor
from support.custom import write_model
from support.fault_table import fault
from support.growth import growth
from support.leftovers import resident_mb
from support.serving import Server, until
from support.stage import Stage

ECHO = "return x * 2"
LEAKS = "self.__dict__.setdefault('kept', []).append(bytes(1000))\n" + ECHO
INFER = "/v2/models/m/infer"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
START = 60.0
# What may be added to the memory of a process, in MB.
SOAK_MB, REJECTED_MB, LOADS_MB, RESPAWNS_MB = 10.0, 1.0, 5.0, 2.0
# In a short run, allocators and caches still grow by so much.
NOISE_MB = 1.0
SAMPLES = 15
CONNECTIONS = 8
# Of five runs of a tool for load, one is gRPC.
SHARE_OF_GRPC = 5


class Sampled:
    """The memory of the front and of the worker, after each part of a run."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.front: list[tuple[float, float]] = []
        self.worker: list[tuple[float, float]] = []

    def add(self, count: int) -> None:
        (worker,) = until(self._server.workers, START, "a worker is up")
        self.front.append((count, resident_mb(self._server.process.pid)))
        self.worker.append((count, resident_mb(worker)))


def soaked(stage: Stage, server: Server, count: int, parts: int = SAMPLES) -> Sampled:
    """Ask the model over and over, with tools that do nothing else; every answer is checked.

    The memory is looked at after each second of it, at least as many times as `parts`.

    Skips where the tools are not installed.
    """
    try:
        load.wrk_version()
        h2load.require()
    except load.LoadFailed as error:
        pytest.skip(str(error))
    script, message = stage.folder / "request.lua", stage.folder / "message"
    load.write_script(script, json.dumps(numbers(21)).encode(), part=b'"data":[42.0]')
    asked = pb.ModelInferRequest(model_name="m")
    asked.inputs.add(name="x", datatype="FP64", shape=[1])
    asked.raw_input_contents.append(struct.pack("<d", 21.0))
    h2load.write_message(message, asked.SerializeToString())
    address = server.announced["grpc"]

    def over_rest() -> int:
        return load.run(server.http + INFER, script, CONNECTIONS, 1).requests

    def over_grpc() -> int:
        return h2load.run(address, METHOD, message, 2, CONNECTIONS, 1, size=8).requests

    sampled, done = Sampled(server), 0
    runs: Iterator[Callable[[], int]] = cycle([over_rest] * (SHARE_OF_GRPC - 1) + [over_grpc])
    asked_over = {"REST": 0, "gRPC": 0}
    while done < count or len(sampled.front) < parts:
        run = next(runs)
        answered = run()
        done += answered
        asked_over["REST" if run is over_rest else "gRPC"] += answered
        sampled.add(done)
    stage.load.update(requests=done, failed=0, wrong=0)
    stage.record(requests=", ".join(f"{n:,} {of}" for of, n in asked_over.items()))
    return sampled


@fault(
    "soak",
    promise="A million requests over REST and gRPC add nothing to what the server holds.",
    bar="front and worker at most 10 MB more, 0 failed, nothing left",
    per_round=20_000,
    each=0.00025,
    fixed=20.0,
    priority=1,
)
def test_a_million_requests_leave_nothing(stage: Stage) -> None:
    folder = write_model(stage.folder, ECHO, row_independent=True)
    with stage.serving(folder) as server:
        soaked(stage, server, 0, parts=SHARE_OF_GRPC)
        with stage.leaving_nothing(server):
            sampled = soaked(stage, server, stage.times)
    front, worker = growth(sampled.front), growth(sampled.worker)
    stage.record(front_grown=f"{front:.2f} MB", worker_grown=f"{worker:.2f} MB")
    assert front <= SOAK_MB
    assert worker <= SOAK_MB


@fault(
    "leak-found",
    promise="The measure finds a leak: a model that keeps 1,000 bytes of each request is seen to "
    "grow.",
    bar="found",
    per_round=2_000,
    each=0.00025,
    fixed=30.0,
)
def test_a_model_that_leaks_is_found(stage: Stage) -> None:
    folder = write_model(stage.folder, LEAKS, max_batch_size=1)
    with stage.serving(folder) as server:
        sampled = soaked(stage, server, stage.times)
    grown, requests = growth(sampled.worker), sampled.worker[-1][0] - sampled.worker[0][0]
    stage.record(worker_grown=f"{grown:.0f} MB in {requests:,.0f} requests")
    assert grown * 1e6 > 700 * requests
    assert growth(sampled.front) < grown / 10


@fault(
    "loads",
    promise="Models that are loaded and unloaded a thousand times leave no memory, threads, "
    "descriptors, series or files.",
    bar="front and worker at most 5 MB more, nothing left",
    per_round=20,
    each=0.04,
    priority=1,
)
def test_a_thousand_loads_and_unloads_leave_nothing(stage: Stage) -> None:
    write_model(stage.folder, ECHO)
    write_model(stage.folder, ECHO, name="comes")

    def come_and_go() -> None:
        path = "/v2/repository/models/comes/{}"
        assert ask(server.http, "POST", path.format("load"), {}).status == 200
        assert ask(server.http, "POST", "/v2/models/comes/infer", numbers(1)).status == 200
        assert ask(server.http, "POST", path.format("unload"), {}).status == 200

    with stage.serving(stage.folder) as server:
        come_and_go()
        sampled = Sampled(server)
        with stage.leaving_nothing(server):
            for count in range(stage.times):
                sampled.add(count)
                come_and_go()
    require_no_growth(stage, sampled, LOADS_MB)


def require_no_growth(stage: Stage, sampled: Sampled, most: float) -> None:
    front, worker = growth(sampled.front[::STEP]), growth(sampled.worker[::STEP])
    stage.record(front_grown=f"{front:.2f} MB", worker_grown=f"{worker:.2f} MB")
    assert max(front, worker) <= most + NOISE_MB


# Slopes between all pairs of a thousand samples would take longer than the test.
STEP = 5


@fault(
    "respawns",
    promise="Two hundred workers that are killed one after the other, the only one each time, cost "
    "no caller an answer, and the server keeps nothing of them.",
    bar="answers within 1 s, front at most 2 MB more, 0 failed, nothing left",
    per_round=4,
    each=0.5,
    priority=1,
)
def test_two_hundred_dead_workers_leave_nothing(stage: Stage) -> None:
    folder = write_model(stage.folder, ECHO, row_independent=True)
    front: list[tuple[float, float]] = []
    back = []

    def kill() -> None:
        (pid,) = until(server.workers, START, "a worker is up")
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in server.workers(), START, "it has gone")
        assert ask(server.http, "POST", INFER, numbers(1)).status == 200
        back.append(time.monotonic() - began)
        front.append((len(front), resident_mb(server.process.pid)))

    with stage.serving(folder) as server:
        stage.repeat(server, kill)
    grown = growth(front)
    stage.record(
        answers_again_after=f"{median(back):.2f} s, at most {max(back):.2f} s",
        front_grown=f"{grown:.2f} MB",
    )
    assert grown <= RESPAWNS_MB + NOISE_MB


REFUSED = [
    ("POST", INFER, b"{"),
    ("POST", INFER, b'{"inputs": [{"name": "x"}]}'),
    ("POST", INFER, json.dumps(request(tensor("x", "FP64", [2], [1.0]))).encode()),
    ("POST", INFER, json.dumps(request(tensor("x", "FP65", [1], [1.0]))).encode()),
    ("POST", INFER, json.dumps(request(tensor("x", "FP64", [-1], [1.0]))).encode()),
    ("POST", "/v2/models/{}/infer", json.dumps(numbers(1)).encode()),
    ("GET", "/no/such/{}", b""),
    ("DELETE", INFER, b""),
]
PIPELINED = 16


@fault(
    "rejections",
    promise="Requests that are refused, for names that nobody has served too, leave nothing.",
    bar="100,000 requests: front at most 1 MB more, nothing left",
    per_round=2_000,
    each=0.0004,
    priority=1,
)
def test_refused_requests_leave_nothing(stage: Stage) -> None:
    folder = write_model(stage.folder, ECHO)
    with stage.serving(folder) as server:
        refuse(server, 0, 2_000)
        sampled = Sampled(server)
        with stage.leaving_nothing(server):
            step = max(PIPELINED, stage.times // SAMPLES)
            for count in range(0, stage.times, step):
                sampled.add(count)
                refuse(server, count, step)
            sampled.add(stage.times)
    front = growth(sampled.front)
    stage.load.update(requests=stage.times, wrong=0, failed=0)
    stage.record(front_grown=f"{front:.2f} MB")
    assert front <= REJECTED_MB + NOISE_MB


def refuse(server: Server, first: int, count: int) -> None:
    """Send bad requests on one connection, several at a time; each must be refused."""
    with connect(server.http, START) as caller, caller.makefile("rb") as file:
        for start in range(first, first + count, PIPELINED):
            for number in range(start, start + PIPELINED):
                method, path, body = REFUSED[number % len(REFUSED)]
                head = f"{method} {path.format(number)} HTTP/1.1\r\nHost: x\r\n"
                caller.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            for _ in range(PIPELINED):
                assert file.readline()[9:10] == b"4"
                length = 0
                while (line := file.readline().strip().lower()) != b"":
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                file.read(length)
