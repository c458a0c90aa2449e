"""The inference routes, as raw ASGI: read, decode, infer, encode, send. Hot.

`Wire` is what differs between the Open Inference Protocol and MLflow's; the flow is one.
"""

from __future__ import annotations

import asyncio
import logging
import re
from itertools import count
from secrets import token_hex
from typing import Any, NamedTuple, Protocol

from headrace.dataplane import DataPlane
from headrace.errors import Cancelled, HeadraceError, InvalidInput, UnsupportedMedia
from headrace.http.body import compress, read_body
from headrace.http.errors import JSON, error_body, error_headers, row
from headrace.protocol import rest_binary, rest_json, scoring
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.repository.served import ServedModel
from headrace.settings import ServerSettings

logger = logging.getLogger("headrace.http")

Scope = dict[str, Any]
Headers = dict[bytes, bytes]
HeaderList = list[tuple[bytes, bytes]]

REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,256}")

# Answers from here on are compressed in a thread, so that they hold up nobody else.
COMPRESS_IN_THREAD = 64 * 1024


class Wire(Protocol):
    """One protocol's way of writing requests and answers."""

    def decode(self, body: bytes, headers: Headers, model: ServedModel) -> tuple[Any, Any]:
        """The request, and what `encode` needs to know of it."""

    def encode(
        self, model: ServedModel, response: InferenceResponse, id: str, context: Any
    ) -> tuple[bytes, HeaderList]:
        """The answer's body and its headers, without the length."""


JSON_HEADERS: HeaderList = [(b"content-type", JSON)]


class OpenInference:
    """Open Inference Protocol REST, with the binary tensor data extension."""

    MEDIA_TYPES = (b"application/json", b"application/octet-stream")
    # curl's default for a body; what follows is parsed as JSON all the same.
    LENIENT = (b"", b"application/x-www-form-urlencoded")

    def decode(
        self, body: bytes, headers: Headers, model: ServedModel
    ) -> tuple[InferenceRequest, Any]:
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media_type not in self.MEDIA_TYPES and media_type not in self.LENIENT:
            raise UnsupportedMedia(
                "this route takes application/json, or application/octet-stream with "
                "Inference-Header-Content-Length"
            )
        length = headers.get(b"inference-header-content-length")
        if length is None:
            decoded = rest_json.decode_request(body)
        elif not length.isdigit() or len(length) > 18:
            raise InvalidInput(
                "Inference-Header-Content-Length: expected the number of JSON bytes in the body"
            )
        elif int(length) == 0:
            decoded = rest_binary.decode_raw(body, model.model_metadata.inputs)
        else:
            decoded = rest_json.decode_request(body, int(length))
        return decoded.request, decoded.binary_outputs

    def encode(
        self, model: ServedModel, response: InferenceResponse, id: str, context: Any
    ) -> tuple[bytes, HeaderList]:
        body, json_length = rest_json.encode_response(
            response,
            model_name=model.name,
            model_version=model.version,
            id=id,
            binary_outputs=context,
        )
        if json_length is None:
            return body, JSON_HEADERS
        return body, [
            (b"content-type", b"application/octet-stream"),
            (b"inference-header-content-length", b"%d" % json_length),
        ]


class Scoring:
    """MLflow's scoring protocol."""

    def decode(
        self, body: bytes, headers: Headers, model: ServedModel
    ) -> tuple[InferenceRequest, Any]:
        content_type = headers.get(b"content-type")
        decoded = scoring.decode(
            body, content_type.decode("latin-1") if content_type else None, model.signature
        )
        return decoded.request, decoded.wrapped

    def encode(
        self, model: ServedModel, response: InferenceResponse, id: str, context: Any
    ) -> tuple[bytes, HeaderList]:
        return scoring.encode(response, context), JSON_HEADERS


class Target(NamedTuple):
    """Which model a path means; no name means the only one served."""

    wire: Wire
    name: str | None = None
    version: str | None = None


