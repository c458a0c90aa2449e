"""Callers who leave, and servers that stop, in the middle of a request: one line each, no noise."""

from __future__ import annotations

import gzip
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from support.asking import ask, connect, numbers
from support.custom import write_model
from support.serving import Server, serving, until

pytestmark = pytest.mark.e2e

INFER = "/v2/models/m/infer"
LOGGING = ("--access-log", "--log-format", "json")


def lines(server: Server, request_id: str) -> list[dict[str, Any]]:
    found = [json.loads(text) for text in server.log().splitlines() if text[:1] == "{"]
    return [each for each in found if each.get("request_id") == request_id]


def settled(server: Server) -> None:
    """Have everything logged that came before: one more request, and its line."""
    ask(server.http, "GET", "/v2", None, {"X-Request-Id": "after"})
    until(lambda: lines(server, "after"), 60, "the line of a later request")


@pytest.mark.parametrize("head", ["GET /v2", "POST /v2/repository/index", "GET /nowhere"])
def test_a_body_that_never_comes_is_one_line_whoever_answers(tmp_path: Path, head: str) -> None:
    with serving(write_model(tmp_path), *LOGGING, "--body-timeout", "1") as server:
        with connect(server.http, 60) as caller:
            text = f"{head} HTTP/1.1\r\nHost: x\r\nX-Request-Id: cut\r\nContent-Length: 9\r\n\r\n{{"
            caller.sendall(text.encode())
            while caller.recv(65536):
                pass
        until(lambda: lines(server, "cut"), 60, "the line of the request")
        settled(server)

        assert len(lines(server, "cut")) == 1


def test_a_caller_who_leaves_with_requests_in_the_pipeline_makes_no_noise(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, "time.sleep(0.2)\nreturn x"), *LOGGING) as server:
        body = json.dumps(numbers(1)).encode()
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with connect(server.http) as caller:
            caller.sendall(b"GET /v2/models/m HTTP/1.1\r\nHost: x\r\n\r\n" + (head + body) * 5)
        settled(server)

        assert "Traceback" not in server.log()
        assert "without starting response" not in server.log()


def test_a_request_whose_body_is_half_there_is_answered_before_the_server_stops(
    tmp_path: Path,
) -> None:
    body = json.dumps(numbers(3)).encode()
    with serving(write_model(tmp_path), *LOGGING) as server, connect(server.http, 60) as caller:
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        caller.sendall(head + body[:10])
        # Its answer shows that the first bytes have been read.
        settled(server)
        server.signal()
        until(lambda: "draining" in server.log(), 60, "the server begins to stop")
        caller.sendall(body[10:])

        assert caller.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert server.wait(60) == 0


def test_nothing_runs_for_a_caller_who_left_while_the_body_was_inflated(tmp_path: Path) -> None:
    numbers_sent = {"name": "x", "datatype": "FP64", "shape": [2_000_000], "data": [0] * 2_000_000}
    body = gzip.compress(json.dumps({"inputs": [numbers_sent]}).encode(), 1)
    fields = f"X-Request-Id: gone\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n"
    with serving(write_model(tmp_path), *LOGGING) as server:
        with connect(server.http) as caller:
            caller.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode() + body)
        until(lambda: lines(server, "gone"), 60, "the line of the request")

        assert [line["status"] for line in lines(server, "gone")] == [499]


def test_a_client_that_sends_nothing_more_gets_its_answers(tmp_path: Path) -> None:
    def request(count: int) -> bytes:
        body = json.dumps(numbers(*range(count))).encode()
        return (
            f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    with serving(write_model(tmp_path, "time.sleep(0.05)\nreturn x")) as server:
        # Small ones take the direct path; large ones, and those behind another, that of ASGI.
        for sent in (request(1), request(50_000), request(1) + request(50_000) + request(2)):
            with connect(server.http, 60) as caller:
                caller.sendall(sent)
                caller.shutdown(socket.SHUT_WR)
                found = b""
                while part := caller.recv(65536):
                    found += part

            assert found.count(b"HTTP/1.1 200 ") == sent.count(b"POST ")


def test_requests_that_wait_are_withdrawn_when_their_callers_leave(tmp_path: Path) -> None:
    body = json.dumps(numbers(1)).encode()
    model = write_model(tmp_path, "time.sleep(2)\nreturn x")
    with serving(model, *LOGGING) as server:
        callers = []
        for number in range(20):
            fields = f"Host: x\r\nX-Request-Id: n{number}\r\nContent-Length: {len(body)}\r\n\r\n"
            caller = connect(server.http, 60)
            caller.sendall(f"POST {INFER} HTTP/1.1\r\n{fields}".encode() + body)
            callers.append(caller)
        for caller in callers:
            caller.close()
        until(lambda: all(lines(server, f"n{n}") for n in range(20)), 60, "a line of each")

        assert {line["status"] for n in range(20) for line in lines(server, f"n{n}")} == {499}
