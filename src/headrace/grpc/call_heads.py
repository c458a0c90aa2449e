"""What the fields at the beginning of a call say."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from types import MappingProxyType

from headrace.grpc import http2_frames as frames
from headrace.grpc.call_metadata import collect
from headrace.grpc.hpack import CompressionError, Decoder, Field
from headrace.grpc.http2_frames import ConnectionFault, Fault

Metadata = tuple[tuple[str, str | bytes], ...]

NAME = re.compile(rb"[0-9a-z_.\-!#$%&'*+^`|~]+")
VALUE = re.compile(rb"[\x20-\x7e\x80-\xff\t]*")
CONTENT_TYPE = re.compile(rb"application/grpc([+;].*)?", re.IGNORECASE)
TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
# Of HTTP/1 connections; a call that has one is malformed.
CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
# Fields of the protocol, which handlers do not see.
OWN = frozenset((b"te", b"content-type", b"content-length"))
# Heads of calls that are remembered, and the bytes that one may have, its block and its fields
# together: most clients send the same one each time.
KNOWN_HEADS = 64
LARGEST_KNOWN = 2048


class MalformedCall(Exception):
    """A call whose fields break the rules of HTTP/2."""


class BadField(Exception):
    """A field of gRPC has a value that it cannot have."""


class CallHead:
    """The fields of one call, or of several with the same ones.

    `headers` are `metadata` by name. `timeout` is in seconds, None without a deadline. `encoding`
    is that of compressed messages. `http_status` is not 200 if this is no call of gRPC.
    """

    __slots__ = ("encoding", "headers", "http_status", "metadata", "path", "timeout", "why")

    def __init__(self, fields: list[Field]) -> None:
        """Read the fields.

        Raises:
            MalformedCall: they break the rules of HTTP/2.
            BadField: they break those of gRPC.
        """
        pseudo, regular = _split(fields)
        self.path = pseudo[b":path"].decode("latin-1")
        self.timeout: float | None = None
        self.encoding = ""
        self.http_status, self.why = 200, ""
        kind = b""
        metadata: list[tuple[str, str | bytes]] = []
        for name, value in regular:
            if name == b"content-type":
                kind = value
            elif name == b"grpc-timeout":
                self.timeout = _timeout(value)
            elif name == b"te" and value != b"trailers":
                raise BadField(f"te: expected trailers, got '{_shown(value)}'")
            elif name == b"grpc-encoding":
                self.encoding = value.decode("latin-1")
            elif name not in OWN and not name.startswith(b"grpc-"):
                metadata.append((name.decode(), _value(name, value)))
        self.metadata: Metadata = tuple(metadata)
        self.headers: Mapping[str, str | bytes] = MappingProxyType(collect(metadata))
        if pseudo[b":method"] != b"POST":
            self.http_status, self.why = 405, "gRPC needs POST"
        elif CONTENT_TYPE.fullmatch(kind) is None:
            self.http_status, self.why = 415, "expected content-type application/grpc"


def _split(fields: list[Field]) -> tuple[dict[bytes, bytes], list[Field]]:
    pseudo: dict[bytes, bytes] = {}
    regular: list[Field] = []
    for name, value in fields:
        if VALUE.fullmatch(value) is None:
            raise MalformedCall("a field has a character that is not allowed")
        if name[:1] == b":":
            if regular or name in pseudo or name not in PSEUDO:
                raise MalformedCall("a pseudo field is unknown, or in the wrong place")
            pseudo[name] = value
        elif NAME.fullmatch(name) is None or name in CONNECTION:
            raise MalformedCall("a field's name is not allowed")
        else:
            regular.append((name, value))
    if not {b":method", b":scheme", b":path"} <= pseudo.keys():
        raise MalformedCall("a call needs :method, :scheme and :path")
    return pseudo, regular


def _timeout(value: bytes) -> float:
    found = TIMEOUT.fullmatch(value)
    if found is None:
        raise BadField(f"grpc-timeout: expected something like 10S, got '{_shown(value)}'")
    return int(found[1]) * SECONDS[found[2]]


def _value(name: bytes, value: bytes) -> str | bytes:
    if not name.endswith(b"-bin"):
        return value.decode("latin-1")
    try:
        # Clients need not send the padding.
        value = value.rstrip(b"=")
        return b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        raise BadField(f"{_shown(name)}: expected base64") from None


def _shown(value: bytes) -> str:
    return value[:50].decode("latin-1")


class HeadReader:
    """Reads the header blocks of one connection, whose fields may have `most` bytes together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._decoder = Decoder()
        self._known: dict[bytes, CallHead] = {}
        self._known_at = 0

    def read(self, block: bytes) -> tuple[CallHead | None, bytes]:
        """What a block says; or None, and the fields to refuse it with, if there are any.

        Raises:
            ConnectionFault: the block cannot be read.
        """
        before = self._decoder.changes
        if self._known_at != before:
            self._known.clear()
            self._known_at = before
        elif (head := self._known.get(block)) is not None:
            return head, b""
        try:
            found = self._decoder.decode(block, self._most)
        except CompressionError as error:
            raise ConnectionFault(Fault.COMPRESSION_ERROR, str(error)) from None
        if found is None:
            why = f"the metadata has more than the {self._most} bytes of --max-header-size"
            return None, frames.ANSWER + frames.status(8, why)
        try:
            head = CallHead(found)
        except MalformedCall:
            return None, b""
        except BadField as error:
            return None, frames.ANSWER + frames.status(13, str(error))
        if head.http_status != 200:
            return None, frames.refusal(head.http_status, head.why)
        if self._decoder.changes == before:
            size = len(block) + sum(len(name) + len(value) for name, value in found)
            self._remember(block, head, size)
        return head, b""

    def _remember(self, block: bytes, head: CallHead, size: int) -> None:
        if size <= LARGEST_KNOWN:
            if len(self._known) >= KNOWN_HEADS:
                self._known.clear()
            self._known[block] = head
