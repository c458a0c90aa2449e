"""Callers who are slow, vanish, leave, or are too many"""

from __future__ import annotations

import json
import resource
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from headrace.grpc import http2_frames as frames
from headrace.protocol.open_inference import inference_pb2 as pb
from support.asking import ask, connect, numbers
from support.custom import write_model
from support.fault_table import fault
from support.leftovers import resident_mb
from support.services import in_flight
from support.serving import Server, until
from support.stage import Stage
from support.steady_load import RATE, SteadyLoad

FAST = "time.sleep(0.002)\nreturn x * 2"
# Answers once the file `go` is there, and keeps what it was asked: 0 keeps it busy until then.
GATED = """
if (x == 0).any():
    while not os.path.exists(f'{HERE}/go'): time.sleep(0.002)
with open(f'{HERE}/seen', 'a') as seen: seen.write(''.join(f'{n:.0f} ' for n in x.ravel()))
return x * 2
"""
# Longer than any test waits, so that a caller who was forgotten would be noticed.
PATIENCE = 60.0
# Seconds that a slow caller has, by flags.
SHORT = 2.0
SLOW_FLAGS = ("--header-timeout", SHORT, "--body-timeout", SHORT, "--keep-alive-timeout", SHORT)
SLOW_CALLERS = 25
LEAVERS = 100
LATE = ("504 deadline_exceeded", "DEADLINE_EXCEEDED")
FULL = ("503 overloaded", "UNAVAILABLE")
HEAD = "POST /v2/models/{}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{}\r\n"
# TCP_REPAIR of Linux: a socket that is closed in this state sends nothing.
TCP_REPAIR = 19


def message(model: str, number: float, *fields: str) -> bytes:
    body = json.dumps(numbers(number)).encode()
    lines = "".join(f"{field}\r\n" for field in fields)
    return HEAD.format(model, len(body), lines).encode() + body


@fault(
    "slow-callers",
    promise="Callers who send a head or a body byte by byte, or do not read their answer, are cut "
    "off at their deadline; nobody else waits.",
    bar="each cut off within 1 s of its deadline, 0 others failed",
    each=4.0,
)
def test_slow_callers_are_cut_off_and_hold_nobody_up(stage: Stage) -> None:
    write_model(stage.folder, FAST, row_independent=True)
    write_model(stage.folder, "return np.zeros(2_000_000)", name="large")
    taken = []

    def crawl() -> None:
        with ExitStack() as stack:
            callers = [stack.enter_context(connect(server.http)) for _ in range(SLOW_CALLERS)]
            heads, bodies = callers[:10], callers[10:20]
            for caller in bodies:
                caller.sendall(HEAD.format("m", 1000, "").encode())
            for caller in callers[20:]:
                caller.sendall(message("large", 1.0))
            began = time.monotonic()
            left = {*heads, *bodies}
            while left:
                assert time.monotonic() < began + PATIENCE, "slow callers are cut off"
                left = {caller for caller in left if trickles(caller)}
                time.sleep(0.05)
            taken.append(time.monotonic() - began)

    with stage.serving(stage.folder, *SLOW_FLAGS) as server:
        stage.repeat(server, crawl, "m")
    stage.record(cut_off_after_at_the_latest=f"{max(taken):.2f} s, of {SHORT:g} s")


def trickles(caller: socket.socket) -> bool:
    """Send one more byte; False once the server has closed the connection."""
    try:
        caller.sendall(b"G")
        caller.setblocking(False)
        try:
            while caller.recv(65536):
                pass
        except BlockingIOError:
            return True
        finally:
            caller.setblocking(True)
    except OSError:
        pass
    return False


@fault(
    "half-open",
    promise="Connections whose other end has vanished without a word, idle or in the middle of a "
    "request, HTTP or gRPC, are given back.",
    bar="50 times 40 connections, all given back",
    each=0.5,
    fixed=20.0,
)
def test_connections_whose_other_end_has_vanished_are_given_back(stage: Stage) -> None:
    folder = write_model(stage.folder, FAST, row_independent=True)
    starts = (b"", b"GET /v2 HT", HEAD.format("m", 1000, "").encode() + b"{", message("m", 1.0))

    def vanish() -> None:
        for number in range(40):
            url = server.http if number % 5 else f"http://{server.announced['grpc']}"
            caller = connect(url)
            caller.sendall(starts[number % len(starts)] if number % 5 else b"PRI * HTTP/2.0")
            close_silently(caller)

    with stage.serving(folder, *SLOW_FLAGS) as server:
        stage.repeat(server, vanish)


def close_silently(caller: socket.socket) -> None:
    """Close without telling the other end; where that is not allowed, with a reset."""
    try:
        caller.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    except OSError:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.close()


