"""The arguments of a user's `predict`, made from a request by the types in its signature."""

from __future__ import annotations

import datetime as dt
import inspect
import sys
import typing
from typing import Any, Callable, NamedTuple

import numpy as np

from headrace.codecs import array, bytes_elements, frame
from headrace.codecs.hints import expanded
from headrace.codecs.registry import OUTPUT, decode_input
from headrace.errors import InvalidInput, InvalidModel, listing, shorten
from headrace.protocol.json_words import wanted as expected_word
from headrace.protocol.json_words import word_of
from headrace.protocol.messages import InferenceRequest, TensorMetadata
from headrace.protocol.reserved_parameters import JSON_SCHEMA, RESERVED
from headrace.protocol.tensor import Tensor

_SCALARS: dict[Any, str] = {str: "BYTES", int: "INT64", float: "FP64", bool: "BOOL"}
_WHOLE = ("request", "frame", "dict")


class Argument(NamedTuple):
    """One parameter of `predict`: the form that its value takes, and how a client sees it."""

    name: str
    form: str
    required: bool
    scalar: Any = None
    datatype: str = "FP64"
    content_type: str | None = None


class Arguments:
    """The parameters of one `predict`, read once; `bind` runs for each request.

    A lone parameter of type `InferenceRequest`, DataFrame or dict takes all inputs. Otherwise
    each parameter takes the input of its name: an ndarray, a list of str, bytes, numbers or
    times, or a single str, bytes, int, float or bool. Parameters with defaults may also come
    as request parameters.
    """

    def __init__(self, predict: Callable[..., Any]) -> None:
        hints = _hints(predict)
        self.returns = hints.get("return")
        self.any_parameter = False
        self.arguments: list[Argument] = []
        # By type they may be left out, though they have no default to fall back on.
        self._absent: dict[str, None] = {}
        for name, parameter in inspect.signature(predict).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                self.any_parameter = True
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                required = parameter.default is parameter.empty
                argument = _argument(name, hints.get(name, np.ndarray), required)
                self.arguments.append(argument)
                if required and not argument.required:
                    self._absent[name] = None
        self._by_name = {argument.name: argument for argument in self.arguments}
        required_ones = [argument for argument in self.arguments if argument.required]
        self._whole = next((a for a in required_ones if a.form in _WHOLE), None)
        if self._whole is not None and len(required_ones) > 1:
            raise InvalidModel(
                f"predict: parameter '{self._whole.name}' takes all inputs, so it must be the "
                "only one without a default"
            )

    def bind(self, request: InferenceRequest) -> dict[str, Any]:
        """Keyword arguments for `predict`.

        Raises:
            InvalidInput: an input is missing, unknown, or does not fit the type of its parameter.
        """
        if self._whole is not None:
            bound = {self._whole.name: _take_all(self._whole.form, request)}
        else:
            bound = self._bind_inputs(request)
        for name, value in (request.parameters or {}).items():
            argument = self._by_name.get(name)
            if argument is not None and not argument.required and name not in bound:
                bound[name] = _parameter(argument, value)
            elif self.any_parameter and name not in RESERVED and argument is None:
                bound[name] = value
        return {**self._absent, **bound}

    def metadata(self) -> list[TensorMetadata]:
        """The inputs as the protocol describes them; empty if one parameter takes them all."""
        if self._whole is not None:
            return []
        return [
            TensorMetadata(
                argument.name,
                argument.datatype,
                [1] if argument.form == "scalar" else [-1],
                _tensor_parameters(argument),
            )
            for argument in self.arguments
        ]

    def outputs(self) -> list[TensorMetadata]:
        """The output that the return type promises; empty if it promises none."""
        hint, _ = _unwrap(self.returns)
        try:
            argument = _argument(OUTPUT, hint, True)
        except InvalidModel:
            return []
        if argument.form in (*_WHOLE, "any"):
            return []
        shape = [1] if argument.form == "scalar" else [-1]
        return [TensorMetadata(OUTPUT, argument.datatype, shape, _tensor_parameters(argument))]

    def _bind_inputs(self, request: InferenceRequest) -> dict[str, Any]:
        bound: dict[str, Any] = {}
        for tensor in request.inputs:
            argument = self._by_name.get(tensor.name)
            if argument is None:
                raise InvalidInput(
                    f"input '{shorten(tensor.name)}' is unknown, this model takes "
                    f"{listing(list(self._by_name)) or 'none'}"
                )
            bound[tensor.name] = _take(argument, tensor)
        missing = [a.name for a in self.arguments if a.required and a.name not in bound]
        if missing:
            raise InvalidInput(
                f"missing input {listing(missing)}, got "
                f"{listing([tensor.name for tensor in request.inputs]) or 'none'}"
            )
        return bound


