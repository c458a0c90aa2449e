"""Endpoints called by inference protocols, over gRPC or `/v2`: by name, with a body or a tensor."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np

from headrace.codecs import bytes_elements
from headrace.codecs.array import array_of, tensor_of
from headrace.errors import InvalidInput, listing, shorten
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.model_call import ModelAnswer
from headrace.protocol.tensor import Tensor, pack_bytes
from headrace.services.endpoint import Endpoint

NPY = "application/vnd.numpy"
# Parameters of a request, the second of an answer as well.
ENDPOINT = "endpoint"
MEDIA_TYPE = "media_type"


class Body(NamedTuple):
    """What an endpoint is given over HTTP, made from a request of tensors."""

    body: bytes
    headers: dict[str, str]
    is_tensor: bool = False


def chosen(request: InferenceRequest, endpoints: dict[str, Endpoint], service: str) -> Endpoint:
    """The endpoint that the parameter `endpoint` names; the only one does not have to be named.

    Raises:
        InvalidInput: there is no such endpoint, or none is named among several.
    """
    name = (request.parameters or {}).get(ENDPOINT)
    if name is None and len(endpoints) == 1:
        return next(iter(endpoints.values()))
    found = endpoints.get(name) if isinstance(name, str) else None
    if found is None:
        got = "none" if name is None else f"'{shorten(name)}'"
        raise InvalidInput(
            f"parameter '{ENDPOINT}': service '{service}' has {listing(list(endpoints))}, got {got}"
        )
    return found


def body_of(request: InferenceRequest, endpoint: Endpoint) -> Body:
    """The body for an endpoint: the one BYTES element of the only input, or an array of numbers.

    The parameter `media_type` says what the element is, JSON or what the endpoint takes if it is
    left out.

    Raises:
        InvalidInput: there are several inputs or elements, or the endpoint takes no arrays.
    """
    if endpoint.input is None:
        return Body(b"", {})
    if len(request.inputs) != 1:
        raise InvalidInput(f"endpoint '{endpoint.name}' takes one input, got {len(request.inputs)}")
    (tensor,) = request.inputs
    if tensor.datatype != "BYTES":
        return _array_body(tensor, endpoint)
    elements = (
        bytes_elements.decode(tensor)
        if tensor.content_type == "base64"
        else bytes_elements.raw(tensor)
    )
    if len(elements) != 1:
        raise InvalidInput(
            f"input '{shorten(tensor.name)}': the body of endpoint '{endpoint.name}' is one BYTES "
            f"element, got {len(elements)}"
        )
    given = (request.parameters or {}).get(MEDIA_TYPE, endpoint.input.content_types[0])
    return Body(bytes(elements[0]), {"content-type": str(given)})


def response_of(answer: ModelAnswer, result: Any, is_tensor: bool) -> InferenceResponse:
    """The answer of an endpoint: an array for who sent one, otherwise its body as one element.

    A body that is text is marked so, and one that is not, as base64 in JSON.
    """
    parameters: dict[str, Any] = {}
    if answer.status != 200:
        parameters["status"] = answer.status
    if is_tensor and isinstance(result, np.ndarray) and result.dtype.kind in "biuf":
        return InferenceResponse([tensor_of("output-1", result)], parameters or None)
    fields = {each[0]: each[1] for each in answer.headers}
    parameters[MEDIA_TYPE] = fields.get("content-type", "")
    try:
        answer.body.decode()
        content_type = "str"
    except UnicodeDecodeError:
        content_type = "base64"
    data = pack_bytes([answer.body])
    tensor = Tensor("output-1", "BYTES", [1], data, {"content_type": content_type})
    return InferenceResponse([tensor], parameters)


def _array_body(tensor: Tensor, endpoint: Endpoint) -> Body:
    if NPY not in endpoint.input.content_types:
        raise InvalidInput(
            f"endpoint '{endpoint.name}' takes no array of numbers; send its body "
            f"({', '.join(endpoint.input.content_types)}) as one BYTES element"
        )
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array_of(tensor)), allow_pickle=False)
    return Body(file.getvalue(), {"content-type": NPY}, True)
