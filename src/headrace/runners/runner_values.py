"""What is given to a runner as a request, and the answer of its model as a value."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from headrace.codecs import decode_request, encode_response, values
from headrace.codecs.array import array_of, tensor_of
from headrace.codecs.frame import tensor_of_series
from headrace.errors import BadModelOutput, InvalidInput
from headrace.protocol import nullable, value_forms
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.reserved_parameters import BATCH_DIM, PYTHON_VALUE
from headrace.protocol.tensor import Tensor
from headrace.protocol.value_forms import Form

# The server gives a lone input the name that its model has for it.
UNNAMED = "input-0"
_NUMBERED = re.compile(r"output-\d+")


def only_value(where: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The value that a method of a stored model is called with; `where` names the method.

    Raises:
        InvalidInput: there is not just one.
    """
    if len(args) + bool(kwargs) != 1:
        raise InvalidInput(
            f"{where} takes one value, or several by their names, got {len(args)} without a name "
            f"and {len(kwargs)} with one"
        )
    return args[0] if args else kwargs


def request_of(
    value: Any, method: str | None = None, batch_dim: tuple[int, int] = (0, 0)
) -> InferenceRequest:
    """The request that asks a stored model for the answer to `value`; no method is its default.

    Rows are along dimension `batch_dim[0]` of every array. What is not an array, a DataFrame or a
    dict of arrays is sent with its form, for models that take such values.

    Raises:
        InvalidInput: no tensor can hold the value.
    """
    sent = sent_value(value, batch_dim[0])
    parameters: dict[str, Any] = {}
    # An array is what a lone input without a content type is read as, so that such requests share
    # batches with those of clients.
    if sent.content_type != "np" or sent.form is not None:
        parameters["content_type"] = sent.content_type
    if sent.form is not None:
        parameters[PYTHON_VALUE] = {"form": sent.form, **({} if sent.by_row else {"whole": True})}
    if any(batch_dim):
        parameters[BATCH_DIM] = list(batch_dim)
    return InferenceRequest(sent.tensors, parameters or None, None if method is None else [method])


class SentValue(NamedTuple):
    """A value as it is sent to a model. Those that are not `by_row` stay alone."""

    tensors: list[Tensor]
    content_type: str
    form: Form
    by_row: bool


def sent_value(value: Any, dim: int = 0) -> SentValue:
    """The tensors that stand for a value, whose rows are moved from dimension `dim` to the first.

    Raises:
        InvalidInput: no tensor can hold the value.
    """
    try:
        tensors, kind, form = _tensors(value, dim)
    except BadModelOutput as error:
        raise InvalidInput(f"a runner's input cannot be sent: {error.message}") from error
    return SentValue(tensors, kind, form, kind != "json" and value_forms.is_by_row(form))


def value_of(response: InferenceResponse, batch_dim: tuple[int, int] = (0, 0)) -> Any:
    """The answer of a model as a Python value, most like what the model returned.

    One array, a tuple of arrays where the outputs are only numbered, a dict of arrays where they
    have names, a DataFrame, a list of text, or a JSON value; whatever form the response has.
    """
    return values.restored(_by_content_type(response, batch_dim), response.form)


def _by_content_type(response: InferenceResponse, batch_dim: tuple[int, int]) -> Any:
    kind = response.content_type or ("np" if len(response.outputs) == 1 else "dict")
    if kind == "np" and len(response.outputs) == 1:
        found: Any = array_of(response.outputs[0], writable=True)
        return np.moveaxis(found, 0, batch_dim[1]) if batch_dim[1] else found
    found = decode_request(InferenceRequest(response.outputs, response.parameters), kind)
    if not isinstance(found, dict):
        return found
    if batch_dim[1]:
        found = {name: np.moveaxis(item, 0, batch_dim[1]) for name, item in found.items()}
    if len(found) > 1 and all(_NUMBERED.fullmatch(name) for name in found):
        return tuple(found.values())
    return found


def _tensors(value: Any, dim: int) -> tuple[list[Tensor], str, Form]:
    if isinstance(value, np.ndarray):
        tensor = tensor_of(UNNAMED, _rows_first(value, dim))
        if value.dtype.kind in "biuf" and not isinstance(value, np.ma.MaskedArray):
            return [tensor], "np", None
        form = values.form_of(value)
        is_text = form is None and tensor.content_type == "str"
        return [tensor], "str" if is_text else "np", form
    if hasattr(value, "iloc") and not hasattr(value, "columns"):
        tensor = tensor_of_series(UNNAMED, value, is_answer=True)
        return [_without_kinds(tensor)], "pd", values.form_of(value)
    if isinstance(value, dict) and dim:
        value = {name: _rows_first(np.asarray(item), dim) for name, item in value.items()}
    elif isinstance(value, (list, tuple)) and dim:
        return _tensors(np.asarray(value), dim)
    elif dim and (array := values.as_array(value)) is not value:
        return _tensors(array, dim)
    response = encode_response(value, UNNAMED)
    tensors = [_without_kinds(tensor) for tensor in response.outputs]
    return tensors, response.content_type or "np", response.form


def _without_kinds(tensor: Tensor) -> Tensor:
    """The tensor as a model takes it: integers beside fractions are doubles."""
    return nullable.raw(tensor, "FP64") if nullable.datatype_of(tensor) == "FP64" else tensor


def _rows_first(value: np.ndarray[Any, Any], dim: int) -> np.ndarray[Any, Any]:
    if not dim:
        return value
    if value.ndim <= dim:
        raise InvalidInput(
            f"a runner's input has {value.ndim} dimensions, but its rows are along dimension {dim} "
            "(batch_dim)"
        )
    return np.moveaxis(value, dim, 0)
