"""Servers that stop, are killed, or cannot start"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

from benchmarks.steady_clients import GrpcClient, RestClient

from support.asking import ask, numbers
from support.custom import write_model
from support.fault_table import fault
from support.services import in_flight
from support.serving import Server, starting, until
from support.stage import Stage

IN_FLIGHT = {"REST": 80, "gRPC": 80, "streams": 40}
WAIT = "while not os.path.exists(f'{HERE}/go'): time.sleep(0.005)\n"
STREAM = f"""
    def predict_stream(self, x: np.ndarray):
        for piece in range(3):
            yield x * 2
            {WAIT}
"""
PORTS = {"--http-port": "http", "--grpc-port": "grpc", "--metrics-port": "metrics"}
GONE = 60.0


@fault(
    "drain",
    promise="SIGTERM with 200 requests in flight over REST, gRPC and streams: each is answered, "
    "and the server exits with 0.",
    bar="0 failed, exit within 1 s of the last answer",
    each=3.0,
    priority=1,
)
def test_a_server_that_stops_answers_what_is_in_flight(stage: Stage) -> None:
    waits = WAIT + "return x * 2"
    folder = write_model(stage.folder, waits, row_independent=True, max_batch_size=64)
    with (folder / "custom_m.py").open("a") as source:
        source.write(STREAM)
    go = folder / "go"
    exits = []
    for _ in range(stage.times):
        with stage.serving(folder) as server:
            go.unlink(missing_ok=True)
            outcomes, last = asyncio.run(drained(server, go))
            assert server.wait(GONE) == 0
            exits.append(time.monotonic() - last)
            assert outcomes == ["right"] * sum(IN_FLIGHT.values())
    stage.load.update(requests=stage.times * sum(IN_FLIGHT.values()), failed=0, wrong=0)
    stage.record(
        in_flight_each_time=", ".join(f"{count} {of}" for of, count in IN_FLIGHT.items()),
        exit_after_the_last_answer_at_the_latest=f"{max(exits):.2f} s",
    )


async def drained(server: Server, go: Path) -> tuple[list[str], float]:
    """What came of the requests in flight when the server got SIGTERM, and when the last ended.

    The model answers once the file `go` is there.
    """
    rest, rpc = RestClient(server.http), GrpcClient(server.announced["grpc"])
    begun: list[float] = []
    asks = [
        *(rest.ask("m", float(number)) for number in range(IN_FLIGHT["REST"])),
        *(rpc.ask("m", float(number)) for number in range(IN_FLIGHT["gRPC"])),
        *(streamed(server, float(number), begun) for number in range(IN_FLIGHT["streams"])),
    ]
    tasks = [asyncio.create_task(each) for each in asks]
    while len(begun) < IN_FLIGHT["streams"]:
        await asyncio.sleep(0.01)
    while await asyncio.to_thread(in_flight, server, "m") < len(tasks) - len(begun):
        await asyncio.sleep(0.01)
    server.signal()
    while "draining" not in server.log():
        await asyncio.sleep(0.01)
    go.touch()
    outcomes = await asyncio.gather(*tasks)
    last = time.monotonic()
    await rest.close()
    await rpc.close()
    return outcomes, last


async def streamed(server: Server, number: float, begun: list[float]) -> str:
    """Ask for a stream and check its three pieces; `begun` gets its number with the first."""
    port = int(server.http.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(numbers(number)).encode()
    head = "POST /v2/models/m/infer_stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    first = await reader.readuntil(b"data: ")
    begun.append(number)
    text = (first + await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    pieces = [line for line in text.splitlines() if line.startswith("data: ")]
    right = [json.loads(piece[6:])["outputs"][0]["data"] for piece in pieces] == [[2 * number]] * 3
    return "right" if right and text.startswith("HTTP/1.1 200 ") else f"wrong: {text}"


@fault(
    "second-signal",
    promise="A second SIGTERM ends a server that still drains at once, with a status of its own, "
    "and leaves no process behind.",
    bar="50 times within 2 s, nothing left",
    each=1.5,
)
def test_a_second_signal_ends_a_draining_server_and_its_workers(stage: Stage) -> None:
    folder = write_model(stage.folder, "time.sleep(600)")
    taken = []
    with ThreadPoolExecutor(stage.times) as pool:
        for _ in range(stage.times):
            with stage.serving(folder, exit_code=None) as server:
                pool.submit(ask, server.http, "POST", "/v2/models/m/infer", numbers(1))
                until(lambda server=server: in_flight(server, "m") == 1, GONE, "it is in flight")
                server.signal()
                until(lambda server=server: "draining" in server.log(), GONE, "it drains")
                began = time.monotonic()
                server.signal()
                assert server.wait(GONE) != 0
                until(lambda server=server: not server.workers(), GONE, "no process is left")
                taken.append(time.monotonic() - began)
    stage.record(gone_at_the_latest_after=f"{max(taken):.2f} s")


@fault(
    "server-killed",
    promise="A server that is killed takes its workers with it, and the next one finds its ports "
    "free.",
    bar="50 times, every worker gone within 2 s, nothing left",
    each=1.6,
    priority=1,
)
def test_no_worker_outlives_a_server_that_is_killed(stage: Stage) -> None:
    folder = write_model(stage.folder, "time.sleep(600)", instances=2)
    taken, ports = [], ["--http-port", "0", "--metrics-port", "0"]
    with ThreadPoolExecutor(stage.times) as pool:
        for _ in range(stage.times):
            with stage.serving(
                folder, "--parallel-workers", 2, exit_code=None, ports=ports
            ) as server:
                pool.submit(ask, server.http, "POST", "/v2/models/m/infer", numbers(1))
                until(lambda server=server: in_flight(server, "m") == 1, GONE, "it is in flight")
                began = time.monotonic()
                server.signal(signal.SIGKILL)
                server.wait(GONE)
                until(lambda server=server: not server.workers(), GONE, "no worker is left")
                taken.append(time.monotonic() - began)
            ports = ["--http-port", server.http.rpartition(":")[2], "--metrics-port", "0"]
    left = [str(path) for path in stage.scratch.rglob("*") if path.is_file()]
    stage.record(workers_gone_at_the_latest_after=f"{max(taken):.2f} s", files_left=len(left))
    assert left == []


@fault(
    "port-in-use",
    promise="A port that is taken ends the start before any model loads, with a message that names "
    "the port and its flag.",
    bar="50 times, exit within 1 s",
    each=0.9,
)
def test_a_port_that_is_taken_is_named_before_any_model_loads(stage: Stage) -> None:
    folder = write_model(stage.folder, load="open(f'{HERE}/loaded', 'w').close()")
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        for _, flag in zip(range(stage.times), cycle(PORTS)):
            others = [part for other in PORTS if other != flag for part in (other, 0)]
            began = time.monotonic()
            with starting(folder, ports=[*map(str, others), flag, str(port)]) as server:
                assert server.wait(GONE) != 0
                taken.append(time.monotonic() - began)
                assert f"port {port}" in server.log(), server.log()
                assert flag in server.log(), server.log()
                until(lambda server=server: not server.workers(), GONE, "no worker is left")
    stage.record(exit_after_at_the_latest=f"{max(taken):.2f} s")
    assert not (folder / "loaded").exists()
