"""The bytes of an answer, for requests with and without a task."""

from __future__ import annotations

import asyncio
import logging
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.adapters.adapter import JSON_HEADERS, Reply
from headrace.http.cycle import AnswerHeads, Cycle, DirectCycle

DATE = "Mon, 01 Jan 2035 00:00:00 GMT"
LENGTH = (b"content-length", b"2")


class FakeTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class FakeConnection:
    """A connection as a direct cycle sees it."""

    def __init__(self, closes: bool = False) -> None:
        self.transport = FakeTransport()
        self.close = self.transport.close
        self.server_state = AnswerHeads()
        self.server_state.refresh(DATE, closes)
        self.completed = 0

    def on_response_complete(self) -> None:
        self.completed += 1


def directly(connection: FakeConnection, reply: Reply, keep_alive: bool = True) -> list[bytes]:
    """The lines of the head, and then the body, of an answer without a task."""
    cycle = DirectCycle(connection)
    cycle.begin(keep_alive)
    cycle.answer(reply, "id-1")
    (written,) = connection.transport.writes
    head, body = written.split(b"\r\n\r\n")
    return [*head.split(b"\r\n"), body]


def cycle_on(transport: Any, method: str, version: str, **more: Any) -> Cycle:
    return Cycle(
        scope={"method": method, "http_version": version},  # type: ignore[typeddict-item]
        transport=transport,
        flow=SimpleNamespace(  # type: ignore[arg-type]
            write_paused=False, resume_reading=lambda: None
        ),
        logger=logging.getLogger("unused"),
        access_logger=logging.getLogger("unused"),
        access_log=False,
        default_headers=more.get("default_headers", []),
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=more.get("keep_alive", True),
        on_response=lambda: None,
    )


def by_task(*messages: Any, method: str = "POST", version: str = "1.1", **more: Any) -> Any:
    """The writes of an answer with a task, and whether the connection was then closed."""
    transport = FakeTransport()

    async def body() -> None:
        cycle = cycle_on(transport, method, version, **more)
        for message in messages:
            await cycle.send(message)

    asyncio.run(body())
    return transport.writes, transport.closed


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Any:
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(body: bytes, more: bool = False) -> Any:
    return {"type": "http.response.body", "body": body, "more_body": more}


def test_a_prepared_head_has_the_lines_of_any_other() -> None:
    prepared, other = FakeConnection(), FakeConnection()
    first, *lines, body = directly(prepared, Reply(200, JSON_HEADERS, b"{}"))
    # The same fields, but not the list that the prepared head is for.
    first_other, *other_lines, other_body = directly(other, Reply(200, [*JSON_HEADERS], b"{}"))

    assert first == first_other == b"HTTP/1.1 200 OK"
    assert sorted(lines) == sorted(other_lines)
    assert body == other_body == b"{}"
    assert (b"content-length: 2" in lines, b"x-request-id: id-1" in lines) == (True, True)


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize("keep_alive", [False, True])
def test_a_connection_closes_if_server_answer_or_client_says_so_and_announces_it_once(
    closes: bool, refuses: bool, keep_alive: bool
) -> None:
    connection = FakeConnection(closes)
    fields = [*JSON_HEADERS, (b"connection", b"close")] if refuses else JSON_HEADERS
    lines = directly(connection, Reply(200, fields, b"{}"), keep_alive)
    ends = closes or refuses or not keep_alive

    assert lines.count(b"connection: close") == ends
    assert connection.transport.closed is ends
    assert connection.completed == 1


def test_nothing_is_written_to_a_connection_that_closes() -> None:
    connection = FakeConnection()
    connection.close()
    cycle = DirectCycle(connection)
    cycle.begin(True)
    cycle.answer(Reply(200, JSON_HEADERS, b"{}"), "id-1")

    assert (connection.transport.writes, connection.completed) == ([], 0)


def test_an_answer_of_known_length_is_one_write() -> None:
    writes, closed = by_task(start(LENGTH), part(b"{}"))

    assert writes == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"]
    assert not closed


def test_the_head_of_an_answer_of_unknown_length_goes_out_before_its_chunks() -> None:
    writes, _ = by_task(start(), part(b"abc", more=True), part(b""))

    assert writes == [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
    ]


def test_http_1_0_has_no_chunks() -> None:
    writes, closed = by_task(start(), part(b"abc"), version="1.0", keep_alive=False)

    assert b"".join(writes) == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"
    assert closed


@pytest.mark.parametrize(
    ("method", "head"),
    [("HEAD", start(LENGTH)), ("POST", start(status=204)), ("POST", start(status=304))],
    ids=["HEAD", "204", "304"],
)
def test_an_answer_that_may_have_no_body_has_none(method: str, head: Any) -> None:
    body = b"{}" if method == "HEAD" else b""
    writes, _ = by_task(head, part(body), method=method)

    assert b"".join(writes).endswith(b"\r\n\r\n")
    assert b"chunked" not in b"".join(writes)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([start(LENGTH), part(b"abc")], "longer"),
        ([start(LENGTH), part(b"a")], "shorter"),
        ([start((b"x-a", b"1\r\nx-b: 2"))], "line break"),
        ([part(b"abc")], "out of order"),
        ([start(), start()], "out of order"),
    ],
    ids=["long", "short", "split", "no head", "two heads"],
)
def test_an_answer_that_would_break_the_connection_is_a_bug(messages: Any, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        by_task(*messages)


@pytest.mark.parametrize("size", [1, 2, 500, 5000])
def test_a_body_in_many_parts_takes_little_more_memory_than_its_bytes(size: int) -> None:
    parts = [bytes([number % 251]) * size for number in range(400_000 // size)]

    async def test() -> tuple[bytes, int]:
        cycle = cycle_on(FakeTransport(), "POST", "1.1")
        receiving = asyncio.ensure_future(cycle.receive_rest(b"begun", 10**6))
        await asyncio.sleep(0)
        tracemalloc.start()
        for each in parts:
            # A new object, as the parser makes one for each part.
            cycle.take(bytes(memoryview(each)))
        cycle.more_body = False
        cycle.message_event.set()
        body, is_whole = await receiving
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert is_whole
        return body, peak

    body, peak = asyncio.run(test())
    assert body == b"begun" + b"".join(parts)
    assert peak < 3 * len(body)
