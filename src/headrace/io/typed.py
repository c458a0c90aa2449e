"""The descriptors of an endpoint from the annotations of its function."""

from __future__ import annotations

import inspect
import io
import typing
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np

from headrace.codecs.hints import expanded
from headrace.io.descriptor import Descriptor
from headrace.io.json_forms import NoForm
from headrace.io.json_value import JSON
from headrace.io.named_values import Arguments, Multipart
from headrace.io.numpy_ndarray import NumpyNdarray
from headrace.io.pandas_dataframe import PandasDataFrame
from headrace.io.pandas_series import PandasSeries
from headrace.io.pil_image import Image
from headrace.io.plain_text import Text
from headrace.io.samples import is_class
from headrace.io.shape import Shape
from headrace.io.uploaded_file import File

# The context of a call is given by name, as BentoML does it, and is no part of the body.
CONTEXT = ("ctx", "context")
_OPEN_FILES = (io.IOBase, io.BytesIO, io.BufferedIOBase, io.RawIOBase, typing.BinaryIO)
_KNOWN = (
    "numpy.ndarray, pandas.DataFrame, pandas.Series, str, bytes, int, float, bool, dict, list, a "
    "dataclass, a pydantic BaseModel, a msgspec.Struct, PIL.Image.Image or pathlib.Path"
)


class Endpoint(NamedTuple):
    """The descriptors of an endpoint, which has one argument unless `input.by_name` is true."""

    input: Descriptor
    output: Descriptor


def endpoint_descriptors(function: Callable[..., Any]) -> Endpoint:
    """The descriptors for a function whose parameters and return value are annotated.

    One parameter is the whole body. Several are the members of a JSON object, or the parts of a
    form if one of them is a file or an image; parameters with defaults may be left out. A
    parameter named `ctx` or `context` is not part of the request. `Annotated` adds to a type what
    is enforced: a `Shape`, a dtype, for frames the list of columns or a dict of dtypes by column,
    or a descriptor that replaces what the type would give.

    Raises:
        TypeError: a parameter or the return value has no annotation, or one without a descriptor;
            the message names it.
    """
    name = getattr(function, "__qualname__", repr(function))
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError) as error:
        raise TypeError(f"{name}: an annotation cannot be resolved: {error}") from None
    fields: dict[str, Descriptor] = {}
    optional = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in CONTEXT:
            continue
        what = f"{name}: parameter '{parameter.name}'"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{what} stands for any number of arguments, expected named ones")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(f"{what} is positional-only, expected one that can be named")
        fields[parameter.name] = _annotated(hints, parameter.name, what)
        if parameter.default is not parameter.empty:
            optional.append(parameter.name)
    output = _annotated(hints, "return", f"{name}: the return value")
    return Endpoint(_input(fields, optional, name), output)


def _input(fields: dict[str, Descriptor], optional: list[str], name: str) -> Descriptor:
    if len(fields) == 1 and not optional:
        return next(iter(fields.values()))
    for parameter, descriptor in fields.items():
        if descriptor.by_name:
            raise TypeError(f"{name}: parameter '{parameter}' must be the only one")
    if not any(each.is_binary for each in fields.values()):
        return Arguments(fields, optional)
    form = Multipart(**fields)
    form.optional = frozenset(optional)
    return form


def _annotated(hints: dict[str, Any], key: str, what: str) -> Descriptor:
    if key not in hints:
        raise TypeError(f"{what} has no annotation, expected {_KNOWN}")
    try:
        return descriptor_of(hints[key])
    except NoForm as error:
        raise TypeError(f"{what}: {error}; expected {_KNOWN}") from None
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what}: {error}") from None


def descriptor_of(hint: Any) -> Descriptor:
    """The descriptor for an annotation.

    Raises:
        NoForm: there is none.
        TypeError: something in `Annotated` does not belong to the type.
        ValueError: a dtype or shape in it is not one.
        MissingDependency: the library that the descriptor needs is not installed.
    """
    hint = expanded(hint)
    extras: tuple[Any, ...] = ()
    if typing.get_origin(hint) is typing.Annotated:
        hint, *rest = typing.get_args(hint)
        extras, hint = tuple(rest), expanded(hint)
    for extra in extras:
        if isinstance(extra, Descriptor):
            return extra
    plain = typing.get_origin(hint) or hint
    if isinstance(plain, type) and issubclass(plain, np.ndarray):
        return _array(hint, extras)
    if is_class(plain, "pandas", "DataFrame"):
        return _frame(extras)
    if is_class(plain, "pandas", "Series"):
        dtype = _dtype(extras, "a Series")
        return PandasSeries(dtype=dtype, enforce_dtype=dtype is not None)
    if extras and any(isinstance(extra, Shape) for extra in extras):
        raise TypeError(f"{hint!r} has no shape")
    return _without_dtype(plain, hint)


def _without_dtype(plain: Any, hint: Any) -> Descriptor:
    if plain is str:
        return Text()
    if plain in (bytes, bytearray):
        return File("bytes")
    if plain in _OPEN_FILES or (plain is typing.IO and bytes in typing.get_args(hint)):
        return File()
    if isinstance(plain, type) and issubclass(plain, PurePath):
        return File("path")
    if is_class(plain, "PIL", "Image"):
        return Image(mime_type="image/png")
    return JSON(type(None) if hint is None else hint)


def _array(hint: Any, extras: tuple[Any, ...]) -> NumpyNdarray:
    shape = next((extra for extra in extras if isinstance(extra, Shape)), None)
    dtype = _dtype(extras, "an array")
    arguments = typing.get_args(hint)
    if dtype is None and len(arguments) == 2:
        (inner,) = typing.get_args(arguments[1]) or (None,)
        dtype = inner if isinstance(inner, type) and issubclass(inner, np.generic) else None
    return NumpyNdarray(dtype, dtype is not None, shape, shape is not None)


def _frame(extras: tuple[Any, ...]) -> PandasDataFrame:
    columns = next((list(extra) for extra in extras if isinstance(extra, list)), None)
    by_column = next((extra for extra in extras if isinstance(extra, dict)), None)
    shape = next((extra for extra in extras if isinstance(extra, Shape)), None)
    others = tuple(extra for extra in extras if not isinstance(extra, (list, dict)))
    dtype = _dtype(others, "a frame") if by_column is None else by_column
    if columns is None and by_column is not None:
        columns = list(by_column)
    return PandasDataFrame(
        columns=columns,
        dtype=dtype,
        enforce_dtype=dtype is not None,
        shape=shape,
        enforce_shape=shape is not None,
    )


def _dtype(extras: tuple[Any, ...], what: str) -> Any:
    """The dtype among what `Annotated` adds; None if there is none."""
    rest = [extra for extra in extras if not isinstance(extra, Shape)]
    if len(rest) > 1:
        raise TypeError(f"{what} has one dtype, got {rest!r}")
    if not rest:
        return None
    try:
        return np.dtype(rest[0])
    except TypeError:
        raise TypeError(f"{rest[0]!r} is neither a Shape nor a dtype") from None
