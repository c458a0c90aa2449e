"""Inference requests and answers over REST: JSON bodies, with or without binary tensor data.

Implements "Inference" of the Open Inference Protocol's REST API and, with `rest_binary`, the
binary tensor data extension.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from math import prod
from typing import Any, NoReturn

import msgspec
import orjson

from headrace.errors import BadModelOutput, InvalidInput, listing, shorten
from headrace.protocol import nullable
from headrace.protocol.batch_answer import Part
from headrace.protocol.datatypes import DATATYPES, MAX_DIM, MAX_RANK, datatype, element_count
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.open_inference.classification import read_counts
from headrace.protocol.open_inference.content_type import check_content_type
from headrace.protocol.open_inference.counts import COUNTS, Counts
from headrace.protocol.open_inference.data_faults import label
from headrace.protocol.open_inference.json_faults import refusal
from headrace.protocol.open_inference.request_id import checked_id
from headrace.protocol.open_inference.rest_binary import (
    NO_OUTPUTS,
    RawTensors,
    RestRequest,
    check_raw,
    choose_binary,
    flag,
)
from headrace.protocol.open_inference.rest_data import (
    json_values,
    pack_array,
    pack_json,
    pack_lone_text,
)
from headrace.protocol.open_inference.rest_envelope import (
    ABSENT,
    Body,
    OpenBody,
    OpenInput,
    OpenOutput,
    decode,
    decode_open,
)
from headrace.protocol.open_inference.rest_large import encode_large
from headrace.protocol.open_inference.rest_parts import LARGEST_SHARED, encode_part
from headrace.protocol.open_inference.set_aside import SMALLEST, Aside, set_aside
from headrace.protocol.open_inference.small_floats import SIGN, FloatsBody, read_floats
from headrace.protocol.open_inference.strange_keys import Typos
from headrace.protocol.open_inference.triton_parameters import refuse_shared_memory
from headrace.protocol.piecewise import LARGE
from headrace.protocol.reserved_parameters import TRANSPORT
from headrace.protocol.tensor import Buffer, Parameters, Tensor

MAX_DEPTH = 64

_Objects = list[dict[str, msgspec.Raw]] | None


def decode_request(
    body: bytes,
    header_length: int | None = None,
    counts: Counts = COUNTS,
    columns: list[str] | None = None,
) -> RestRequest:
    """Decode the body of an infer request.

    `columns` are the names of inputs that are a table of FP64, if the model takes such a table: a
    small body with just these columns is decoded in one pass.

    `header_length` is the value of `Inference-Header-Content-Length`: that many bytes are JSON
    and the rest are the raw tensors of the inputs that state a `binary_data_size`, in order;
    None means that the whole body is JSON.

    Raises:
        InvalidInput: the body breaks the protocol; the message names the JSON path or input.
        TooLarge: it has more of something than `counts` allows.
    """
    raw = inputs = None
    if len(body) >= SMALLEST:
        text = body if header_length is None else body[:header_length]
        counts.check_texts(text)
        counts.check_objects(text)
    if header_length is None:
        if len(body) < SMALLEST and SIGN in body:
            floats = read_floats(body, counts.inputs, columns)
            if floats is not None and len(floats[1].parameters or ()) <= counts.parameters:
                return _completed(*floats)
        found = _read_aside(body, counts) if len(body) >= SMALLEST else None
        envelope, inputs = found or (_envelope(body, counts), None)
    else:
        if not 0 <= header_length <= len(body):
            raise InvalidInput(
                f"Inference-Header-Content-Length must be from 0 to the {len(body)} bytes of "
                "the body"
            )
        view = memoryview(body)
        envelope = _envelope(view[:header_length], counts)
        raw = RawTensors(view[header_length:])
    if inputs is None:
        _check_counts(envelope, counts)
        inputs = [_tensor(item, raw) for item in envelope.inputs]
    if raw is not None:
        raw.finish()
    if len(inputs) > 1 and len({tensor.name for tensor in inputs}) != len(inputs):
        _refuse_duplicates([tensor.name for tensor in inputs], "inputs")
    return _completed(InferenceRequest(inputs), envelope)


def _completed(request: InferenceRequest, envelope: Body | OpenBody | FloatsBody) -> RestRequest:
    """The request with everything that a body says of it besides the inputs."""
    if envelope.id:
        request.id = checked_id(envelope.id)
    parameters = envelope.parameters
    if not parameters and not envelope.outputs:
        return RestRequest(request)
    default = False
    if parameters:
        request.parameters = _visible(parameters, "request")
        default = flag(parameters, "binary_data_output", "request", default=False)
    if not envelope.outputs:
        return RestRequest(request, choose_binary(default, {}))
    request.outputs = _output_names(envelope.outputs)
    binary = choose_binary(default, _overrides(envelope.outputs))
    return RestRequest(request, binary, _class_counts(envelope.outputs))


def encode_response(
    response: InferenceResponse,
    *,
    model_name: str,
    model_version: str | None,
    id: str,
    binary_outputs: Container[str] = NO_OUTPUTS,
) -> tuple[bytes, int | None]:
    """Encode an answer; also returns how many bytes of it are JSON if raw tensors follow.

    JSON data is flat and row-major, NaN and infinities are `null`; outputs in `binary_outputs`
    follow the JSON as exact raw bytes. The length is None if no raw bytes follow.

    Raises:
        BadModelOutput: an output or a parameter has no JSON form.
    """
    if type(response) is Part and not binary_outputs and response.answer.nbytes <= LARGEST_SHARED:
        try:
            return encode_part(response, model_name, model_version, id), None
        except (orjson.JSONEncodeError, TypeError):
            # What comes next says what is wrong.
            pass
    answer: dict[str, Any] = {"model_name": model_name}
    if model_version is not None:
        answer["model_version"] = model_version
    answer["id"] = id
    if response.parameters is not None:
        answer["parameters"] = response.parameters
    size = 0
    for tensor in response.outputs:
        size += len(tensor.data)
    try:
        if size >= LARGE:
            return encode_large(answer, response, binary_outputs)
        answer["outputs"], raw = _outputs(response, binary_outputs)
        head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError:
        raise BadModelOutput(
            "the model's answer has a name or parameter that JSON cannot carry"
        ) from None
    return (b"".join([head, *raw]), len(head)) if raw else (head, None)


def _outputs(
    response: InferenceResponse, binary_outputs: Container[str]
) -> tuple[list[dict[str, Any]], list[Buffer]]:
    """The outputs as JSON has them, and the data of those that follow it."""
    raw: list[Buffer] = []
    outputs = []
    for tensor in response.outputs:
        if tensor.parameters and (column := nullable.datatype_of(tensor)):
            if tensor.name not in binary_outputs:
                item = nullable.described(tensor, column)
                outputs.append({**item, "data": nullable.values_of(tensor)})
                continue
            tensor = nullable.raw(tensor, column)
        item = {
            "name": tensor.name,
            "shape": tensor.shape,
            "datatype": tensor.datatype,
        }
        if tensor.parameters:
            item["parameters"] = tensor.parameters
        if binary_outputs and tensor.name in binary_outputs:
            item["parameters"] = {**(tensor.parameters or {}), "binary_data_size": tensor.nbytes}
            raw.append(tensor.data)
        else:
            item["data"] = json_values(tensor)
        outputs.append(item)
    return outputs, raw


def _check_counts(envelope: Body | OpenBody, counts: Counts) -> None:
    inputs, outputs = envelope.inputs, envelope.outputs or ()
    # What most requests have is not counted one by one.
    if len(inputs) > 1 or outputs:
        counts.check("inputs", len(inputs))
        counts.check("outputs", len(outputs))
    if envelope.parameters or outputs or any(item.parameters for item in inputs):
        each = (item.parameters for item in (*inputs, *outputs))
        counts.check_parameters(envelope.parameters, *each)
    for item in inputs:
        if item.datatype == "BYTES" and len(memoryview(item.data)) > 2 * counts.text_elements:
            counts.check("text_elements", abs(prod(item.shape[:MAX_RANK])))


class _NotAside(Exception):
    """What was set aside cannot be read on its own."""


def _read_aside(body: bytes, counts: Counts) -> tuple[Body, list[Tensor]] | None:
    """A body, if its large arrays can be read apart from what is around them.

    Raises:
        InvalidInput: an array does not fit its shape or datatype.
    """
    aside = set_aside(body)
    if not aside.arrays:
        return None
    try:
        envelope = decode(aside.rest, counts)
        _check_counts(envelope, counts)
        if sum(aside.place(item.data) is not None for item in envelope.inputs) == len(aside.arrays):
            return envelope, [_tensor(item, None, aside) for item in envelope.inputs]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _NotAside):
        pass
    return None


def _open_envelope(text: bytes | memoryview, counts: Counts) -> OpenBody:
    """A body with keys that mean nothing here.

    Raises:
        InvalidInput: one is a typo, or the body breaks the protocol in another way.
    """
    try:
        envelope = decode_open(text, counts)
        # The keys that mean nothing are read only here, and may not be UTF-8.
        whole = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        inputs, outputs = (
            msgspec.json.decode(whole.get(key, b"[]"), type=_Objects) or []
            for key in ("inputs", "outputs")
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput(refusal(text, OpenBody, "the request body") + _likely(text)) from None
    typos = Typos()
    typos.refuse(whole, OpenBody.__struct_fields__, "the request body")
    for key, kind, items in (("inputs", OpenInput, inputs), ("outputs", OpenOutput, outputs)):
        for index, item in enumerate(items):
            typos.refuse(item, kind.__struct_fields__, f"{key}[{index}]")
    return envelope


# What only bodies of MLflow's protocol have.
_MLFLOWS = ("dataframe_split", "dataframe_records", "instances")


def _likely(text: bytes | memoryview) -> str:
    """What a body that was refused may have been meant for, if that can be told."""
    try:
        whole = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    theirs = [key for key in _MLFLOWS if key in whole and "inputs" not in whole]
    return f"; '{theirs[0]}' is for MLflow's route, /invocations" if theirs else ""


def _envelope(text: bytes | memoryview, counts: Counts) -> Body | OpenBody:
    if not text:
        raise InvalidInput("the request body is empty, expected a JSON object with inputs")
    try:
        envelope: Body | OpenBody = decode(text, counts)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        envelope = _open_envelope(text, counts)
    if not envelope.inputs:
        raise InvalidInput("inputs is empty, expected at least one tensor")
    return envelope


def _tensor(item: OpenInput, raw: RawTensors | None, aside: Aside | None = None) -> Tensor:
    name = item.name
    shape = item.shape
    kind = DATATYPES.get(item.datatype) or datatype(item.datatype, label(name))
    parameters = item.parameters
    if parameters:
        refuse_shared_memory(parameters, label(name))
        if "binary_data_size" in parameters:
            return _binary_tensor(item, raw)
        parameters = _visible(parameters, label(name))
    # Checked first, because the product of very many dimensions takes minutes.
    if len(shape) > MAX_RANK:
        element_count(shape, label(name))
    count = 1
    for dim in shape:
        count *= dim
        if dim < 0 or dim > MAX_DIM:
            element_count(shape, label(name))
    if item.data is ABSENT:
        raise InvalidInput(f"{label(name)}: data is missing")
    if aside is not None and (place := aside.place(item.data)) is not None:
        found = pack_array(aside.text, place, kind, shape, count, name)
        if found is None:
            raise _NotAside
        return Tensor(name, kind.name, shape, found, parameters or None)
    try:
        data = pack_json(item.data, kind, shape, count, name)
    except InvalidInput:
        text = None if kind.itemsize else pack_lone_text(item.data, shape, name)
        if text is None:
            raise
        shape, data = [1], text
    return Tensor(name, kind.name, shape, data, parameters or None)


def _binary_tensor(item: OpenInput, raw: RawTensors | None) -> Tensor:
    where = label(item.name)
    parameters = item.parameters or {}
    if raw is None:
        raise InvalidInput(
            f"{where}: binary_data_size needs the header Inference-Header-Content-Length"
        )
    if item.data is not ABSENT:
        raise InvalidInput(f"{where}: expected either data or binary_data_size, got both")
    data = raw.take(parameters["binary_data_size"], where)
    tensor = Tensor(item.name, item.datatype, item.shape, data, _visible(parameters, where))
    check_raw(tensor, where)
    return tensor


def _refuse_duplicates(names: list[str], where: str) -> NoReturn:
    twice = [name for name, times in Counter(names).items() if times > 1]
    raise InvalidInput(f"{where} names {listing(twice)} more than once")


def _output_names(outputs: Sequence[OpenOutput]) -> list[str]:
    names = [output.name for output in outputs]
    if len(set(names)) != len(names):
        _refuse_duplicates(names, "outputs")
    return names


def _overrides(outputs: Sequence[OpenOutput]) -> dict[str, bool]:
    return {
        output.name: flag(output.parameters, "binary_data", f"outputs[{position}]", default=False)
        for position, output in enumerate(outputs)
        if output.parameters and "binary_data" in output.parameters
    }


def _class_counts(outputs: Sequence[OpenOutput]) -> dict[str, int]:
    for output in outputs:
        if output.parameters:
            refuse_shared_memory(output.parameters, f"output '{shorten(output.name)}'")
    return read_counts((output.name, output.parameters) for output in outputs)


def _visible(parameters: Parameters, where: str) -> Parameters | None:
    """The parameters a model may see; None when there are none."""
    level: list[Any] = [parameters]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for value in level
            for child in (value.values() if isinstance(value, dict) else value)
            if isinstance(child, (dict, list))
        ]
        if not level:
            break
    else:
        raise InvalidInput(f"{where}: parameters are nested more than {MAX_DEPTH} deep")
    check_content_type(parameters, where)
    return {k: v for k, v in parameters.items() if k not in TRANSPORT} or None
