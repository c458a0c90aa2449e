"""Uploads that never end: both transports bound what they hold, and others get through."""

from __future__ import annotations

import contextlib
import gzip
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest

from headrace.grpc import http2_frames as frames
from headrace.protocol.open_inference import inference_pb2 as pb
from support.asking import Answer, Client, ask, connect, numbers
from support.custom import write_model
from support.http2_client import begin, data, message
from support.serving import Server, serving, until

pytestmark = pytest.mark.e2e

INFER = "/v2/models/m/infer"
CALL = b"/inference.GRPCInferenceService/ModelInfer"
MIB = 1024 * 1024
# With this budget, eight uploads of the largest size fit.
LIMITS = ("--max-body-size", 8 * MIB, "--max-receive-bytes", 64 * MIB)
MANY = 30


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path, "return x")


def head(size: int, more: str = "") -> bytes:
    return f"POST {INFER} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {size}\r\n\r\n".encode()


def memory(server: Server) -> int:
    """Bytes of the front process in memory."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in text.splitlines() if "VmRSS" in line)


def send_all(sock: socket.socket, sent: bytes) -> bool:
    """Whether the server has taken all of it within a moment."""
    sock.settimeout(0.5)
    try:
        sock.sendall(sent)
    except TimeoutError:
        return False
    finally:
        sock.settimeout(60)
    return True


@contextlib.contextmanager
def unfinished(server: Server, count: int = MANY) -> Iterator[list[socket.socket]]:
    """So many uploads of 8 MiB each, of which the last bytes never come."""
    with contextlib.ExitStack() as stack:
        uploads = []
        for _ in range(count):
            sock = stack.enter_context(connect(server.http, 60))
            with contextlib.suppress(ConnectionError):
                send_all(sock, head(8 * MIB) + bytes(8 * MIB - 100))
            uploads.append(sock)
        yield uploads


@contextlib.contextmanager
def unfinished_calls(server: Server, count: int = MANY) -> Iterator[socket.socket]:
    """One connection with so many messages, which the server lets the client send parts of."""
    host, port = server.announced["grpc"].split(":")
    with socket.create_connection((host, int(port)), 60) as sock:
        sock.sendall(frames.PREFACE + frames.settings({}))
        whole = message(bytes(8 * MIB - 100), size=8 * MIB)
        numbers_of = range(1, 2 * count, 2)
        left = dict.fromkeys(numbers_of, whole)
        windows = dict.fromkeys(numbers_of, frames.DEFAULT_WINDOW)
        sock.sendall(b"".join(begin(number, CALL) for number in numbers_of))
        received = b""
        sock.settimeout(1)
        while True:
            for number in numbers_of:
                while left[number] and windows[number]:
                    size = min(16_384, windows[number])
                    part, left[number] = left[number][:size], left[number][size:]
                    windows[number] -= len(part)
                    sock.sendall(data(number, part))
            try:
                received += sock.recv(65536)
            except TimeoutError:
                break
            while len(received) >= 9 + (size := int.from_bytes(received[:3])):
                frame, received = received[: 9 + size], received[9 + size :]
                number = int.from_bytes(frame[5:9])
                if frame[3] == frames.WINDOW_UPDATE and number:
                    windows[number] += int.from_bytes(frame[9:])
        yield sock


def small_requests_pass(server: Server) -> None:
    """Small requests are answered, in one piece and in two, over HTTP and gRPC."""
    with Client(server.http) as client:
        assert client.ask("GET", "/v2/health/live").status == 200
        assert client.ask("GET", "/v2/health/ready").status == 200
        assert client.ask("POST", INFER, numbers(*range(500))).status == 200
    body = numbers(*range(5000))
    with Client(server.http) as client:
        assert client.ask("POST", INFER, body).status == 200
    with grpc.insecure_channel(server.announced["grpc"]) as channel:
        infer = channel.unary_unary(
            CALL.decode(),
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        x = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[5000])
        asked = pb.ModelInferRequest(
            model_name="m", inputs=[x], raw_input_contents=[bytes(8 * 5000)]
        )
        assert infer(asked, timeout=60).outputs[0].shape == [5000]


def answer(sock: socket.socket) -> str:
    """The first line and the fields of an answer."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while b"\r\n\r\n" not in found and (part := sock.recv(65536)):
            found += part
    return found.partition(b"\r\n\r\n")[0].decode()


