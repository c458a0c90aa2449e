"""Targets: what a connection reads. HTTP/1.1, HTTP/2, header compression, messages and frames."""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fuzz.target import Target
from headrace.adapters.adapter import JSON_HEADERS, Reply
from headrace.adapters.error_bodies import open_inference_error
from headrace.errors import Cancelled, HeadraceError
from headrace.executors.channel import Channel
from headrace.grpc import http2_frames as frames
from headrace.grpc import huffman
from headrace.grpc.hpack import CompressionError, Decoder, literal
from headrace.grpc.http2_connection import Http2Connection
from headrace.grpc.http2_server import Http2Server
from headrace.grpc.message_reader import MessageReader, Reception, Refused
from headrace.http.body import SOURCE, read_body
from headrace.http.connection import Connection
from headrace.http.cycle import AnswerHeads
from headrace.http.header_fields import collect
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor
from headrace.receive_budget import ReceiveBudget
from headrace.settings import ServerSettings
from headrace.worker import frames as worker_frames
from headrace.worker.frames import Kind
from support.http2_client import begin, call, data, message
from support.http2_servers import DIRECT, ECHO, HANDLERS, STREAM, Transport

LARGEST_BODY = 2000


class FakeTransport(Transport):
    """A transport that takes all at once, and knows what connections ask of one."""

    def set_protocol(self, protocol: object) -> None:
        """Nothing to do."""

    set_write_buffer_limits = set_protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Nothing to do."""


class _Loop:
    """An event loop whose tasks may not fail unseen."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._failed)
        self._failures: list[Any] = []
        self.settings = ServerSettings(max_body_size=20_000, max_receive_bytes=30_000)

    def _failed(self, loop: object, context: dict[str, Any]) -> None:
        self._failures.append(context.get("exception") or context["message"])

    def run(self, scenario: Any) -> Any:
        """Run a scenario to its end, and raise what failed beside it."""
        found = self.loop.run_until_complete(scenario)
        failures, self._failures = self._failures, []
        assert not failures, failures
        return found


_loops: list[_Loop] = []


def _loop() -> _Loop:
    if not _loops:
        _loops.append(_Loop())
        # What the server would only log is a finding here.
        logging.getLogger("headrace.http").addHandler(_Raising(logging.ERROR))
        logging.getLogger("uvicorn.error").addHandler(_Raising(logging.ERROR))
    return _loops[0]


class _Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _loops[0]._failed(None, {"message": record.getMessage(), "exception": record.exc_info})


def _refuse(path: str, scope: Any, error: HeadraceError) -> tuple[Reply, str]:
    status, body = open_inference_error(error)
    assert status < 500 or error.kind in ("overloaded", "unimplemented"), error
    return Reply(status, JSON_HEADERS, body), "id-1"


Asked = list[tuple[str, str, bytes]]


class _HttpApp:
    """An application that keeps what reaches it whole."""

    def __init__(self) -> None:
        self.asked: Asked = []
        self.config = Config(
            self,
            http=HttpToolsProtocol,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
        )
        self.config.load()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = collect(scope["headers"])
        try:
            body = await read_body(headers, receive, LARGEST_BODY, scope.get(SOURCE))
        except Cancelled:
            return
        except HeadraceError as error:
            status, body = open_inference_error(error)
        else:
            self.asked.append((scope["method"], scope["path"], body))
            status = 200
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": status, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


_http_app = _HttpApp()


async def _http(pieces: list[bytes]) -> Asked:
    """The requests that reach the application whole, from bytes that arrive in pieces."""
    here = _loop()
    budget = ReceiveBudget(here.settings.max_receive_bytes)
    state = AnswerHeads(budget=budget)
    _http_app.asked = []
    connection = Connection(_http_app.config, state, here.settings, _refuse, here.loop)
    transport = FakeTransport()
    connection.connection_made(transport)
    for piece in pieces:
        if transport.is_closing():
            break
        connection.data_received(piece)
        for _ in range(4):
            await asyncio.sleep(0)
    connection.connection_lost(None)
    for _ in range(4):
        await asyncio.sleep(0)
    for task in list(state.tasks):
        assert isinstance(task, asyncio.Task), "a request is still awaited"
        await asyncio.wait_for(task, 5)
    assert budget.held == 0
    return _http_app.asked


