"""Frames of HTTP/2 (RFC 9113) and what gRPC puts into them, as a server writes them."""

from __future__ import annotations

import struct
from enum import IntEnum
from urllib.parse import quote

from headrace.grpc.hpack import indexed, literal

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Three bytes of length and one of type; then flags, and the stream's number.
HEADER = struct.Struct(">IBI")
# Whether a gRPC message is compressed, and its length.
PREFIX = struct.Struct(">BI")
# Every peer takes frames of this size, and none may send larger ones unless it is told.
MAX_FRAME = 16384
# Of windows and of the numbers of streams.
MAX_WINDOW = MAX_STREAM = 2**31 - 1
# Bytes that either side may send on a stream or connection before it hears of more.
DEFAULT_WINDOW = 65535

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
END_STREAM = ACK = 1
END_HEADERS, PADDED, WITH_PRIORITY = 4, 8, 32

# Settings.
ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 2, 3, 4
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 5, 6
# The size of frames that always have the same, and whether a frame is about a stream or about the
# connection.
SIZES = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
IS_OF_STREAM = {PRIORITY: True, RST_STREAM: True, SETTINGS: False, PING: False, GOAWAY: False}


class Fault(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):
    """The client breaks the protocol, and the connection ends."""

    def __init__(self, fault: Fault, why: str) -> None:
        super().__init__(why)
        self.fault = fault
        self.why = why


def check(kind: int, number: int, payload: bytes) -> None:
    """Check the size and the stream of a frame, other than of data and fields.

    Raises:
        ConnectionFault: one of them is wrong.
    """
    size = SIZES.get(kind, len(payload))
    if len(payload) != size:
        why = f"a frame of kind {kind} has {size} bytes, got {len(payload)}"
        raise ConnectionFault(Fault.FRAME_SIZE_ERROR, why)
    if IS_OF_STREAM.get(kind, bool(number)) is not bool(number):
        why = f"a frame of kind {kind} cannot be for stream {number}"
        raise ConnectionFault(Fault.PROTOCOL_ERROR, why)


def content(flags: int, payload: bytes) -> bytes:
    """The payload of a frame of data or fields, without padding and priority.

    Raises:
        ConnectionFault: the frame is too short for them.
    """
    if flags & PADDED:
        if not payload or payload[0] >= len(payload):
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "a frame is all padding")
        payload = payload[1 : len(payload) - payload[0]]
    if flags & WITH_PRIORITY:
        if len(payload) < SIZES[PRIORITY]:
            raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "a frame is too short for a priority")
        payload = payload[SIZES[PRIORITY] :]
    return payload


def settings_of(payload: bytes) -> dict[int, int]:
    """The settings that a client sends.

    Raises:
        ConnectionFault: one of them is not allowed.
    """
    if len(payload) % 6:
        raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "settings have six bytes each")
    found = {}
    for key, value in struct.iter_unpack(">HI", payload):
        if key == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ConnectionFault(Fault.FLOW_CONTROL_ERROR, "a window is too large")
        if (key == ENABLE_PUSH and value > 1) or (
            key == MAX_FRAME_SIZE and not MAX_FRAME <= value < 2**24
        ):
            raise ConnectionFault(Fault.PROTOCOL_ERROR, f"setting {key} cannot be {value}")
        found[key] = value
    return found


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Any frame."""
    return HEADER.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """The server's settings."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *each) for each in values.items()))


def window_update(stream: int, size: int) -> bytes:
    """Let the client send `size` more bytes; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


def reset(stream: int, fault: Fault) -> bytes:
    """End a stream."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", fault))


def go_away(last: int, fault: Fault, why: str = "") -> bytes:
    """Take no streams after number `last`."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, fault) + why.encode())


# What the first block on a connection begins with: answers use no table of fields, whatever size
# the client allows it to have.
NO_TABLE = b"\x20"
# The fields of every answer of gRPC: status 200 and the content type.
ANSWER = indexed(8) + literal(b"content-type", b"application/grpc")
_OK = literal(b"grpc-status", b"0")


def headers(stream: int, block: bytes, flags: int) -> bytes:
    """A block of fields, in as many frames as it takes."""
    if len(block) <= MAX_FRAME:
        return HEADER.pack(len(block) << 8 | HEADERS, flags | END_HEADERS, stream) + block
    parts = [block[start : start + MAX_FRAME] for start in range(0, len(block), MAX_FRAME)]
    frames = [frame(HEADERS, flags, stream, parts[0])]
    frames += [frame(CONTINUATION, 0, stream, part) for part in parts[1:-1]]
    frames.append(frame(CONTINUATION, END_HEADERS, stream, parts[-1]))
    return b"".join(frames)


def status(code: int, message: str) -> bytes:
    """The outcome of a call."""
    if not code:
        return _OK
    coded = quote(message, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}~-._").encode()
    return literal(b"grpc-status", b"%d" % code) + literal(b"grpc-message", coded)


def refusal(http_status: int, why: str) -> bytes:
    """The fields of an answer to what is not gRPC."""
    return (
        literal(b":status", b"%d" % http_status)
        + literal(b"content-type", b"application/grpc")
        + status(2, why)
    )