def test_uploads_that_stop_hold_no_more_than_the_budget_and_give_it_back(model: Path) -> None:
    with serving(model, *LIMITS, "--body-timeout", "15") as server:
        small_requests_pass(server)
        before = memory(server)
        with unfinished(server) as uploads:
            assert memory(server) - before < 80 * MIB
            small_requests_pass(server)
            answers = [answer(sock) for sock in uploads]
            statuses = [each.split()[1] for each in answers]

            # Late ones are late by their own fault only if nobody made them wait.
            assert set(statuses) == {"408", "503"}
            assert all("retry-after" in each for each in answers if " 503 " in each)
        until(lambda: memory(server) < before + 24 * MIB, 30, "the memory is given back")
        small_requests_pass(server)
        large = ask(server.http, "POST", INFER, numbers(*range(500_000)))
        assert large.status == 200


def test_messages_that_stop_hold_no_more_than_the_budget_and_have_a_deadline(model: Path) -> None:
    with serving(model, *LIMITS, "--body-timeout", "15") as server:
        small_requests_pass(server)
        before = memory(server)
        with unfinished_calls(server) as sock:
            assert memory(server) - before < 80 * MIB
            small_requests_pass(server)
            sock.settimeout(60)
            received = b""
            while received.count(b"grpc-status") < MANY:
                received += sock.recv(65536)
            assert b"--max-receive-bytes" in received
            assert b"--body-timeout" in received
        until(lambda: memory(server) < before + 24 * MIB, 30, "the memory is given back")


def test_both_transports_share_one_budget(model: Path) -> None:
    with serving(model, *LIMITS, "--body-timeout", "20") as server:
        small_requests_pass(server)
        before = memory(server)
        with unfinished(server, 15), unfinished_calls(server, 15):
            assert memory(server) - before < 80 * MIB
            small_requests_pass(server)


def test_many_large_uploads_at_once_are_all_answered(model: Path) -> None:
    import json
    from concurrent.futures import ThreadPoolExecutor

    body = json.dumps(numbers(*[0.25] * 1_000_000)).encode()
    assert 5 * MIB < len(body) < 8 * MIB

    def upload(_: int) -> Answer:
        return ask(server.http, "POST", INFER, body)

    with serving(model, *LIMITS, "--body-timeout", "60") as server:
        with ThreadPoolExecutor(MANY) as pool:
            answers = list(pool.map(upload, range(MANY)))

        assert [each.status for each in answers] == [200] * MANY


def test_what_bodies_have_after_decompression_counts(model: Path) -> None:
    packed = gzip.compress(bytes(8 * MIB - 100))
    with serving(model, *LIMITS) as server, contextlib.ExitStack() as stack:
        before = memory(server)
        sent = []
        for _ in range(2 * MANY):
            sock = stack.enter_context(connect(server.http, 60))
            # The last bytes are missing, so what is unpacked already has to wait.
            fields = "Content-Encoding: gzip\r\n"
            sock.sendall(head(len(packed), fields) + packed[:-10])
            sent.append(sock)
        # Asked after all of them were read.
        small_requests_pass(server)
        refused = [sock for sock in sent if _has_answer(sock)]

        assert memory(server) < before + 80 * MIB
        assert len(refused) > MANY
        assert "503" in answer(refused[0])


def _has_answer(sock: socket.socket) -> bool:
    sock.settimeout(0.2)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except (TimeoutError, ConnectionError):
        return False


def test_the_port_of_metrics_answers_beside_them(model: Path) -> None:
    with serving(model, *LIMITS) as server, unfinished(server):
        assert urlsplit(server.metrics).port is not None
        assert ask(server.metrics, "GET", "/metrics").status == 200
