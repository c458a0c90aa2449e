"""The content types: which Python value a request becomes, and which tensors a value becomes.

| content type | the request becomes | inputs |
|---|---|---|
| `np` | an array | exactly one |
| `pd` | a DataFrame, one column per input | any |
| `dict` | a dict of arrays | any |
| `str` `base64` `datetime` `pd_json` | a list of text, bytes, times, JSON values | exactly one |
| `json` | the JSON value of its only element | exactly one |
| those of `huggingface_content` | images, JSON values, arrays by row | exactly one |

The content type of a tensor says how its elements are written, and overrides the request's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

from headrace.codecs import (
    array,
    bytes_elements,
    containers,
    frame,
    huggingface_content,
    jsontext,
    values,
)
from headrace.errors import BadModelOutput, InvalidInput, listing, shorten
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.reserved_parameters import PYTHON_VALUE
from headrace.protocol.tensor import Tensor, pack_bytes

OUTPUT = "output-1"

_CELLS = ("str", "base64", "datetime", "pd_json")


def decode_input(tensor: Tensor, content_type: str | None = None) -> Any:
    """One input as an array, or as the list or JSON value that its content type asks for.

    `content_type` applies if the tensor has none.

    Raises:
        InvalidInput: the content type is unknown, or an element does not fit it.
    """
    kind = tensor.content_type or content_type or "np"
    if kind in _CELLS:
        return bytes_elements.decode(tensor, kind)
    if kind == "json":
        return _json(tensor)
    if kind in huggingface_content.DECODERS:
        return huggingface_content.DECODERS[kind](tensor)
    if kind in ("np", "pd", "dict"):
        return array.array_of(tensor)
    raise _unknown(kind)


def decode_request(request: InferenceRequest, content_type: str | None) -> Any:
    """All inputs as the one value that the request's content type names (`np` if None).

    Raises:
        InvalidInput: the content type is unknown, or it takes a single input but got several.
    """
    kind = content_type or "np"
    decode = _REQUESTS.get(kind)
    if decode is None:
        raise _unknown(kind)
    return decode(request)


def decode_value(request: InferenceRequest, content_type: str | None) -> Any:
    """What a runner was given, if one sends the request; otherwise as `decode_request`."""
    found = decode_request(request, content_type)
    given = (request.parameters or {}).get(PYTHON_VALUE)
    return values.restored(found, given.get("form")) if given else found


def encode_response(
    value: Any, name_default: str = OUTPUT, names: Sequence[str] | None = None
) -> InferenceResponse:
    """The answer that stands for `value`; its type chooses the tensors and content type.

    A single output is called `names[0]` if given, else `name_default`; a tuple of arrays
    becomes one output each, named by `names` or else `output-1`, `output-2`.

    Raises:
        BadModelOutput: neither a tensor nor JSON can hold the value.
    """
    if isinstance(value, InferenceResponse):
        return value
    name = names[0] if names else name_default
    if type(value) is np.ndarray and value.dtype.kind in "biuf":
        # Most answers, of which there is nothing more to say.
        return _single(array.tensor_of(name, value), "np")
    try:
        response = _encoded(value, name, names)
    except RecursionError as error:
        raise BadModelOutput("the answer holds itself, or nests too deeply") from error
    except UnicodeEncodeError as error:
        raise _half_a_pair() from error
    if not all(map(_is_text, response.outputs)):
        raise _half_a_pair()
    response.form = values.form_of(value)
    return response


def _is_text(output: Tensor) -> bool:
    """Whether a name can be sent: one with half of a surrogate pair has no form in UTF-8."""
    name = output.name
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _half_a_pair() -> BadModelOutput:
    return BadModelOutput(
        "the answer has text with half of a surrogate pair, which is no character"
    )


def _encoded(value: Any, name: str, names: Sequence[str] | None) -> InferenceResponse:
    if isinstance(value, np.ndarray):
        return _single(array.answer_of(name, value), "np")
    if hasattr(value, "columns") and hasattr(value, "iloc"):
        return InferenceResponse(frame.tensors_of(value, is_answer=True), {"content_type": "pd"})
    if hasattr(value, "iloc") and hasattr(value, "dtype"):
        title = name if value.name is None else str(value.name)
        return _single(frame.tensor_of_series(title, value, is_answer=True), "pd")
    if isinstance(value, dict):
        return _mapping(value, name)
    if isinstance(value, tuple) and value and all(isinstance(v, np.ndarray) for v in value):
        return _several(value, names)
    if isinstance(value, (list, tuple)):
        return _list(value, name)
    if isinstance(value, (str, bytes, bytearray)):
        return _single(array.tensor_of(name, array.array_from([value])), "str")
    if isinstance(value, (bool, int, float, np.generic)):
        return _single(array.tensor_of(name, array.array_from([value])), "np")
    return _other(value, name)


def chosen(response: InferenceResponse, wanted: Sequence[str] | None) -> InferenceResponse:
    """The response with only the wanted outputs, in their order; all of them if none is named.

    Raises:
        InvalidInput: a wanted output is not in the response.
    """
    if not wanted:
        return response
    outputs = {tensor.name: tensor for tensor in response.outputs}
    for name in wanted:
        if name not in outputs:
            raise InvalidInput(
                f"output '{shorten(name)}' is not available, this model has "
                f"{listing(list(outputs))}"
            )
    return InferenceResponse([outputs[name] for name in wanted], response.parameters)


def _single(tensor: Tensor, content_type: str) -> InferenceResponse:
    return InferenceResponse([tensor], {"content_type": content_type})


def _list(value: Sequence[Any], name: str) -> InferenceResponse:
    is_plain = containers.is_plain(value)
    items = list(value) if is_plain else [values.as_array(item) for item in value]
    if _are_alike(items):
        stack = np.ma.stack if any(map(np.ma.isMaskedArray, items)) else np.stack
        return _single(array.tensor_of(name, stack(items)), "np")
    tensor = array.answer_of(name, items)
    return _single(tensor, "str" if tensor.content_type == "str" else "np")


def _are_alike(items: list[Any]) -> bool:
    """Whether these are arrays of numbers that can be the rows of one."""
    first = items[0] if items else None
    if not isinstance(first, np.ndarray) or first.dtype.kind not in "biuf":
        return False
    alike = (first.dtype, first.shape)
    return all(isinstance(each, np.ndarray) and (each.dtype, each.shape) == alike for each in items)


def _several(
    arrays: Sequence[np.ndarray[Any, Any]], names: Sequence[str] | None
) -> InferenceResponse:
    if names and len(names) != len(arrays):
        raise BadModelOutput(f"the answer has {len(arrays)} outputs, expected {len(names)}")
    titles = names or [f"output-{number}" for number in range(1, len(arrays) + 1)]
    tensors = [array.tensor_of(title, value) for title, value in zip(titles, arrays)]
    return InferenceResponse(tensors, {"content_type": "dict"})


def _mapping(value: dict[Any, Any], name: str) -> InferenceResponse:
    arrays: list[Tensor] = []
    for key, item in value.items():
        tensor = _output(jsontext.key_text(key), item)
        if tensor is None:
            return _other(value, name)
        arrays.append(tensor)
    if not arrays:
        return _other(value, name)
    return InferenceResponse(arrays, {"content_type": "dict"})


def _output(name: str, value: Any) -> Tensor | None:
    """The tensor of one value of a dict; None if only JSON can hold it."""
    if isinstance(value, list):
        return array.answer_of(name, value)
    series = containers.series_of(value)
    if series is not None:
        return frame.tensor_of_series(name, series, is_answer=True)
    value = values.as_array(value)
    return array.tensor_of(name, value) if isinstance(value, np.ndarray) else None


def _other(value: Any, name: str) -> InferenceResponse:
    series = containers.series_of(value)
    if series is not None:
        return _single(frame.tensor_of_series(name, series, is_answer=True), "np")
    table = containers.frame_of(value)
    if table is not None:
        return encode_response(table, name)
    if hasattr(value, "model_dump"):
        return encode_response(value.model_dump(), name)
    if hasattr(value, "toarray"):
        return encode_response(value.toarray(), name)
    if not isinstance(value, dict) and (found := values.as_array(value)) is not value:
        return encode_response(found, name)
    text = jsontext.dumps(value, f"output '{shorten(name)}'")
    tensor = Tensor(name, "BYTES", [1], pack_bytes([text]), {"content_type": "json"})
    return _single(tensor, "json")


def _one(request: InferenceRequest, kind: str) -> Tensor:
    if len(request.inputs) != 1:
        raise InvalidInput(
            f"content type '{kind}' takes exactly one input, got {len(request.inputs)}: "
            f"{listing([tensor.name for tensor in request.inputs])}; "
            "content types 'pd' and 'dict' take several"
        )
    return request.inputs[0]


def _json(tensor: Tensor) -> Any:
    found = bytes_elements.decode(tensor, "json")
    if len(found) != 1:
        raise InvalidInput(
            f"input '{shorten(tensor.name)}': content type 'json' takes one element, "
            f"got {len(found)}"
        )
    return found[0]


def _cells_of(kind: str) -> Callable[[InferenceRequest], Any]:
    return lambda request: bytes_elements.decode(_one(request, kind), kind)


def _rich(kind: str) -> Callable[[InferenceRequest], Any]:
    return lambda request: decode_input(_one(request, kind), kind)


_REQUESTS: dict[str, Callable[[InferenceRequest], Any]] = {
    "np": lambda request: array.array_of(_one(request, "np")),
    "pd": lambda request: frame.frame_of(request.inputs),
    "dict": lambda request: {tensor.name: array.array_of(tensor) for tensor in request.inputs},
    **{kind: _cells_of(kind) for kind in _CELLS},
    "json": lambda request: _json(_one(request, "json")),
    **{kind: _rich(kind) for kind in huggingface_content.DECODERS},
}


def _unknown(kind: str) -> InvalidInput:
    return InvalidInput(
        f"unknown content type '{shorten(kind)}', expected one of {', '.join(_REQUESTS)}"
    )
