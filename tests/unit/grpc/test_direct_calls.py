"""Unary calls that are answered without a task, over a real connection."""

from __future__ import annotations

import asyncio
import gc
import gzip
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from headrace.access.needs import INFER
from headrace.dataplane import Call, Calls
from headrace.errors import Overloaded
from headrace.grpc import http2_frames as frames
from headrace.grpc import http2_stream
from headrace.grpc.calls import CallRunner, Rpc
from headrace.grpc.direct_handler import DirectHandler
from headrace.grpc.hpack import Decoder, indexed, literal
from headrace.grpc.http2_frames import Fault
from headrace.grpc.http2_server import Http2Server
from headrace.grpc.http2_stream import Stream
from support.call_notes import Notes
from support.http2_client import CALL, Http2Client, begin, call, data, message
from support.http2_servers import echo, run

HELD = b"/test.Direct/Held"
INTERNAL, UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED = 13, 14, 8, 4


class Held:
    """A method whose calls wait until a test answers them."""

    def __init__(self) -> None:
        self.notes = Notes()
        self.runner = CallRunner(Calls((self.notes,)))
        self.began: dict[bytes, asyncio.Future[Any]] = {}

    def begin(self, body: bytes, rpc: Rpc) -> asyncio.Future[Any]:
        if body == b"refuse":
            raise Overloaded("the queue is full")
        if body == b"fail":
            raise KeyError("secret")
        self.began[body] = asyncio.get_running_loop().create_future()
        return self.began[body]

    def end(self, rpc: Rpc, result: Any) -> bytes | Coroutine[Any, Any, bytes]:
        if callable(result):
            return result(rpc)  # type: ignore[no-any-return]
        return result.encode()  # type: ignore[no-any-return]

    async def of(self, body: bytes) -> asyncio.Future[Any]:
        """The future of a call, once it has arrived."""
        while body not in self.began:
            await asyncio.sleep(0)
        return self.began[body]

    async def over(self, count: int = 1) -> list[tuple[Any, ...]]:
        """How calls have ended, once so many have."""
        while len(self.notes.ends) < count:
            await asyncio.sleep(0)
        assert not self.runner.in_flight
        return self.notes.ends


Scenario = Callable[[Http2Server, Http2Client, Held], Awaitable[None]]


def held(scenario: Scenario, **settings: Any) -> None:
    """Run a scenario with a server of that method."""

    async def with_method(server: Http2Server, client: Http2Client) -> None:
        method = Held()
        handler = DirectHandler(echo, method.runner.direct("Held", INFER, method))
        server.add_registered_method_handlers("test.Direct", {"Held": handler})
        await scenario(server, client, method)

    run(with_method, **settings)


async def fields_of(client: Http2Client, stream: int) -> dict[bytes, bytes]:
    """The next fields of an answer."""
    found = await client.next(frames.HEADERS, stream)
    return dict(Decoder().decode(found.payload, 2**20) or ())


def test_a_call_is_answered_without_a_task() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        client.send(call(1, HELD, b"hello", (b"x-request-id", b"mine")))
        future = await method.of(b"hello")
        assert method.runner.in_flight == {future}
        assert not server.tasks
        future.set_result("answer")

        await client.next(frames.HEADERS, 1)
        assert (await client.next(frames.DATA, 1)).payload == message(b"answer")
        trailers = await fields_of(client, 1)
        assert (trailers[b"grpc-status"], trailers[b"x-request-id"]) == (b"0", b"mine")
        assert await method.over() == [("answered", "OK", 5, 6)]

    held(scenario)


def test_a_caller_who_leaves_takes_its_call_back() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        client.send(call(1, HELD, b"hello"))
        future = await method.of(b"hello")
        client.send(frames.reset(1, Fault.CANCEL))

        assert await method.over() == [("left", "CANCELLED")]
        assert future.cancelled()

    held(scenario)


def test_a_caller_who_hangs_up_takes_its_call_back() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        client.send(call(1, HELD, b"hello"))
        future = await method.of(b"hello")
        await client.aclose()

        assert await method.over() == [("left", "CANCELLED")]
        assert future.cancelled()

    held(scenario)


@pytest.mark.parametrize("outcome", ["answer", Overloaded("late")], ids=["answer", "error"])
def test_an_outcome_for_a_caller_who_has_just_left_is_dropped(outcome: Any) -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        client.send(call(1, HELD, b"hello"))
        future = await method.of(b"hello")
        (connection,) = server.connections
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        connection.streams[1].cancel()

        assert await method.over() == [("left", "CANCELLED")]

    held(scenario)


def test_a_deadline_ends_a_call_that_waits() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        client.send(call(1, HELD, b"hello", (b"grpc-timeout", b"10m")))

        assert await client.status(1) == (DEADLINE_EXCEEDED, "Deadline Exceeded")
        assert await method.over() == [("left", "CANCELLED")]
        assert method.began[b"hello"].cancelled()

    held(scenario)


