"""What the fields at the beginning of a call say."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from types import MappingProxyType

from headrace.grpc.hpack import Field

Metadata = tuple[tuple[str, str | bytes], ...]

NAME = re.compile(rb"[0-9a-z_.\-!#$%&'*+^`|~]+")
VALUE = re.compile(rb"[\x20-\x7e\x80-\xff\t]*")
TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
# Of HTTP/1 connections; a call that has one is malformed.
CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
# Fields of the protocol, which handlers do not see.
OWN = frozenset((b"te", b"content-type", b"content-length"))


class MalformedCall(Exception):
    """A call whose fields break the rules of HTTP/2."""


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
            elif name == b"grpc-encoding":
                self.encoding = value.decode("latin-1")
            elif name not in OWN and not name.startswith(b"grpc-"):
                metadata.append((name.decode(), _value(name, value)))
        self.metadata: Metadata = tuple(metadata)
        self.headers: Mapping[str, str | bytes] = MappingProxyType(dict(metadata))
        if pseudo[b":method"] != b"POST":
            self.http_status, self.why = 405, "gRPC needs POST"
        elif not kind.startswith(b"application/grpc"):
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
        raise MalformedCall("grpc-timeout is malformed")
    return int(found[1]) * SECONDS[found[2]]


def _value(name: bytes, value: bytes) -> str | bytes:
    if not name.endswith(b"-bin"):
        return value.decode("latin-1")
    try:
        return b64decode(value + b"=" * (-len(value) % 4))
    except (binascii.Error, ValueError):
        raise MalformedCall("a binary field is not base64") from None
