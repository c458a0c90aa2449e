"""The arguments of a runner's call as one request, and as arguments again where it is answered."""

from __future__ import annotations

from typing import Any

from headrace.codecs import decode_value, values
from headrace.codecs.array import array_of
from headrace.codecs.registry import decode_input, decode_request
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.reserved_parameters import BATCH_DIM, PYTHON_VALUE
from headrace.protocol.tensor import Tensor
from headrace.runners.runner_values import request_of, sent_value


def request_of_call(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    method: str | None,
    batch_dim: tuple[int, int] = (0, 0),
) -> InferenceRequest:
    """The request for a call of a Runnable's method; no method is its only one.

    A call with one value is like one of a stored model, and shares batches with clients' requests.

    Raises:
        InvalidInput: no tensor can hold an argument.
    """
    if len(args) == 1 and not kwargs:
        return request_of(args[0], method, batch_dim)
    tensors: list[Tensor] = []
    described = []
    is_by_row = bool(args or kwargs)
    named = [*((None, value) for value in args), *kwargs.items()]
    for position, (name, value) in enumerate(named):
        sent = sent_value(value, batch_dim[0])
        is_by_row = is_by_row and sent.by_row
        described.append([name, len(sent.tensors), sent.content_type, sent.form])
        for each in sent.tensors:
            title = f"{position}/{each.name}"
            tensors.append(Tensor(title, each.datatype, each.shape, each.data, each.parameters))
    value = {"arguments": described, **({} if is_by_row else {"whole": True})}
    parameters: dict[str, Any] = {PYTHON_VALUE: value}
    if any(batch_dim):
        parameters[BATCH_DIM] = list(batch_dim)
    return InferenceRequest(tensors, parameters, None if method is None else [method])


def arguments_of(request: InferenceRequest) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that a request stands for: those of a call, or the inputs of a client.

    A client's only input is the first argument; several without a content type have names.

    Raises:
        InvalidInput: an input does not fit its content type.
    """
    given = (request.parameters or {}).get(PYTHON_VALUE) or {}
    if "arguments" in given:
        return _called(request.inputs, given["arguments"])
    kind = request.content_type
    if kind is None and len(request.inputs) == 1:
        return (decode_input(request.inputs[0]),), {}
    if kind is None:
        return (), {tensor.name: decode_input(tensor) for tensor in request.inputs}
    return (decode_value(request, kind),), {}


def _called(tensors: list[Tensor], described: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    start = 0
    for name, count, kind, form in described:
        own = tensors[start : start + count]
        start += count
        for tensor in own:
            tensor.name = tensor.name.partition("/")[2]
        if kind == "np" and count == 1:
            base = array_of(own[0], writable=True)
        else:
            base = decode_request(InferenceRequest(own), kind)
        value = values.restored(base, form)
        if name is None:
            args.append(value)
        else:
            kwargs[name] = value
    return tuple(args), kwargs