def test_an_error_is_one_block_of_fields() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        client.send(call(1, HELD, b"refuse", (b"x-request-id", b"mine")))
        found = await client.next(frames.HEADERS, 1)
        fields = dict(Decoder().decode(found.payload, 2**20) or ())

        assert found.flags & frames.END_STREAM
        assert (fields[b"grpc-status"], fields[b"grpc-message"]) == (b"14", b"the queue is full")
        assert (fields[b"x-error-code"], fields[b"x-request-id"]) == (b"overloaded", b"mine")
        assert await method.over() == [("refused", "UNAVAILABLE", "overloaded")]

    held(scenario)


def test_an_error_may_come_later() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        client.send(call(1, HELD, b"hello"))
        (await method.of(b"hello")).set_exception(Overloaded("the queue is full"))

        assert await client.status(1) == (UNAVAILABLE, "the queue is full")
        assert await method.over() == [("refused", "UNAVAILABLE", "overloaded")]

    held(scenario)


@pytest.mark.parametrize("sent", [b"fail", b"hello"], ids=["beginning", "ending"])
def test_a_bug_is_internal_and_says_nothing(sent: bytes) -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        client.send(call(1, HELD, sent))
        if sent == b"hello":
            # It is no text.
            (await method.of(sent)).set_result(1)
        code, details = await client.status(1)

        assert (code, "secret" in details) == (INTERNAL, False)
        assert await method.over() == [("refused", "INTERNAL", "internal")]

    held(scenario)


def test_an_answer_may_take_a_task() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        async def answer(rpc: Rpc) -> bytes:
            await asyncio.sleep(0)
            return b"later"

        client.send(call(1, HELD, b"hello"))
        (await method.of(b"hello")).set_result(answer)

        assert (await client.next(frames.DATA, 1)).payload == message(b"later")
        assert await client.status(1) == (0, "")
        assert await method.over() == [("answered", "OK", 5, 5)]

    held(scenario)


def test_a_caller_who_leaves_ends_the_task_of_the_answer() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        entered = asyncio.Event()

        async def answer(rpc: Rpc) -> bytes:
            entered.set()
            await asyncio.Event().wait()
            return b""

        client.send(call(1, HELD, b"hello"))
        (await method.of(b"hello")).set_result(answer)
        await entered.wait()
        assert len(method.runner.in_flight) == 1
        client.send(frames.reset(1, Fault.CANCEL))

        assert await method.over() == [("left", "CANCELLED")]

    held(scenario)


def test_messages_of_many_streams_may_come_in_turns() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        numbers = range(1, 17, 2)
        bodies = {number: bytes([number]) * 40_000 for number in numbers}
        client.send(*[begin(number, HELD) for number in numbers])
        for start in range(0, 40_005, 10_000):
            for number, body in bodies.items():
                part = message(body)[start : start + 10_000]
                client.send(data(number, part, frames.END_STREAM if start == 40_000 else 0))
        for number, body in bodies.items():
            (await method.of(body)).set_result(str(number))

        for number in numbers:
            assert (await client.next(frames.DATA, number)).payload == message(b"%d" % number)
            assert await client.status(number) == (0, "")

    held(scenario)


def test_a_large_message_and_a_large_answer_follow_the_windows() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        body, answer = bytes(200_000), "a" * 1000
        client.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 100}), begin(1, HELD))
        client.send(data(1, message(body)[:16_384]))
        await client.next(frames.WINDOW_UPDATE, 1)
        rest = message(body)[16_384:]
        for start in range(0, len(rest), 16_384):
            client.send(data(1, rest[start : start + 16_384]))
        client.send(data(1, b"", frames.END_STREAM))
        (await method.of(body)).set_result(answer)

        found = (await client.next(frames.DATA, 1)).payload
        assert len(found) == 100
        client.send(frames.window_update(1, 2000))
        found += (await client.next(frames.DATA, 1)).payload
        assert found == message(answer.encode())
        assert await client.status(1) == (0, "")

    held(scenario)


def test_what_cancels_a_call_in_the_middle_of_its_message_begins_nothing() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        client.send(begin(1, HELD), data(1, message(b"hello")[:7]), frames.reset(1, Fault.CANCEL))
        client.send(data(1, message(b"hello")[7:], frames.END_STREAM))
        client.send(call(3, HELD, b"other"))
        (await method.of(b"other")).set_result("answer")

        assert await client.status(3) == (0, "")
        assert list(method.began) == [b"other"]

    held(scenario)


def test_a_header_block_may_come_in_parts() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        block = begin(1, HELD)[frames.HEADER.size :]
        client.send(frames.frame(frames.HEADERS, 0, 1, block[:10]))
        client.send(frames.frame(frames.CONTINUATION, 0, 1, block[10:20]))
        client.send(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[20:]))
        client.send(data(1, message(b"hello"), frames.END_STREAM))
        (await method.of(b"hello")).set_result("answer")

        assert await client.status(1) == (0, "")

    held(scenario)


