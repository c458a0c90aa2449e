"""numpy arrays, as nested JSON lists or as a `.npy` file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.codecs import containers, jsontext
from headrace.errors import BadModelOutput, InvalidInput
from headrace.io import element_types, json_body
from headrace.io.descriptor import (
    BODY,
    OCTETS,
    Descriptor,
    Encoded,
    check_media_type,
    is_json,
    may_be_json,
    media_type_of,
    refuse_output,
)
from headrace.io.shape import checked_shape, matches, nested_schema

NPY_MAGIC = np.lib.format.MAGIC_PREFIX
NPY = ("application/vnd.numpy", OCTETS)
_MOST_HEADER_BYTES = 10_000
_SCHEMAS = {"b": "boolean", "i": "integer", "u": "integer", "f": "number", "U": "string"}


class NumpyNdarray(Descriptor):
    """An array: nested lists in JSON, or the bytes of a `.npy` file without pickled objects.

    `dtype` is what elements are converted to: within their kind, or where no value changes. If
    that cannot be done, the request is refused with `enforce_dtype`, and the array keeps its dtype
    without. -1 in `shape` stands for any size. An array of another shape is refused with
    `enforce_shape`; without, it is reshaped if it can be. The same rules hold for answers.

    Raises:
        ValueError: a dtype or shape is not one, or is enforced and not given.
    """

    content_types = ("application/json", *NPY)
    content_type = "application/json"

    def __init__(
        self,
        dtype: Any = None,
        enforce_dtype: bool = False,
        shape: Sequence[int] | None = None,
        enforce_shape: bool = False,
    ) -> None:
        try:
            self.dtype = None if dtype is None else np.dtype(dtype)
        except TypeError:
            raise ValueError(f"dtype: {dtype!r} is not a numpy dtype") from None
        self.shape = None if shape is None else checked_shape(shape)
        if enforce_dtype and dtype is None:
            raise ValueError("enforce_dtype=True needs a dtype")
        if enforce_shape and shape is None:
            raise ValueError("enforce_shape=True needs a shape")
        self.enforce_dtype, self.enforce_shape = enforce_dtype, enforce_shape
        # What an array of another shape is reshaped to.
        self._target = self.shape

    @classmethod
    def from_sample(
        cls,
        sample: Any,
        dtype: Any = None,
        enforce_dtype: bool = False,
        shape: Sequence[int] | None = None,
        enforce_shape: bool = False,
    ) -> NumpyNdarray:
        """A descriptor for arrays like `sample`, which is an array or what numpy makes one of.

        Its dtype and its shape are taken where none is given; the first dimension is free. Unless
        the shape is enforced, only an array of as many elements as the sample is reshaped.
        """
        array = np.asarray(sample)
        own = shape is None
        if own and array.ndim:
            shape = (-1, *array.shape[1:])
        made = cls(array.dtype if dtype is None else dtype, enforce_dtype, shape, enforce_shape)
        if own:
            # With a free dimension, a row of twice the length would become two rows.
            made._target = array.shape
        made.example = array.tolist()
        return made

    def decode(self, body: bytes, headers: Mapping[str, str], where: str = BODY) -> Any:
        """The array in a body."""
        unnamed_or_json = may_be_json(headers.get("content-type", ""))
        if unnamed_or_json and (not body.startswith(NPY_MAGIC) or is_json(media_type_of(headers))):
            return self.decode_json(json_body.loads(body, where), where)
        if not unnamed_or_json:
            check_media_type(media_type_of(headers), self.content_types, where)
        return self._checked(_from_npy(body, where), where)

    def decode_json(self, value: Any, where: str) -> Any:
        """The array of nested lists."""
        return self._checked(element_types.array_of_json(value, self.dtype, where), where)

    def encode(self, value: Any) -> Encoded:
        """An array, or a list, frame or tensor that numpy makes one of, as JSON; NaN is null."""
        try:
            array = containers.exact_array(value)
        except (TypeError, ValueError):
            raise refuse_output("a numpy array", value) from None
        if value is None or isinstance(value, (dict, str, bytes)):
            raise refuse_output("a numpy array", value)
        try:
            array = self._checked(array, "the answer")
        except InvalidInput as error:
            raise BadModelOutput(error.message) from error
        return Encoded(jsontext.dumps(array, "the answer"), self.content_type)

    def openapi_schema(self) -> dict[str, Any]:
        """Nested lists as deep as the shape."""
        kind = None if self.dtype is None else _SCHEMAS.get(self.dtype.kind)
        return nested_schema(self.shape, {} if kind is None else {"type": kind})

    def _checked(self, array: Any, where: str) -> Any:
        return self._shaped(self._typed(array, where), where)

    def _typed(self, array: Any, where: str) -> Any:
        if self.dtype is None or array.dtype == self.dtype:
            return array
        try:
            return element_types.converted(array, self.dtype)
        except InvalidInput as error:
            if not self.enforce_dtype:
                return array
            why = element_types.reason(error)
            raise InvalidInput(
                f"{where}: expected elements of {self.dtype}, got {array.dtype}: {why}; "
                "the endpoint has enforce_dtype=True"
            ) from None

    def _shaped(self, array: Any, where: str) -> Any:
        if self.shape is None or matches(array.shape, self.shape):
            return array
        if self.enforce_shape:
            raise InvalidInput(
                f"{where}: expected an array of shape {_shown(self.shape)}, got "
                f"{_shown(array.shape)}; the endpoint has enforce_shape=True"
            )
        try:
            return array.reshape(self._target)
        except ValueError:
            return array

    def __repr__(self) -> str:
        return f"NumpyNdarray(dtype={self.dtype}, shape={self.shape})"


def _shown(shape: Sequence[int]) -> str:
    """A shape in a message, where a star is easier to understand than -1."""
    return "(" + ", ".join("*" if each == -1 else str(each) for each in shape) + ")"


def _from_npy(body: bytes, where: str) -> Any:
    """The array of a `.npy` file, whose header is compared with its size before it is believed.

    Raises:
        InvalidInput: it is no such file, holds Python objects, or is of another size.
    """
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        if int.from_bytes(body[8 : 10 if version == (1, 0) else 12], "little") > _MOST_HEADER_BYTES:
            raise ValueError
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        count = 1
        for dimension in shape:
            count *= dimension
        if min(shape, default=0) < 0 or max(shape, default=0) >= 2**31 or len(shape) > 32:
            raise ValueError
    except Exception:
        raise InvalidInput(f"{where} is not a .npy file, as numpy.save writes it") from None
    if dtype.hasobject:
        raise InvalidInput(f"{where}: the .npy file holds pickled Python objects, expected numbers")
    start = file.tell()
    if not dtype.itemsize or count * dtype.itemsize != len(body) - start:
        raise InvalidInput(
            f"{where}: the .npy file announces {count} elements of {dtype} and holds "
            f"{len(body) - start} bytes"
        )
    array = np.frombuffer(body, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="))