def _hints(predict: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(predict)
    except Exception as error:
        raise InvalidModel(
            "predict: its type annotations cannot be evaluated by Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}: {type(error).__name__} was raised"
        ) from error


def _argument(name: str, hint: Any, required: bool) -> Argument:
    hint, optional = _unwrap(hint)
    required = required and not optional
    if hint in _SCALARS:
        content_type = "str" if hint is str else None
        return Argument(name, "scalar", required, hint, _SCALARS[hint], content_type)
    if hint is bytes:
        return Argument(name, "scalar", required, bytes, "BYTES", "base64")
    origin = typing.get_origin(hint) or hint
    if origin is np.ndarray:
        return Argument(name, "array", required, datatype=_array_datatype(hint))
    if origin in (list, tuple) or getattr(origin, "__name__", "") == "Sequence":
        return _list_argument(name, hint, required)
    if origin is dict:
        return Argument(name, "dict", required)
    if origin is InferenceRequest:
        return Argument(name, "request", required)
    if getattr(origin, "__name__", "") == "DataFrame":
        return Argument(name, "frame", required)
    if hint is Any or hint is object:
        return Argument(name, "any", required)
    raise InvalidModel(
        f"predict: parameter '{name}' has a type that no codec supports; use InferenceRequest, "
        "numpy.ndarray, pandas.DataFrame, dict, a list of str, bytes, int, float, bool or "
        "datetime, or a single str, bytes, int, float or bool"
    )


def _list_argument(name: str, hint: Any, required: bool) -> Argument:
    inner = expanded(next(iter(typing.get_args(hint)), Any))
    if inner is bytes:
        return Argument(name, "bytes", required, datatype="BYTES", content_type="base64")
    if inner is dt.datetime:
        return Argument(name, "cells", required, datatype="BYTES", content_type="datetime")
    if inner is str:
        return Argument(name, "cells", required, datatype="BYTES", content_type="str")
    if (typing.get_origin(inner) or inner) is dict:
        return Argument(name, "cells", required, datatype="BYTES", content_type="pd_json")
    return Argument(name, "list", required, datatype=_SCALARS.get(inner, "FP64"))


def _unwrap(hint: Any) -> tuple[Any, bool]:
    """The type inside `Optional[...]` or `X | None`, and whether there was one."""
    hint = expanded(hint)
    arguments = typing.get_args(hint)
    if type(None) in arguments and len(arguments) == 2:
        return expanded(next(inner for inner in arguments if inner is not type(None))), True
    return hint, False


def _array_datatype(hint: Any) -> str:
    for part in typing.get_args(hint):
        for inner in typing.get_args(part):
            if isinstance(inner, type) and issubclass(inner, np.generic):
                try:
                    return array.tensor_of("", np.empty(0, inner)).datatype
                except TypeError:
                    return "FP64"
    return "FP64"


def _tensor_parameters(argument: Argument) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    if argument.content_type:
        parameters["content_type"] = argument.content_type
    if argument.content_type == "pd_json":
        parameters[JSON_SCHEMA] = '{"type": "object"}'
    if not argument.required:
        parameters["required"] = False
    return parameters


def _take_all(form: str, request: InferenceRequest) -> Any:
    if form == "request":
        return request
    if form == "frame":
        return frame.frame_of(request.inputs)
    return {
        tensor.name: array.array_of(tensor, writable=True)
        if tensor.content_type in (None, "np")
        else decode_input(tensor)
        for tensor in request.inputs
    }


def _take(argument: Argument, tensor: Tensor) -> Any:
    form = argument.form
    if form == "array":
        return array.array_of(tensor, writable=True)
    if form == "cells":
        return bytes_elements.decode(tensor, argument.content_type)
    if form == "bytes":
        return _bytes(tensor)
    if form == "list":
        return array.array_of(tensor).tolist()
    if form == "scalar":
        return _scalar(argument, tensor)
    if form == "frame":
        return frame.frame_of([tensor])
    return decode_input(tensor)


def _bytes(tensor: Tensor) -> list[bytes]:
    return (
        bytes_elements.decode(tensor)
        if tensor.content_type == "base64"
        else bytes_elements.raw(tensor)
    )


def _scalar(argument: Argument, tensor: Tensor) -> Any:
    wanted = argument.scalar
    values = _bytes(tensor) if wanted is bytes else array.array_of(tensor).ravel().tolist()
    if len(values) != 1:
        raise InvalidInput(
            f"input '{argument.name}': expected one value, shape [1], got shape "
            f"{list(tensor.shape)}"
        )
    value = values[0]
    if {wanted, type(value)} == {int, float}:
        converted = _whole(value, wanted)
        if converted != value:
            raise InvalidInput(
                f"input '{argument.name}': expected datatype {argument.datatype}, got "
                f"{shorten(tensor.datatype)} that does not convert without loss"
            )
        return converted
    if type(value) is not wanted:
        raise InvalidInput(
            f"input '{argument.name}': expected datatype {argument.datatype}, "
            f"got {shorten(tensor.datatype)}"
        )
    return value


def _whole(value: Any, wanted: Any) -> Any:
    """An integer as a float, or a float as an integer; None if it does not convert."""
    try:
        return wanted(value)
    except (ValueError, OverflowError):
        return None


def _parameter(argument: Argument, value: Any) -> Any:
    wanted = argument.scalar
    if wanted is float and type(value) is int:
        return float(value)
    if wanted is int and type(value) is float and value.is_integer():
        return int(value)
    if wanted in _SCALARS and type(value) is not wanted:
        raise InvalidInput(
            f"parameter '{argument.name}': expected {expected_word(wanted)}, "
            f"got {word_of(type(value))}"
        )
    return value
