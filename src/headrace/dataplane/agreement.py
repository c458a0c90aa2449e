"""Whether two versions of a model have given the same answer. Pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from headrace.errors import shorten
from headrace.protocol.casting import to_array
from headrace.protocol.datatypes import element_count
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.tensor import Tensor, unpack_bytes

# Content types of elements that are JSON text.
_JSON = frozenset(("json", "pd_json", "hg_jsonlist"))


def difference(expected: InferenceResponse, found: InferenceResponse, tolerance: float) -> str:
    """What is different in `found`, without any value of it; empty if nothing is.

    Outputs are matched by name, and `found` may have more of them. Whole numbers, booleans and text
    must be equal. Other numbers may be `tolerance` apart, or that part of the expected one; NaN
    equals NaN.
    """
    others = {output.name: output for output in found.outputs}
    for output in expected.outputs:
        name = shorten(output.name)
        other = others.get(output.name)
        if other is None:
            return f"output '{name}' is missing"
        if list(other.shape) != list(output.shape):
            return f"output '{name}' has shape {list(other.shape)}, not {list(output.shape)}"
        if (output.datatype == "BYTES") != (other.datatype == "BYTES"):
            return f"output '{name}' has datatype {other.datatype}, not {output.datatype}"
        if output.datatype == other.datatype and output.data == other.data:
            continue
        if output.datatype == "BYTES":
            is_json = _is_json(expected, output) and _is_json(found, other)
            count = _different_elements(output, other, tolerance if is_json else None)
        else:
            count = _different_numbers(to_array(output), to_array(other), tolerance)
        if count:
            total = element_count(output.shape, name)
            return f"output '{name}' differs in {count} of {total} elements"
    return ""


def _is_json(response: InferenceResponse, output: Tensor) -> bool:
    return output.content_type in _JSON or response.content_type in _JSON


def _different_numbers(expected: Any, found: Any, tolerance: float) -> int:
    if expected.dtype.kind in "biu" and found.dtype.kind in "biu":
        return int(np.count_nonzero(expected != found))
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(found - expected) <= tolerance * np.maximum(1.0, np.abs(expected))
    # An infinite number is within any part of itself, so that none is near to it but itself.
    near &= np.isfinite(expected)
    near |= (expected == found) | (np.isnan(expected) & np.isnan(found))
    return int(np.count_nonzero(~near))


def _different_elements(expected: Tensor, found: Tensor, tolerance: float | None) -> int:
    """How many elements of two BYTES tensors differ; with a tolerance, they are JSON."""
    count = element_count(expected.shape, expected.name)
    pairs = zip(unpack_bytes(expected.data, count), unpack_bytes(found.data, count), strict=True)
    unequal = [pair for pair in pairs if pair[0] != pair[1]]
    if tolerance is None:
        return len(unequal)
    return sum(not _same_json(*pair, tolerance) for pair in unequal)


def _same_json(expected: bytes, found: bytes, tolerance: float) -> bool:
    try:
        pairs = [(orjson.loads(expected), orjson.loads(found))]
    except orjson.JSONDecodeError:
        return False
    # Not recursive, because a model chooses how deep its answer is.
    while pairs:
        one, other = pairs.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            pairs += [(value, other[key]) for key, value in one.items()]
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            pairs += zip(one, other, strict=True)
        elif isinstance(one, float) or isinstance(other, float):
            if not _is_near(one, other, tolerance):
                return False
        elif type(one) is not type(other) or one != other:
            return False
    return True


def _is_near(expected: Any, found: Any, tolerance: float) -> bool:
    if type(expected) not in (int, float) or type(found) not in (int, float):
        return False
    return bool(abs(found - expected) <= tolerance * max(1.0, abs(expected)))
