"""Answers of MLflow's scoring protocol: predictions as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from headrace.errors import BadModelOutput, shorten
from headrace.protocol.casting import to_array
from headrace.protocol.datatypes import element_count
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.mlflow.large_answer import LargeAnswer
from headrace.protocol.piecewise import LARGE
from headrace.protocol.tensor import Tensor, unpack_bytes
from headrace.protocol.value_forms import is_tuple

PREDICTIONS = "predictions"
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def encode(response: InferenceResponse, key: str | None = PREDICTIONS) -> bytes:
    """The JSON answer of `POST /invocations`: `{"predictions": X}`, or X if there is no `key`.

    NaN and infinity become null, so the answer is always valid JSON.

    Raises:
        BadModelOutput: the outputs do not form an answer, or hold bytes that are not UTF-8.
    """
    outputs = response.outputs
    if response.nbytes >= LARGE and outputs:
        return _encode_large(response, key)
    kind = response.content_type
    if kind == "json" and len(outputs) == 1:
        value: Any = orjson.Fragment(_elements(outputs[0])[0])
    elif kind == "pd":
        value = _records(outputs)
    elif kind == "dict" and is_tuple(response.form):
        value = [_nested(output) for output in outputs]
    elif kind == "dict" or len(outputs) > 1:
        value = {output.name: _nested(output) for output in outputs}
    elif outputs:
        value = _nested(outputs[0])
    else:
        raise BadModelOutput("the model returned no outputs")
    try:
        return orjson.dumps(value if key is None else {key: value}, option=_OPTIONS)
    except TypeError as error:
        raise BadModelOutput("the model's answer cannot be written as JSON") from error


def _encode_large(response: InferenceResponse, key: str | None) -> bytes:
    outputs = response.outputs
    kind = response.content_type
    answer = LargeAnswer(_nested, _records, _OPTIONS)
    if key is not None:
        answer.add(b'{"%b":' % key.encode())
    try:
        if kind == "json" and len(outputs) == 1:
            answer.add_json(outputs[0])
        elif kind == "pd":
            answer.add_records(outputs)
        elif kind == "dict" and is_tuple(response.form):
            for index, output in enumerate(outputs):
                answer.add(b"," if index else b"[")
                answer.add_nested(output)
            answer.add(b"]")
        elif kind == "dict" or len(outputs) > 1:
            by_name = {output.name: output for output in outputs}
            answer.add_members(by_name, lambda name: answer.add_nested(by_name[name]))
        else:
            answer.add_nested(outputs[0])
    except TypeError as error:
        raise BadModelOutput("the model's answer cannot be written as JSON") from error
    if key is not None:
        answer.add(b"}")
    return answer.whole()


def _nested(tensor: Tensor) -> Any:
    """A tensor as values that JSON can hold, in its own shape."""
    if tensor.datatype == "BYTES":
        return _reshape(_texts(tensor), list(tensor.shape))
    array = to_array(tensor).reshape(tensor.shape)
    # MLflow writes float32 with the digits of the same number as a double.
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        array = array.astype("<f8")
    elif not array.flags.aligned:
        array = array.copy()
    return array if array.ndim else array.item()


def _elements(tensor: Tensor) -> list[bytes]:
    count = element_count(tensor.shape, tensor.name)
    return unpack_bytes(tensor.data, count, f"output '{shorten(tensor.name)}'")


def _texts(tensor: Tensor) -> list[Any]:
    """The elements of a BYTES tensor: text, or JSON to be spliced in."""
    elements = _elements(tensor)
    if tensor.content_type in ("pd_json", "json", "hg_jsonlist"):
        return [orjson.Fragment(element) for element in elements]
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError:
        raise BadModelOutput(
            f"output '{shorten(tensor.name)}' holds bytes that are not UTF-8; "
            "ask for it as binary data over /v2"
        ) from None


def _reshape(flat: list[Any], shape: list[int]) -> Any:
    """Nest a flat, row-major list to `shape`."""
    if not shape:
        return flat[0]
    for width in reversed(shape[1:]):
        if width == 0:
            return np.empty(shape).tolist()
        flat = [flat[start : start + width] for start in range(0, len(flat), width)]
    return flat


def _records(columns: list[Tensor]) -> list[dict[str, Any]]:
    """One object per row from one output per column."""
    names = [column.name for column in columns]
    cells = [_cells(column) for column in columns]
    if len({len(column) for column in cells}) > 1:
        raise BadModelOutput("the model's output columns differ in their number of rows")
    return [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)]


def _cells(column: Tensor) -> list[Any]:
    """A column's cells, one per row."""
    shape = list(column.shape)
    values = _nested(column)
    if not shape:
        return [values]
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if len(shape) == 2 and shape[1] == 1:
        return [cell[0] for cell in values]
    return list(values)
