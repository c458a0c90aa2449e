"""A call of one of a model's own routes, and its answer, on their way to the worker and back.

A call is sent like an inference, with the same queue, deadline and second try: the body is the
only tensor, without a shape so that it is never merged, and the rest is the request's context.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from headrace.errors import BadModelOutput
from headrace.protocol.blocks import whole_of
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Tensor

ROUTE = "route"
ENDPOINT = "endpoint"


class ModelCall(NamedTuple):
    """What a handler knows about its request besides the body.

    `query` and `raw_path` are as the client sent them; `client` is an address and a port.
    """

    handler: str
    method: str
    path: str
    raw_path: str
    query: str
    headers: list[list[str]]
    path_params: dict[str, Any]
    scheme: str
    client: list[Any] | None


class ModelAnswer(NamedTuple):
    """The answer of a handler: an HTTP status, header fields and a body."""

    status: int
    headers: list[list[str]]
    body: bytes


class BodyCall(NamedTuple):
    """A call of which the handler needs to know the body and its media type only."""

    handler: str
    content_type: str
    body: bytes


def to_body_request(handler: str, content_type: str, body: bytes) -> InferenceRequest:
    """A `BodyCall` as a request for the model's worker. Hot."""
    context = {ENDPOINT: handler, "content_type": content_type}
    return InferenceRequest([Tensor("body", "BYTES", [], body)], context=context)


def body_of(request: InferenceRequest) -> BodyCall | None:
    """The call, or None when the request is something else. Hot."""
    context = request.context
    if context is None or ENDPOINT not in context:
        return None
    return BodyCall(context[ENDPOINT], context["content_type"], bytes(request.inputs[0].data))


def to_request(call: ModelCall, body: bytes) -> InferenceRequest:
    """The call as a request for the model's worker."""
    context = {ROUTE: call._asdict()}
    return InferenceRequest([Tensor("body", "BYTES", [], body)], context=context)


def from_request(request: InferenceRequest) -> tuple[ModelCall, bytes] | None:
    """The call and its body, or None when the request is an inference."""
    if request.context is None or ROUTE not in request.context:
        return None
    return ModelCall(**request.context[ROUTE]), bytes(request.inputs[0].data)


def to_response(answer: ModelAnswer) -> InferenceResponse:
    """The answer as a response of the model's worker."""
    parameters = {"status": answer.status, "fields": answer.headers}
    return InferenceResponse([Tensor("body", "BYTES", [], answer.body)], parameters)


def to_piece(answer: ModelAnswer, more: bool) -> InferenceResponse:
    """A piece of an answer, with its status and header fields, and whether `more` follow."""
    response = to_response(answer)
    return InferenceResponse(response.outputs, {**(response.parameters or {}), "more": more})


def has_more(piece: InferenceResponse) -> bool:
    """Whether other pieces follow this one."""
    return bool((piece.parameters or {}).get("more"))


def is_route(request: InferenceRequest) -> bool:
    """Whether the request is a call of one of a model's own routes."""
    return request.context is not None and ROUTE in request.context


def from_response(response: InferenceResponse, model: str) -> ModelAnswer:
    """The answer of a handler.

    Raises:
        BadModelOutput: its status cannot be sent.
    """
    parameters = response.parameters or {}
    status = parameters["status"]
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise BadModelOutput(f"model '{model}' answered with a status that is not from 200 to 599")
    return ModelAnswer(status, parameters["fields"], whole_of(response.outputs[0].data))


def asgi_scope(call: ModelCall) -> dict[str, Any]:
    """The call as the scope of an ASGI application, without the parameters of its path."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": call.scheme,
        "path": call.path,
        "raw_path": call.raw_path.encode("latin-1"),
        "query_string": call.query.encode("latin-1"),
        "root_path": "",
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in call.headers
        ],
        "client": tuple(call.client) if call.client else None,
        "server": None,
        "state": {},
    }