class InferenceRoutes:
    """Answers every inference route of every protocol."""

    def __init__(self, dataplane: DataPlane, settings: ServerSettings) -> None:
        self._dataplane = dataplane
        self._limit = settings.max_body_size
        self._prefix = token_hex(4)
        self._ids = count(1)

    async def __call__(self, scope: Scope, receive: Any, send: Any, target: Target) -> None:
        headers = collect(scope["headers"])
        request_id = self._request_id(headers)
        try:
            body = await read_body(headers, receive, self._limit)
            model = self._find(target)
            request, context = target.wire.decode(body, headers, model)
            request.id = request.id or request_id
            response = await self._infer(scope, headers, model, request)
            payload, answer = target.wire.encode(model, response, request.id, context)
            accepted = headers.get(b"accept-encoding")
            if accepted is not None:
                payload, answer = await _compressed(payload, answer, accepted)
            await _send(send, 200, payload, [*answer, (b"x-request-id", request_id.encode())])
        except asyncio.CancelledError:
            if not _has_left(scope):
                raise
            logger.debug("the caller left", extra={"request_id": request_id, "status": 499})
        except Cancelled:
            logger.debug("the caller left", extra={"request_id": request_id, "status": 499})
        except HeadraceError as exc:
            await self._refuse(scope, send, exc, request_id)
        except Exception:
            logger.exception("a request failed; this is a bug", extra={"request_id": request_id})
            error = HeadraceError("the server failed on this request; its log has the details")
            await self._refuse(scope, send, error, request_id)

    async def _infer(
        self, scope: Scope, headers: Headers, model: ServedModel, request: InferenceRequest
    ) -> InferenceResponse:
        given = headers.get(b"x-request-timeout")
        call = self._dataplane.start(model, request, _timeout(given) if given else None)
        connection = scope.get("headrace.connection")
        if connection is None:
            return await self._dataplane.finish(call)
        connection.on_disconnect = call.future.cancel
        try:
            return await self._dataplane.finish(call)
        finally:
            connection.on_disconnect = None

    def _find(self, target: Target) -> ServedModel:
        if target.name is None:
            return self._dataplane.only_model()
        return self._dataplane.repository.get(target.name, target.version)

    def _request_id(self, headers: Headers) -> str:
        given = headers.get(b"x-request-id")
        if given is not None and REQUEST_ID.fullmatch(given):
            return given.decode("ascii")
        return f"{self._prefix}-{next(self._ids):x}"

    async def _refuse(self, scope: Scope, send: Any, error: HeadraceError, request_id: str) -> None:
        status, body = error_body(scope["path"], error)
        level = logging.ERROR if status >= 500 and not row(error).retry_after else logging.INFO
        logger.log(
            level,
            "%s",
            error.message,
            extra={"request_id": request_id, "status": status, "kind": error.kind},
        )
        headers = [
            *JSON_HEADERS,
            *error_headers(error),
            (b"x-request-id", request_id.encode()),
        ]
        await _send(send, status, body, headers)


def collect(fields: HeaderList) -> Headers:
    """Header fields by name; a field sent more than once is joined with commas (RFC 9110 5.3)."""
    headers = dict(fields)
    if len(headers) != len(fields):
        headers = {}
        for name, value in fields:
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


async def _send(send: Any, status: int, body: bytes, headers: HeaderList) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def _compressed(
    body: bytes, headers: HeaderList, accepted: bytes
) -> tuple[bytes, HeaderList]:
    if len(body) < COMPRESS_IN_THREAD:
        body, encoding = compress(body, accepted)
    else:
        body, encoding = await asyncio.to_thread(compress, body, accepted)
    if encoding is None:
        return body, headers
    return body, [*headers, (b"content-encoding", encoding.encode()), (b"vary", b"accept-encoding")]


def _has_left(scope: Scope) -> bool:
    connection = scope.get("headrace.connection")
    return connection is not None and connection.transport.is_closing()


def _timeout(given: bytes) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise InvalidInput("X-Request-Timeout: expected a number of seconds above 0")
    return seconds