def http1(data: bytes) -> None:
    """Whatever the pieces are in which bytes arrive, they are the same requests."""
    if len(data) < 2:
        return
    step, text = data[0] + 1, data[1:]
    pieces = [text[start : start + step] for start in range(0, len(text), step)]
    here = _loop()
    assert here.run(_http([text])) == here.run(_http(pieces))


async def _http2(pieces: list[bytes]) -> None:
    here = _loop()
    server = Http2Server(here.settings)
    server.add_registered_method_handlers("test.Test", HANDLERS)
    connection = Http2Connection(server)
    transport = FakeTransport()

    def fail(exc: Exception) -> None:
        raise exc

    connection.fail = fail  # type: ignore[method-assign]
    connection.connection_made(transport)
    for piece in pieces:
        if not transport.is_closing():
            connection.data_received(piece)
            await asyncio.sleep(0)
    connection.connection_lost(None)
    for ended in await asyncio.gather(*server.tasks, return_exceptions=True):
        assert ended is None or isinstance(ended, asyncio.CancelledError), ended
    assert server.reception.held == 0
    assert not server.connections
    assert not connection.streams


def http2(data: bytes) -> None:
    """A connection goes on or ends, and nothing is left of it."""
    if len(data) < 2:
        return
    step, text = 8 * data[0] + 1, frames.PREFACE + frames.settings({}) + data[1:]
    pieces = [text[start : start + step] for start in range(0, len(text), step)]
    _loop().run(_http2(pieces))


def hpack(data: bytes) -> None:
    """Fields of several blocks; those that were read are read again from what we write."""
    if not data:
        return
    decoder = Decoder()
    size = data[0] + 1
    for start in range(1, len(data), size):
        fields = decoder.decode(data[start : start + size], 5000)
        assert 0 <= decoder._used <= decoder._capacity <= 4096
        if fields is not None:
            written = b"".join(literal(*field) for field in fields)
            assert Decoder().decode(written, 5000) == fields


_BITS = {format(byte, "08b"): byte for byte in range(256)}
_CODES: dict[str, int] = {}


def _codes() -> dict[str, int]:
    """The symbol of each code, as text of bits, by the canonical rule itself."""
    code = length = 0
    lengths = huffman.LENGTHS
    for symbol in sorted(range(len(lengths)), key=lambda each: (lengths[each], each)):
        code <<= lengths[symbol] - length
        length = lengths[symbol]
        _CODES[format(code, f"0{length}b")] = symbol
        code += 1
    return _CODES


def _slowly(coded: bytes) -> bytes | None:
    """As `huffman.decode`, bit by bit; None for what is wrong."""
    codes = _CODES or _codes()
    found, held = bytearray(), ""
    for bit in "".join(format(byte, "08b") for byte in coded):
        held += bit
        symbol = codes.get(held)
        if symbol == huffman.END:
            return None
        if symbol is not None:
            found.append(symbol)
            held = ""
    return bytes(found) if len(held) < 8 and "0" not in held else None


def huffman_code(data: bytes) -> None:
    try:
        found: bytes | None = huffman.decode(data)
    except ValueError:
        found = None
    assert found == _slowly(data)


def _messages(data: bytes) -> list[tuple[bool, bytes]] | None:
    """The messages in some bytes; None if they end within one."""
    found, position = [], 0
    while position < len(data):
        if len(data) - position < 5:
            return None
        flag, size = struct.unpack_from(">BI", data, position)
        position += 5 + size
        if position > len(data):
            return None
        found.append((bool(flag), data[position - size : position]))
    return found


def _raise(refused: Refused) -> None:
    raise refused


def grpc_messages(data: bytes) -> None:
    """The messages of a stream, in pieces of any size."""
    if not data:
        return
    size, text = data[0] + 1, data[1:]
    reception = Reception(1000, ReceiveBudget(5000))
    reader = MessageReader(reception, "gzip", True, lambda size: None, _raise)
    try:
        for start in range(0, len(text), size):
            piece = text[start : start + size]
            reader.receive(piece, len(piece))
        if not reader.is_within:
            assert list(reader.messages) == _messages(text)
    finally:
        assert reception.held <= 5000
        reader.release()
        assert reception.held == 0


async def _channel(data: bytes, step: int) -> None:
    channel = Channel()
    transport = FakeTransport()
    channel.connection_made(transport)
    request = InferenceRequest([Tensor("x", "UINT8", [1], b"a")])
    answers = [channel.infer("m", request), channel.request(Kind.LOAD, {})]
    for start in range(0, len(data), step):
        try:
            channel.data_received(data[start : start + step])
        except Exception as error:
            # Event loops end a connection for this, and with it the worker.
            channel.connection_lost(error)
            break
    channel.connection_lost(None)
    assert all(answer.done() for answer in answers)
    for answer in answers:
        answer.exception()
    await asyncio.sleep(0)