class Gate:
    """A model that answers nobody until it is let go."""

    def __init__(self, stage: Stage) -> None:
        self.folder = write_model(
            stage.folder, GATED, name="gated", row_independent=True, max_batch_size=64
        )
        (self.folder / "seen").touch()

    @contextmanager
    def shut(self, server: Server) -> Iterator[None]:
        """Keep the model busy during the block, and afterwards wait until it has nothing left."""
        (self.folder / "go").unlink(missing_ok=True)
        with ThreadPoolExecutor(2) as pool:
            # Two batches are on their way at a time.
            busy = []
            for count in (1, 2):
                busy.append(
                    pool.submit(ask, server.http, "POST", "/v2/models/gated/infer", numbers(0))
                )
                until(lambda count=count: in_flight(server, "gated") >= count, PATIENCE, "busy")
            try:
                yield
            finally:
                (self.folder / "go").touch()
            assert [each.result().status for each in busy] == [200, 200]
        until(lambda: in_flight(server, "gated") == 0, PATIENCE, "nothing waits or runs")

    def seen(self) -> set[float]:
        return {float(number) for number in Path(self.folder, "seen").read_text().split()}


@fault(
    "leavers",
    promise="A caller who leaves while the request waits is never executed; one who leaves while "
    "it runs costs the others of the batch nothing.",
    bar="0 of those who left the queue executed, every mate answered right",
    per_round=2,
    each=0.5,
    priority=1,
)
def test_callers_who_leave_are_not_executed_and_their_mates_are_answered(stage: Stage) -> None:
    write_model(stage.folder, FAST, row_independent=True)
    gate = Gate(stage)
    left: list[float] = []
    # A batch whose 0 keeps it running until the gate opens.
    together = [0.0, *(float(number) for number in range(1, 9))]

    def leave() -> None:
        base = -1000.0 * (len(left) + 1)
        with gate.shut(server):
            mates = [connect(server.http, PATIENCE) for _ in range(4)]
            leavers = [connect(server.http) for _ in range(LEAVERS)]
            for number, caller in enumerate(leavers):
                caller.sendall(message("gated", base - number))
            for number, caller in enumerate(mates):
                caller.sendall(message("gated", base + 1 + number))
            everybody = 2 + len(mates) + len(leavers)
            until(lambda: in_flight(server, "gated") == everybody, PATIENCE, "all wait")
            for caller in leavers:
                caller.close()
            until(lambda: in_flight(server, "gated") == 2 + len(mates), PATIENCE, "they left")
        left.extend(base - number for number in range(LEAVERS))
        for number, caller in enumerate(mates):
            assert answered(caller) == [2 * (base + 1 + number)]
        leave_while_it_runs()

    def leave_while_it_runs() -> None:
        callers = [connect(server.http, PATIENCE) for _ in together]
        with gate.shut(server):
            for number, caller in zip(together, callers, strict=True):
                caller.sendall(message("gated", number))
            until(lambda: in_flight(server, "gated") == 2 + len(callers), PATIENCE, "all wait")
            for caller in callers[::2]:
                caller.close()
        for number, caller in list(zip(together, callers, strict=True))[1::2]:
            assert answered(caller) == [2 * number]

    with stage.serving(stage.folder) as server:
        stage.repeat(server, leave, "m")
    executed = sorted(gate.seen() & set(left))
    stage.record(left_the_queue=len(left), of_them_executed=len(executed))
    assert executed == []


def answered(caller: socket.socket) -> list[float]:
    """The numbers of the answer that a caller gets; closes the connection."""
    with caller, caller.makefile("rb") as file:
        assert b" 200 " in file.readline()
        length = 0
        while (line := file.readline().strip()) != b"":
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        found = json.loads(file.read(length))["outputs"][0]["data"]
    return [float(number) for number in found]


@fault(
    "expired",
    promise="A request whose deadline passes while it waits is refused then, and never executed, "
    "over REST and gRPC.",
    bar="0 of 10,000 executed",
    per_round=2,
    each=0.4,
    priority=1,
)
def test_requests_whose_deadline_passes_in_the_queue_are_never_executed(stage: Stage) -> None:
    write_model(stage.folder, FAST, row_independent=True)
    gate = Gate(stage)
    expired: list[float] = []

    def expire() -> None:
        numbered = [-1.0 - len(expired) - number for number in range(LEAVERS)]
        with gate.shut(server):
            callers = [connect(server.http, PATIENCE) for _ in numbered[::2]]
            for number, caller in zip(numbered[::2], callers, strict=True):
                caller.sendall(message("gated", number, "X-Request-Timeout: 0.1"))
            calls = [rpc.future(grpc_message(number), timeout=0.1) for number in numbered[1::2]]
            for caller in callers:
                with caller:
                    assert b" 504 " in caller.recv(65536).partition(b"\r\n")[0]
            for call in calls:
                assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        expired.extend(numbered)

    with (
        stage.serving(stage.folder) as server,
        grpc.insecure_channel(server.announced["grpc"]) as channel,
    ):
        rpc = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        stage.repeat(server, expire, "m")
    executed = sorted(gate.seen() & set(expired))
    stage.record(expired=len(expired), of_them_executed=len(executed))
    assert executed == []


