"""Inference requests and answers as protobuf messages, with typed or raw contents.

Implements `ModelInfer` of the Open Inference Protocol's gRPC API.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

from headrace.errors import BadModelOutput, InvalidInput, listing, shorten
from headrace.protocol import nullable
from headrace.protocol.datatypes import datatype, element_count
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.classification import read_counts
from headrace.protocol.open_inference.content_type import check_content_type
from headrace.protocol.open_inference.counts import COUNTS, Counts
from headrace.protocol.open_inference.data_faults import label
from headrace.protocol.open_inference.grpc_contents import (
    has_typed_form,
    read_contents,
    write_contents,
)
from headrace.protocol.open_inference.grpc_large import Written, encode_large
from headrace.protocol.open_inference.grpc_parameters import read_parameters, write_parameters
from headrace.protocol.open_inference.packed_numbers import NO_NUMBERS, PackedNumbers
from headrace.protocol.open_inference.request_id import checked_id
from headrace.protocol.open_inference.rest_binary import NO_CLASSES, check_raw
from headrace.protocol.open_inference.triton_parameters import refuse_shared_memory
from headrace.protocol.piecewise import LARGE
from headrace.protocol.tensor import Parameters, Tensor


class GrpcRequest(NamedTuple):
    """A decoded request, whether its tensors came as raw contents, and as how many classes its
    outputs are wanted."""

    request: InferenceRequest
    raw: bool
    classes: Mapping[str, int] = NO_CLASSES


def decode_request(
    message: pb.ModelInferRequest,
    counts: Counts = COUNTS,
    numbers: Mapping[int, PackedNumbers] = NO_NUMBERS,
) -> GrpcRequest:
    """Decode a `ModelInferRequest`; `numbers` are set aside from it.

    Raises:
        InvalidInput: the request breaks the protocol; the error names the input.
        TooLarge: it has more of something than `counts` allows.
    """
    if not message.inputs:
        raise InvalidInput("inputs is empty, expected at least one tensor")
    _check_counts(message, counts)
    # Each look into a message of protobuf makes an object, so none is taken twice.
    items = list(message.inputs)
    for item in items:
        if item.parameters:
            refuse_shared_memory(item.parameters, label(item.name))
    contents = list(message.raw_input_contents)
    if contents and len(contents) != len(items):
        raise InvalidInput(
            f"raw_input_contents holds {len(contents)} tensors, expected one for each of "
            f"{len(items)} inputs"
        )
    if contents:
        inputs = [_raw(item, data) for item, data in zip(items, contents, strict=True)]
    else:
        inputs = [
            _typed(item, numbers.get(index) if numbers else None)
            for index, item in enumerate(items)
        ]
    if len(inputs) > 1:
        _refuse_duplicates([tensor.name for tensor in inputs], "inputs")
    outputs: list[str] | None = None
    classes = NO_CLASSES
    if message.outputs:
        outputs = [output.name for output in message.outputs]
        _refuse_duplicates(outputs, "outputs")
        classes = _classes(message.outputs)
    parameters = _parameters(message, "request") if message.parameters else None
    request = InferenceRequest(inputs, parameters, outputs, checked_id(message.id))
    return GrpcRequest(request, bool(contents), classes)


def _check_counts(message: pb.ModelInferRequest, counts: Counts) -> None:
    counts.check("inputs", len(message.inputs))
    counts.check("outputs", len(message.outputs))
    each = (item.parameters for item in (*message.inputs, *message.outputs))
    counts.check_parameters(message.parameters, *each)
    # Texts in raw contents are carried as they are.
    texts = sum(len(item.contents.bytes_contents) for item in message.inputs)
    counts.check("text_elements", texts)


def encode_response(
    response: InferenceResponse, *, model_name: str, model_version: str | None, id: str, raw: bool
) -> pb.ModelInferResponse | Written:
    """Encode an answer; its outputs are raw if requested, or if one of them has no typed form.

    A large one is written already, in pieces.

    Raises:
        BadModelOutput: a message cannot carry a name, a parameter or an output.
    """
    message = pb.ModelInferResponse(model_name=model_name, model_version=model_version or "", id=id)
    raw = raw or not all(has_typed_form(tensor) for tensor in response.outputs)
    try:
        write_parameters(response.parameters, message.parameters)
        if response.nbytes >= LARGE:
            return encode_large(message, response, raw)
        for tensor in response.outputs:
            if tensor.parameters and (column := nullable.datatype_of(tensor)):
                tensor = nullable.raw(tensor, column)
            output = message.outputs.add(
                name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
            )
            write_parameters(tensor.parameters, output.parameters)
            if raw:
                message.raw_output_contents.append(bytes(tensor.data))
            else:
                write_contents(tensor, output.contents)
    except (TypeError, ValueError):
        raise BadModelOutput(
            "the model's answer has a name or parameter that a message cannot carry"
        ) from None
    return message


def _classes(outputs: Any) -> dict[str, int]:
    wanted = [(each.name, read_parameters(each.parameters)) for each in outputs]
    for name, parameters in wanted:
        refuse_shared_memory(parameters or (), f"output '{shorten(name)}'")
    return read_counts(wanted)


def _raw(item: Any, data: bytes) -> Tensor:
    name = item.name
    where = label(name)
    if item.HasField("contents") and item.contents.ListFields():
        raise InvalidInput(f"{where}: expected either contents or raw_input_contents, got both")
    parameters = _parameters(item, where) if item.parameters else None
    tensor = Tensor(name, item.datatype, list(item.shape), data, parameters)
    check_raw(tensor, where)
    return tensor


def _typed(item: Any, numbers: PackedNumbers | None) -> Tensor:
    where = label(item.name)
    kind = datatype(item.datatype, where)
    shape = list(item.shape)
    count = element_count(shape, where)
    if kind.name == "BYTES" and count != 1:
        texts = item.contents.bytes_contents
        if len(texts) == 1 and shape == [len(texts[0])]:
            # MLServer's clients send the length of a lone text as its shape.
            shape, count = [1], 1
    if numbers is not None:
        data = numbers.read(kind, shape, count, item.name)
    else:
        data = read_contents(item.contents, kind, shape, count, item.name)
    return Tensor(item.name, kind.name, shape, data, _parameters(item, where))


def _parameters(message: Any, where: str) -> Parameters | None:
    """Those of a request or an input, without NaN and infinity, which other protocols lack."""
    parameters = read_parameters(message.parameters)
    for key, value in (parameters or {}).items():
        if isinstance(value, float) and not isfinite(value):
            raise InvalidInput(f"{where}: parameter '{shorten(key)}' must be a finite number")
    if parameters:
        check_content_type(parameters, where)
    return parameters


def _refuse_duplicates(names: list[str], where: str) -> None:
    if len(set(names)) != len(names):
        twice = [name for name, times in Counter(names).items() if times > 1]
        raise InvalidInput(f"{where} names {listing(twice)} more than once")
