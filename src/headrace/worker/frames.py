"""The frames that a front process and a worker exchange over a Unix socket.

A frame is a fixed header, a JSON `meta` and a payload of raw tensor bytes:

    magic "HR" | version u8 | kind u8 | meta size u32 | call id u64 | payload size u64

`meta["tensors"]` describes the tensors in order; a tensor whose `offset` is not negative is in
the sender's shared-memory arena instead of the payload. Nothing is ever pickled.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Callable, NamedTuple

from headrace.errors import HeadraceError, from_kind
from headrace.protocol.tensor import Buffer, Tensor

logger = logging.getLogger("headrace.worker")

HEADER = struct.Struct("<2sBBIQQ")
MAGIC = b"HR"
VERSION = 1

# Payload offsets are multiples of this, so that numpy arrays over them are aligned.
ALIGNMENT = 8


class Kind(IntEnum):
    """What a frame asks for or answers.

    KEEP says which tensors of a call a worker still reads in the sender's memory although the call
    is about to end; RELEASE gives them back.

    CALL goes from a worker to the front, with a call id of the worker's own: the request of a
    runner for another model. CALL_RESULT and CALL_ERROR answer it; WITHDRAW takes it back.
    """

    HELLO = 1
    LOAD = 2
    INFER = 3
    UNLOAD = 4
    STOP = 5
    RELEASE = 6
    WITHDRAW = 7
    STREAM = 8
    GRANT = 9
    METRICS = 10
    RESULT = 16
    ERROR = 17
    PIECE = 18
    CALL = 19
    CALL_RESULT = 20
    CALL_ERROR = 21
    KEEP = 22


class Frame(NamedTuple):
    """One received frame."""

    kind: int
    call: int
    meta: Any
    payload: Buffer


class FrameError(HeadraceError):
    """The peer speaks another version of the protocol, or not this protocol at all."""


def parse_header(data: Buffer, start: int = 0) -> tuple[int, int, int, int]:
    """Return kind, call id, meta size and payload size of the header at `start`. Hot.

    Raises:
        FrameError: the magic or the version differs.
    """
    magic, version, kind, meta_size, call, payload_size = HEADER.unpack_from(data, start)
    if magic != MAGIC or version != VERSION:
        raise FrameError(f"expected frame version {VERSION}, got {version} with magic {magic!r}")
    return kind, call, meta_size, payload_size


def encode(kind: Kind, call: int, meta: bytes, payload: Sequence[Buffer] = ()) -> list[Buffer]:
    """The buffers of one frame, to be written one after the other."""
    size = 0
    for part in payload:
        size += len(part)
    return [HEADER.pack(MAGIC, VERSION, kind, len(meta), call, size), meta, *payload]


def describe(
    tensors: Sequence[Tensor], place: Callable[[Buffer], int | None]
) -> tuple[list[list[Any]], list[Buffer]]:
    """Split tensors into their description for `meta` and the payload buffers.

    `place` puts a buffer into shared memory and returns its offset, or None to send it inline. Hot.
    """
    described: list[list[Any]] = []
    payload: list[Buffer] = []
    for tensor in tensors:
        data = tensor.data
        size = len(data)
        offset = place(data)
        if offset is None:
            payload.append(data)
            if size % ALIGNMENT:
                payload.append(bytes(ALIGNMENT - size % ALIGNMENT))
            offset = -1
        shape = tensor.shape
        if type(shape) is not list:
            shape = list(shape)
        described.append([tensor.name, tensor.datatype, shape, size, offset, tensor.parameters])
    return described, payload


def restore(
    described: Sequence[Sequence[Any]],
    payload: Buffer,
    fetch: Callable[[int, int], Buffer],
) -> list[Tensor]:
    """Rebuild the tensors of a frame; `fetch(offset, size)` reads shared memory. Hot."""
    if len(described) == 1:
        # The payload is the frame's own, so its only tensor may have it, but for the padding.
        name, datatype, shape, size, offset, parameters = described[0]
        if offset >= 0:
            payload = fetch(offset, size)
        elif len(payload) != size:
            payload = payload[:size]
        return [Tensor(name, datatype, shape, payload, parameters)]
    view = memoryview(payload)
    position = 0
    tensors = []
    for name, datatype, shape, size, offset, parameters in described:
        data: Buffer
        if offset < 0:
            data = view[position : position + size]
            position += size + -size % ALIGNMENT
        else:
            data = fetch(offset, size)
        tensors.append(Tensor(name, datatype, shape, data, parameters))
    return tensors


def error_meta(error: HeadraceError) -> dict[str, Any]:
    """An error as it crosses the process boundary."""
    meta: dict[str, Any] = {"kind": error.kind, "message": error.message}
    if error.answer is not None:
        status, fields, body = error.answer
        meta["answer"] = [status, fields, body.decode("latin-1")]
    return meta


def failure_meta(failure: Exception, frame: Frame) -> dict[str, Any]:
    """A failure as it is sent; what was not raised on purpose is described in the log only."""
    if isinstance(failure, HeadraceError):
        return error_meta(failure)
    logger.error("a frame of kind %d failed", frame.kind, exc_info=failure)
    return error_meta(HeadraceError("the worker failed; its log has the details"))


def error_of(meta: Mapping[str, Any]) -> HeadraceError:
    """The error that `error_meta` described."""
    error = from_kind(meta["kind"], meta["message"])
    if "answer" in meta:
        status, fields, body = meta["answer"]
        error.answer = (status, fields, body.encode("latin-1"))
    return error