def grpc_message(number: float) -> pb.ModelInferRequest:
    asked = pb.ModelInferRequest(model_name="gated")
    asked.inputs.add(name="x", datatype="FP64", shape=[1])
    asked.raw_input_contents.append(struct.pack("<d", number))
    return asked


# Of HTTP and gRPC half each, and the fewest that show anything.
IDLE, FEWEST_IDLE = 2000, 200
# Descriptors that this process and the server need besides.
RESERVED = 500
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@fault(
    "idle-connections",
    promise="Thousands of idle connections, half of them HTTP and half gRPC, cost those that are "
    "used nothing, and are given back.",
    bar="0 failed beside 2,000, at most 32 KiB of memory for each",
    each=1.5,
)
def test_idle_connections_cost_the_others_nothing(stage: Stage) -> None:
    folder = write_model(stage.folder, FAST, row_independent=True)
    taken = []

    def idle(load: SteadyLoad) -> None:
        before = resident_mb(server.process.pid)
        with ExitStack() as stack:
            callers = [stack.enter_context(idle_caller(server, n % 2 == 0)) for n in range(count)]
            taken.append((resident_mb(server.process.pid) - before) * 1024 / count)
            load.wait_answers(int(RATE))
            for caller in callers:
                assert is_open(caller)

    with stage.serving(folder) as server, descriptors_for(IDLE) as count:
        with stage.under_load(server) as load:
            idle(load)
        with stage.leaving_nothing(server), stage.under_load(server) as load:
            for _ in range(stage.times):
                idle(load)
    stage.record(idle_connections=count, memory_for_each=f"{max(taken):.1f} KiB")


@contextmanager
def descriptors_for(connections: int) -> Iterator[int]:
    """Let this process open so many connections, or those that the system allows; how many.

    The server raises its own limit, and has the same.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else connections + RESERVED
    count = min(connections, most - RESERVED)
    if count < FEWEST_IDLE:
        pytest.skip(f"a process may have {hard} descriptors, too few for idle connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + RESERVED), hard))
    try:
        yield count
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def idle_caller(server: Server, over_http: bool) -> socket.socket:
    """A connection that was answered once, and is ready for a request."""
    caller = connect(server.http if over_http else f"http://{server.announced['grpc']}", PATIENCE)
    caller.sendall(LIVE if over_http else frames.PREFACE + frames.settings({}))
    assert caller.recv(65536)
    return caller


def is_open(caller: socket.socket) -> bool:
    """Whether the server has not closed a connection; what it has sent on it is read."""
    caller.setblocking(False)
    try:
        while caller.recv(65536):
            pass
    except BlockingIOError:
        return True
    return False


ROWS, BATCH_SECONDS = 4, 0.05
CAPACITY = ROWS / BATCH_SECONDS
TIMES = 10


@fault(
    "overflow",
    promise="Ten times as many requests as a model can answer: those beyond the queue are refused "
    "with 503 and Retry-After, and the others are answered right.",
    bar="goodput 90 % of the capacity, 99 % of the rejections within 10 ms",
    # Five minutes in all, of fifty rounds.
    per_round=6,
    each=1.0,
    priority=1,
)
def test_a_full_queue_refuses_and_the_model_keeps_its_pace(stage: Stage) -> None:
    paced = f"time.sleep({BATCH_SECONDS})\nreturn x * 2"
    folder = write_model(stage.folder, paced, row_independent=True, max_batch_size=ROWS)
    with stage.serving(folder, "--max-queue-size", 16) as server:
        with stage.under_load(server, may=FULL, rate=TIMES * CAPACITY):
            pass
        with (
            stage.leaving_nothing(server),
            stage.under_load(server, may=FULL, rate=TIMES * CAPACITY) as load,
        ):
            load.wait_answers(int(TIMES * CAPACITY * stage.times))
        assert ask(server.http, "GET", "/v2/health/ready").status == 200
    goodput = stage.load["outcomes"]["right"] / load.seconds / CAPACITY
    stage.record(goodput=f"{goodput:.0%} of {CAPACITY:g} requests a second")
    assert stage.load["refused"] > 0
