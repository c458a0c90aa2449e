"""Reads and inflates request bodies within a cap, and compresses answers."""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

from headrace.errors import Cancelled, InvalidInput, TooLarge, UnsupportedMedia, shorten
from headrace.protocol.short_keys import remember_short

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
# Where our own connections have a `BodySource` in a scope.
SOURCE = "headrace.body_source"

MIN_COMPRESSED_SIZE = 1024
# Answers of at least this size are compressed in a thread, so as not to hold up other requests.
COMPRESS_IN_THREAD = 64 * 1024
COMPRESSION_LEVEL = 1
# The event loop gets a turn after this many decoded bytes, about two milliseconds' worth.
INFLATE_STEP = 1024 * 1024
# A body that grows by no more than this many bytes when it is decoded costs no more than others do.
UNCOUNTED = 64 * 1024

# zlib's window argument: 15 is the largest window, +16 asks for a gzip wrapper.
_GZIP, _ZLIB, _RAW = 31, 15, -15

# RFC 9110 12.4.2.
_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


class BodySource(Protocol):
    """What our own connections can do for the body of a request; `Cycle` has it."""

    async def receive_rest(self, begun: bytes, limit: int) -> tuple[bytes, bool]:
        """The whole body that begins with `begun`, and whether it is complete."""

    def unpacked(self, size: int) -> None:
        """Count bytes that the body has after decompression.

        Raises:
            Overloaded: all requests together have too many.
        """


async def read_body(
    headers: Mapping[bytes, bytes],
    receive: Receive,
    limit: int,
    source: BodySource | None = None,
) -> bytes:
    """The whole request body, with its Content-Encoding decoded. Hot.

    Raises:
        TooLarge: more than `limit` bytes, encoded or decoded. A declared size is checked before
            the first byte is read.
        UnsupportedMedia: a Content-Encoding other than gzip, deflate or identity, or several.
        InvalidInput: a compressed body that is damaged, truncated, or followed by more data.
        Cancelled: the client left before the end.
        Overloaded: the requests being received have too many bytes together.
    """
    if int(headers.get(b"content-length", 0)) > limit:
        raise _too_large(limit)
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding and encoding != b"identity":
        return await _read_inflated(receive, limit, encoding, source)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body") and source is not None:
        body, is_whole = await source.receive_rest(body, limit)
        if not is_whole and len(body) <= limit:
            raise Cancelled("the client left before the end of its request")
    elif message.get("more_body") or message["type"] != "http.request":
        return await _read_rest(message, receive, limit)
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def read_small_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """As `read_body`, where no setting raises the limit."""
    try:
        return await read_body(headers, receive, limit)
    except TooLarge:
        raise TooLarge(f"the request body exceeds {limit} bytes") from None


async def _read_rest(message: MutableMapping[str, Any], receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        _require_request(message)
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


async def _read_inflated(
    receive: Receive, limit: int, encoding: bytes, source: BodySource | None
) -> bytes:
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise UnsupportedMedia(
            f"Content-Encoding '{shorten(encoding.decode('latin-1'))}' is not supported; "
            "send gzip, deflate or identity"
        )
    inflater = _Inflater(encoding, limit)
    received = counted = 0
    while True:
        message = await receive()
        _require_request(message)
        chunk = message.get("body", b"")
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        while chunk:
            chunk = inflater.step(chunk)
            if source is not None and inflater.size > counted + UNCOUNTED:
                source.unpacked(inflater.size - counted)
                counted = inflater.size
            if chunk:
                await asyncio.sleep(0)
        if not message.get("more_body"):
            return inflater.finish()


class _Inflater:
    """Decodes one layer of gzip or deflate, and never holds more than `limit` decoded bytes."""

    def __init__(self, encoding: bytes, limit: int) -> None:
        self._name = encoding.decode("ascii")
        self._limit = limit
        self.size = 0
        self._parts: list[bytes] = []
        self._stream = None if encoding == b"deflate" else zlib.decompressobj(_GZIP)

    def step(self, data: bytes) -> bytes:
        """Decode at most `INFLATE_STEP` bytes, and return what is left of `data`."""
        if self._stream is None:
            # RFC 9110 8.4.1.2: "deflate" is the zlib form, yet some clients send it raw.
            # The zlib form has compression method 8 in the low bits of its first byte.
            self._stream = zlib.decompressobj(_ZLIB if data[0] & 0x0F == 8 else _RAW)
        if self._stream.eof:
            raise InvalidInput(f"the {self._name} body is followed by more data")
        most = min(INFLATE_STEP, self._limit - self.size + 1)
        try:
            part = self._stream.decompress(data, most)
        except zlib.error as error:
            raise InvalidInput(f"the body is not valid {self._name} data") from error
        self.size += len(part)
        if self.size > self._limit:
            raise _too_large(self._limit)
        self._parts.append(part)
        return self._stream.unused_data or self._stream.unconsumed_tail

    def finish(self) -> bytes:
        # If the output filled the last step exactly, a little may be left in the stream.
        while self._stream is not None and not self._stream.eof and self._drain():
            pass
        if self._stream is None or not self._stream.eof:
            raise InvalidInput(f"the {self._name} body is truncated")
        return b"".join(self._parts)

    def _drain(self) -> bool:
        before = self.size
        self.step(b"")
        return self.size > before


def _require_request(message: MutableMapping[str, Any]) -> None:
    if message["type"] != "http.request":
        raise Cancelled("the client left before the end of its request")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the request body exceeds {limit} bytes; --max-body-size raises the cap")


def compress(body: bytes, accept_encoding: bytes) -> tuple[bytes, str | None]:
    """An answer's body in an encoding that the client accepts, and its Content-Encoding.

    Bodies under 1 KiB, and those that do not shrink, stay as they are. Takes 10 to 15 ms per
    MiB without the interpreter lock, so run it in a thread for large bodies.
    """
    if len(body) < MIN_COMPRESSED_SIZE or not accept_encoding:
        return body, None
    encoding = _choose_encoding(accept_encoding)
    if encoding is None:
        return body, None
    if encoding == "gzip":
        packed = gzip.compress(body, COMPRESSION_LEVEL, mtime=0)
    else:
        packed = zlib.compress(body, COMPRESSION_LEVEL)
    return (packed, encoding) if len(packed) < len(body) else (body, None)


@remember_short(64)
def _choose_encoding(accept_encoding: bytes) -> str | None:
    """The encoding with the highest weight above zero, gzip in a tie (RFC 9110 12.5.3)."""
    weights: dict[str, float] = {}
    for item in accept_encoding.decode("latin-1").lower().split(","):
        name, _, parameters = item.partition(";")
        key, _, weight = parameters.partition("=")
        if key.strip() != "q":
            weights[name.strip()] = 1.0
        else:
            weight = weight.strip()
            weights[name.strip()] = float(weight) if _WEIGHT.fullmatch(weight) else 0.0
    default = weights.get("*", 0.0)
    offers = [(weights.get(name, default), name) for name in ("deflate", "gzip")]
    best, name = max(offers)
    return name if best > 0 else None
