"""How RPCs run and end, with a fake context in place of a gRPC server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from headrace.access.needs import INFER, READ
from headrace.dataplane import Calls
from headrace.errors import NotFound, Overloaded
from headrace.grpc.calls import CallRunner, Rpc
from headrace.protocol.open_inference import inference_pb2 as pb
from support.call_notes import Notes

ASKED = pb.ModelReadyRequest(name="m").SerializeToString()


class Aborted(Exception):
    """What a context raises to end its RPC."""


class FakeContext:
    """The context of one RPC: keeps what is written, and how the RPC was aborted."""

    def __init__(self, **metadata: str) -> None:
        self._metadata = tuple((name.replace("_", "-"), v) for name, v in metadata.items())
        self.trailing: tuple[Any, ...] = ()
        self.written: list[bytes] = []
        self.code = ""
        self.details = ""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def set_trailing_metadata(self, metadata: tuple[Any, ...]) -> None:
        self.trailing = metadata

    def peer(self) -> str:
        return "ipv4:10.0.0.9:4711"

    async def write(self, data: bytes) -> None:
        self.written.append(data)

    async def abort(self, code: Any, details: str, trailing: tuple[Any, ...]) -> None:
        self.code, self.details, self.trailing = code.name, details, trailing
        raise Aborted


async def ready(message: Any, rpc: Rpc) -> pb.ModelReadyResponse:
    return pb.ModelReadyResponse(ready=message.name == "m")


async def twice(message: Any, rpc: Rpc) -> AsyncGenerator[pb.ModelReadyResponse, None]:
    if message.name != "m":
        raise NotFound("no such model")
    for _ in range(2):
        yield pb.ModelReadyResponse(ready=True)


def unary(body: bytes, method: Any = ready, **metadata: str) -> tuple[bytes, FakeContext, Notes]:
    """Run one RPC; the answer is empty if it was aborted."""
    context, notes = FakeContext(**metadata), Notes()

    async def run() -> bytes:
        runner = CallRunner(Calls((notes,)))
        with suppress(Aborted):
            return await runner.unary("ModelReady", READ, pb.ModelReadyRequest, method)(
                body, context
            )
        return b""

    return asyncio.run(run()), context, notes


def stream(*bodies: bytes) -> tuple[FakeContext, Notes]:
    """Run one RPC whose messages each have two answers."""
    context, notes = FakeContext(), Notes()

    async def messages() -> AsyncIterator[bytes]:
        for body in bodies:
            yield body

    async def run() -> None:
        behave = CallRunner(Calls((notes,))).stream("Twice", INFER, pb.ModelReadyRequest, twice)
        with suppress(Aborted):
            await behave(messages(), context)

    asyncio.run(run())
    return context, notes


def test_an_answer_ends_its_call_with_the_sizes_of_both_messages() -> None:
    answer, context, notes = unary(ASKED, x_request_id="mine")

    assert pb.ModelReadyResponse.FromString(answer).ready
    assert context.trailing == (("x-request-id", "mine"),)
    assert notes.ends == [("answered", "OK", len(ASKED), len(answer))]


class Body(bytes):
    """Bytes that say when they are gone."""

    is_gone = False

    def __del__(self) -> None:
        Body.is_gone = True


def test_the_bytes_of_a_message_are_gone_while_its_method_works() -> None:
    found = []

    async def look(message: Any, rpc: Rpc) -> pb.ModelReadyResponse:
        found.append(Body.is_gone)
        return await ready(message, rpc)

    async def run() -> None:
        behave = CallRunner(Calls()).unary("ModelReady", READ, pb.ModelReadyRequest, look)
        await behave(Body(ASKED), FakeContext())

    Body.is_gone = False
    asyncio.run(run())
    assert found == [True]


def test_an_error_is_a_status_with_its_kind_and_the_id() -> None:
    async def refuse(message: Any, rpc: Rpc) -> None:
        raise Overloaded("the queue is full")

    _, context, notes = unary(ASKED, refuse, x_request_id="mine")

    assert (context.code, context.details) == ("UNAVAILABLE", "the queue is full")
    assert context.trailing[:2] == (("x-request-id", "mine"), ("x-error-code", "overloaded"))
    assert notes.ends == [("refused", "UNAVAILABLE", "overloaded")]


def test_a_bug_is_internal_and_says_nothing() -> None:
    async def fail(message: Any, rpc: Rpc) -> None:
        raise KeyError("secret")

    _, context, notes = unary(ASKED, fail)

    assert (context.code, "secret" in context.details) == ("INTERNAL", False)
    assert notes.ends == [("refused", "INTERNAL", "internal")]


def test_bytes_that_are_no_message_are_refused() -> None:
    _, context, notes = unary(b"\xff")

    assert context.code == "INVALID_ARGUMENT"
    assert "ModelReadyRequest" in context.details
    assert notes.ends == [("refused", "INVALID_ARGUMENT", "invalid_argument")]


def test_a_caller_who_leaves_is_no_failure_and_nothing_stays_in_flight() -> None:
    notes = Notes()

    async def run() -> None:
        arrived = asyncio.Event()

        async def wait(message: Any, rpc: Rpc) -> None:
            arrived.set()
            await asyncio.Event().wait()

        runner = CallRunner(Calls((notes,)))
        behave = runner.unary("ModelReady", READ, pb.ModelReadyRequest, wait)
        task = asyncio.ensure_future(behave(ASKED, FakeContext()))
        await arrived.wait()
        assert runner.in_flight == {task}
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)
        assert (task.cancelled(), runner.in_flight) == (True, set())

    asyncio.run(run())
    assert notes.ends == [("left", "CANCELLED")]


def test_each_message_of_a_stream_is_a_call_of_its_own() -> None:
    context, notes = stream(ASKED, ASKED)
    sent = sum(len(data) for data in context.written[:2])

    assert len(context.written) == 4
    assert notes.ends == [("answered", "OK", len(ASKED), sent)] * 2


def test_a_message_that_is_refused_ends_the_stream() -> None:
    context, notes = stream(ASKED, b"")

    assert (context.code, len(context.written)) == ("NOT_FOUND", 2)
    assert [end[0] for end in notes.ends] == ["answered", "refused"]


def test_a_stream_that_is_cut_says_why() -> None:
    notes, context = Notes(), FakeContext()

    async def run() -> None:
        waits = asyncio.Event()

        async def idle() -> AsyncIterator[bytes]:
            waits.set()
            await asyncio.Event().wait()
            yield b""

        runner = CallRunner(Calls((notes,)))
        behave = runner.stream("Twice", INFER, pb.ModelReadyRequest, twice)
        task = asyncio.ensure_future(behave(idle(), context))
        await waits.wait()
        runner.cut()
        with pytest.raises(Aborted):
            await task

    asyncio.run(run())
    assert (context.code, notes.ends) == (
        "UNAVAILABLE",
        [("refused", "UNAVAILABLE", "shutting_down")],
    )
