"""The bytes that a whole server exchanges over HTTP: wrong lengths, compression, HEAD."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.asking import Answer, Client, ask, connect, numbers, send_raw
from support.custom import write_model
from support.serving import Server, serving

pytestmark = pytest.mark.e2e

INFER = "/v2/models/m/infer"
CAP = 200_000
GOOD = json.dumps(numbers(1, 2)).encode()
ROUTES = [
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/m",
    "/v2/models/m/ready",
    "/v2/models/m/versions/3",
    "/v2/models/m/versions/3/ready",
    "/ping",
    "/health",
    "/version",
    "/openapi.json",
    "/metrics",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_model(tmp_path_factory.mktemp("wire"), parameters={"version": "3"})
    limits = ("--max-body-size", CAP, "--body-timeout", 1, "--header-timeout", 1)
    with serving(folder, *limits) as running:
        yield running


def require_well(server: Server) -> None:
    assert ask(server.http, "GET", "/v2/health/live").status == 200
    assert doubled(ask(server.http, "POST", INFER, GOOD)) == [2.0, 4.0]


def doubled(answer: Answer) -> list[float]:
    assert answer.status == 200, answer
    data: list[float] = answer.json["outputs"][0]["data"]
    return data


def head(*fields: str, path: str = INFER) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def test_a_chunked_body_is_read(server: Server) -> None:
    body = b"".join(chunk(GOOD[i : i + 7]) for i in range(0, len(GOOD), 7)) + b"0\r\n\r\n"
    answer = send_raw(server.http, head("Transfer-Encoding: chunked") + body)

    assert answer is not None
    assert doubled(answer) == [2.0, 4.0]


def test_a_chunked_body_beyond_the_cap_is_refused_before_its_end(server: Server) -> None:
    body = chunk(b" " * 65_536) * 4
    answer = send_raw(server.http, head("Transfer-Encoding: chunked") + body)

    assert answer is not None
    assert answer.status == 413
    assert "--max-body-size" in answer.json["error"]
    require_well(server)


def test_a_declared_length_beyond_the_cap_is_refused_before_the_body(server: Server) -> None:
    answer = send_raw(server.http, head("Content-Length: 999999999999"))

    assert answer is not None
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    require_well(server)


@pytest.mark.parametrize("half_close", [False, True], ids=["client waits", "client half-closes"])
def test_a_length_longer_than_the_body_ends_in_time(server: Server, half_close: bool) -> None:
    answer = send_raw(
        server.http, head(f"Content-Length: {len(GOOD) + 10}") + GOOD, half_close=half_close
    )

    assert answer is None or answer.status in (400, 408), answer
    require_well(server)


def test_a_length_shorter_than_the_body_is_refused_after_the_cut_request(server: Server) -> None:
    with connect(server.http) as sock:
        sock.sendall(head(f"Content-Length: {len(GOOD) - 10}") + GOOD)
        sock.settimeout(5)
        received = b""
        while part := sock.recv(65_536):
            received += part

    assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"400", b"400"]
    require_well(server)


@pytest.mark.parametrize(
    "fields",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: -5",),
        ("Content-Length: five",),
        ("Content-Length: 99999999999999999999999999",),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: chunked, chunked",),
        ("X: a\x00b",),
        ("X Y: z",),
        (" X: y",),
    ],
    ids=repr,
)
def test_an_ambiguous_head_is_refused(server: Server, fields: tuple[str, ...]) -> None:
    answer = send_raw(server.http, head(*fields) + b"01234")

    assert answer is not None
    assert answer.status in (400, 413, 501), answer
    assert answer.headers["connection"] == "close"
    assert isinstance(answer.json["error"], str)
    require_well(server)


def test_a_head_beyond_the_cap_is_refused(server: Server) -> None:
    answer = send_raw(server.http, head("X: " + "y" * 20_000))

    assert answer is not None
    assert answer.status == 431
    assert "--max-header-size" in answer.json["error"]
    require_well(server)


def test_errors_of_the_scoring_route_have_its_form_even_before_the_body(server: Server) -> None:
    answer = send_raw(server.http, head("Content-Length: 999999999999", path="/invocations"))

    assert answer is not None
    assert answer.status == 413
    assert answer.json["error_code"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_a_compressed_body_is_read(server: Server, encoding: str, pack: object) -> None:
    assert callable(pack)
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}

    assert doubled(ask(server.http, "POST", INFER, pack(GOOD), headers)) == [2.0, 4.0]


def test_a_large_answer_is_compressed_for_clients_that_ask(server: Server) -> None:
    values = [float(n) for n in range(10_000)]
    packed = ask(server.http, "POST", INFER, numbers(*values), {"Accept-Encoding": "gzip"})
    plain = ask(server.http, "POST", INFER, numbers(*values))

    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    unpacked = packed._replace(body=gzip.decompress(packed.body))
    assert doubled(unpacked) == doubled(plain) == [2 * value for value in values]


@pytest.mark.parametrize("route", ROUTES)
def test_head_answers_like_get_without_the_body(server: Server, route: str) -> None:
    with Client(server.http) as client:
        got = client.ask("GET", route)
        asked = client.ask("HEAD", route)
        after = client.ask("GET", route)

    assert got.status == asked.status == after.status == 200
    assert asked.body == b""
    assert asked.headers["content-type"] == got.headers["content-type"]
    assert got.body


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    bodies = [json.dumps(numbers(nonce)).encode() for nonce in range(10)]
    sent = b"".join(head(f"Content-Length: {len(body)}") + body for body in bodies)
    with connect(server.http) as sock:
        sock.sendall(sent + head("Content-Length: 0", "Connection: close"))
        received = b""
        while part := sock.recv(65_536):
            received += part

    found = [json.loads(part.split(b"\r\n\r\n")[1]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert [answer["outputs"][0]["data"] for answer in found[:-1]] == [
        [2.0 * nonce] for nonce in range(10)
    ]
    assert "error" in found[-1]


def test_slow_senders_do_not_slow_the_others(server: Server) -> None:
    slow = [connect(server.http) for _ in range(100)]
    for sock in slow:
        sock.sendall(head(f"Content-Length: {len(GOOD)}") + GOOD[:5])
    with ThreadPoolExecutor(4) as threads:
        answers = list(
            threads.map(lambda nonce: ask(server.http, "POST", INFER, numbers(nonce)), range(50))
        )

    assert [doubled(answer) for answer in answers] == [[2.0 * nonce] for nonce in range(50)]
    for sock in slow:
        sock.settimeout(5)
        assert b" 408 " in sock.recv(4096)
        sock.close()