def test_the_same_block_has_another_id_after_the_table_has_changed() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        plain = b"".join(literal(*field) for field in (*CALL[:3], (b":path", HELD), *CALL[3:]))
        first, second = (b"\x40" + literal(b"x-request-id", id)[1:] for id in (b"first", b"second"))
        newest = indexed(62)
        found = []
        for number, id in enumerate([first, newest, newest, second, newest]):
            block = plain + id
            stream, body = 2 * number + 1, b"%d" % number
            client.send(frames.headers(stream, block, 0))
            client.send(data(stream, message(body), frames.END_STREAM))
            (await method.of(body)).set_result("answer")
            await client.next(frames.DATA, stream)
            found.append((await fields_of(client, stream))[b"x-request-id"])

        assert found == [b"first", b"first", b"first", b"second", b"second"]

    held(scenario)


def test_a_compressed_message_takes_a_task() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        packed = message(gzip.compress(b"hello"), compressed=1)
        client.send(begin(1, HELD, (b"grpc-encoding", b"gzip")), data(1, packed, frames.END_STREAM))

        # The other form of the handler, which is an echo.
        assert (await client.next(frames.DATA, 1)).payload == message(b"hello")
        assert not method.began

    held(scenario, max_body_size=1000)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (begin(1, HELD) + data(1, message(bytes(2000)), frames.END_STREAM), RESOURCE_EXHAUSTED),
        (begin(1, HELD) + data(1, message(b"a", size=2), frames.END_STREAM), INTERNAL),
        (begin(1, HELD) + data(1, message(b"a") + b"b", frames.END_STREAM), INTERNAL),
        (begin(1, HELD) + data(1, b"", frames.END_STREAM), INTERNAL),
        (begin(1, HELD, flags=frames.END_STREAM), INTERNAL),
    ],
    ids=["too large", "cut off", "more", "nothing", "no data"],
)
def test_what_is_not_one_message_begins_nothing(sent: bytes, code: int) -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        client.send(sent)

        assert (await client.status(1))[0] == code
        assert not method.began

    held(scenario, max_body_size=1000)


def test_an_answer_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_stream, "LARGEST_ANSWER", 1000)

    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        client.send(call(1, HELD, b"hello"))
        (await method.of(b"hello")).set_result("a" * 1001)

        assert (await client.status(1))[0] == RESOURCE_EXHAUSTED

    held(scenario)


def test_a_drain_waits_for_calls_in_flight() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        client.send(call(1, HELD, b"hello"))
        future = await method.of(b"hello")
        stopping = asyncio.ensure_future(server.stop(30))
        await client.next(frames.GOAWAY)
        future.set_result("answer")

        assert (await client.next(frames.DATA, 1)).payload == message(b"answer")
        assert await client.status(1) == (0, "")
        await client.aclose()
        await stopping

    held(scenario)


def test_a_stop_cuts_calls_in_flight_and_says_so() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        client.send(call(1, HELD, b"hello"))
        future = await method.of(b"hello")
        await server.stop(None)

        assert await client.status(1) == (UNAVAILABLE, "the server is stopping")
        assert future.cancelled()

    held(scenario)


def test_the_answers_of_one_turn_leave_in_one_write() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        # The first answer on a connection begins with a notice.
        client.send(call(1, HELD, b"refuse"))
        assert (await client.status(1))[0] == UNAVAILABLE
        numbers = range(3, 67, 2)
        client.send(*[call(number, HELD, b"%d" % number) for number in numbers])
        futures = [await method.of(b"%d" % number) for number in numbers]
        (connection,) = server.connections
        written: list[bytes] = []
        transport = connection._transport

        class Watched:
            def write(self, data: bytes) -> None:
                written.append(data)
                transport.write(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

        connection._transport = Watched()  # type: ignore[assignment]
        for future in futures:
            future.set_result("answer")
        for number in numbers:
            assert await client.status(number) == (0, "")

        assert len(written) == 1

    held(scenario)


async def fails(rpc: Rpc) -> bytes:
    raise Overloaded("the queue is full")


def test_calls_leave_nothing_to_the_garbage_collector() -> None:
    async def scenario(server: Http2Server, client: Http2Client, method: Held) -> None:
        outcomes: list[Any] = ["answer", Overloaded("the queue is full"), fails] * 10
        gc.collect()
        gc.disable()
        try:
            for number, outcome in enumerate(outcomes):
                client.send(call(2 * number + 1, HELD, b"%d" % number))
                future = await method.of(b"%d" % number)
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
                await client.status(2 * number + 1)
            del outcome, future
            outcomes.clear()
            method.began.clear()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = [each for each in gc.garbage if isinstance(each, (Call, Rpc, Stream))]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()

        assert not left

    held(scenario)
