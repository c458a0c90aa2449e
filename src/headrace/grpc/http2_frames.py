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
MAX_WINDOW = 2**31 - 1
# Bytes that either side may send on a stream or connection before it hears of more.
DEFAULT_WINDOW = 65535

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
END_STREAM = ACK = 1
END_HEADERS, PADDED, WITH_PRIORITY = 4, 8, 32

# Settings.
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 3, 4, 5, 6


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


# The fields of every answer of gRPC: status 200 and the content type.
ANSWER = indexed(8) + literal(b"content-type", b"application/grpc")
_OK = literal(b"grpc-status", b"0")


def headers(stream: int, block: bytes, flags: int) -> bytes:
    """A block of fields, in as many frames as it takes."""
    if len(block) <= MAX_FRAME:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    parts = [block[start : start + MAX_FRAME] for start in range(0, len(block), MAX_FRAME)]
    frames = [frame(HEADERS, flags, stream, parts[0])]
    frames += [frame(CONTINUATION, 0, stream, part) for part in parts[1:-1]]
    frames.append(frame(CONTINUATION, END_HEADERS, stream, parts[-1]))
    return b"".join(frames)


def fields(metadata: tuple[tuple[str, str], ...]) -> bytes:
    """Metadata, whose names and values are ASCII."""
    return b"".join([literal(name.encode(), value.encode()) for name, value in metadata])


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
