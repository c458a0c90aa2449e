"""Handlers of unary methods that need no task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from headrace.grpc.http2_stream import Stream

Behaviour = Callable[[bytes, Any], Awaitable[bytes]]
Direct = Callable[[bytes, "Stream"], "asyncio.Future[Any] | None"]


class DirectHandler(grpc.RpcMethodHandler):
    """A unary method over bytes, which the server's own HTTP/2 calls as `direct`.

    `direct` gets a message and the call's stream. It ends the call with `answer` or `finish`, now
    or later. If later, it returns the future that is to be cancelled when the caller leaves.
    Whatever cannot use it, grpcio's server among others, awaits `unary_unary`.
    """

    request_streaming = response_streaming = False
    request_deserializer = response_serializer = None
    unary_stream = stream_unary = stream_stream = None

    def __init__(self, unary_unary: Behaviour, direct: Direct) -> None:
        self.unary_unary = unary_unary
        self.direct = direct