def worker_answers(data: bytes) -> None:
    """What a worker sends is read, or costs only that worker: its calls end."""
    if len(data) < 2:
        return
    _loop().run(_channel(data[1:], 16 * data[0] + 1))


def _frame(kind: Kind, id: int, meta: bytes, payload: bytes = b"") -> bytes:
    return b"".join(worker_frames.encode(kind, id, meta, [payload]))


_TENSORS = b'{"tensors":[["y","UINT8",[1],1,-1,null]],"parameters":null}'
_POST = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n"
_GZIP = bytes.fromhex("1f8b08000000000000034b040043beb7e801000000")

TARGETS = {
    "http1": Target(
        http1,
        [
            b"\x40"
            + _POST
            + b"Content-Length: 3\r\n\r\nabc"
            + _POST
            + b"Content-Length: 0\r\n\r\n",
            b"\x07"
            + _POST
            + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n",
            b"\xff" + b"GET http://h/a%2Fb?c#d HTTP/1.0\r\n\r\n",
            b"\x20" + _POST + b"Content-Encoding: gzip\r\nContent-Length: 21\r\n\r\n" + _GZIP,
            b"\x20" + _POST + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\na",
            b"\x20" + _POST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\na",
            b"\x20" + b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
        [
            *(
                b"\r\n",
                b"\n",
                b"\r",
                b"\x00",
                b"Transfer-Encoding: ",
                b"chunked",
                b"Content-Length: ",
            ),
            *(
                b"Host: x\r\n",
                b"HTTP/1.1",
                b"HTTP/1.0",
                b"Connection: close\r\n",
                b"0\r\n\r\n",
                b"%2f",
            ),
            *(b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"identity", b"Trailer: ", b" : "),
        ],
    ),
    "http2": Target(
        http2,
        [
            b"\x10" + call(1, ECHO, b"hello") + call(3, DIRECT, b"hello"),
            b"\x01" + begin(1, STREAM) + data(1, message(b"a")) + data(1, message(b"b"), 1),
            b"\x04"
            + begin(1, ECHO, (b"grpc-encoding", b"gzip"))
            + data(1, message(_GZIP, None, 1), 1),
            b"\xff"
            + frames.settings({4: 10})
            + frames.window_update(0, 100)
            + call(1, ECHO, b"a" * 50),
            b"\xff" + begin(1, ECHO) + frames.reset(1, frames.Fault.CANCEL),
            b"\xff" + frames.frame(6, 0, 0, bytes(8)) + frames.frame(9, 4, 1, b""),
        ],
        [frames.frame(kind, 0, 1, b"")[:9] for kind in range(10)],
    ),
    "hpack": Target(
        hpack,
        [
            b"\x10" + bytes.fromhex("828684410f7777772e6578616d706c652e636f6d"),
            b"\xff" + bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"),
            b"\xff" + b"\x3f\xe1\x1f" + literal(b"a", b"b"),
        ],
        refusals=(CompressionError,),
    ),
    "huffman": Target(huffman_code, [bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff"), b"\xff" * 4]),
    "grpc_messages": Target(
        grpc_messages,
        [
            b"\x02" + message(b"abc") + message(b""),
            b"\xff" + message(_GZIP, None, 1) + message(b"x"),
        ],
        refusals=(Refused,),
    ),
    "worker_answers": Target(
        worker_answers,
        [
            b"\xff"
            + _frame(Kind.RESULT, 1, _TENSORS, b"\x05" + bytes(7))
            + _frame(Kind.RESULT, 2, b"{}"),
            b"\x00" + _frame(Kind.ERROR, 1, b'{"kind":"invalid_argument","message":"no"}'),
            b"\x04" + _frame(Kind.PIECE, 1, _TENSORS, bytes(8)) + _frame(Kind.RELEASE, 0, b"[1]"),
            b"\xff" + _frame(Kind.CALL, 9, _TENSORS, bytes(8)) + _frame(Kind.KEEP, 1, b"[0]"),
        ],
        [b"HR\x01", b'"tensors"', b'"parameters"', b"null", b"[[", b'"kind"', b'"answer"'],
        refusals=(),
    ),
}
