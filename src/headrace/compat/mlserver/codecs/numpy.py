"""Arrays."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from headrace.codecs import array
from headrace.compat.mlserver.codecs.base import (
    InputCodec,
    register_input_codec,
    register_request_codec,
)
from headrace.compat.mlserver.codecs.lists import is_list_of
from headrace.compat.mlserver.codecs.utils import SingleInputRequestCodec, inject_batch_dimension
from headrace.compat.mlserver.tensors import Described, described_as, tensor_of
from headrace.compat.mlserver.types.dataplane import (
    Datatype,
    Parameters,
    RequestInput,
    ResponseOutput,
)
from headrace.protocol.datatypes import datatype
from headrace.protocol.tensor import Tensor, pack_bytes

_Made = TypeVar("_Made", RequestInput, ResponseOutput)


def to_dtype(input_or_output: Described) -> np.dtype[Any]:
    """The type of the array that such a tensor becomes; users' codecs build on it.

    Raises:
        InvalidInput: the datatype is not one of the protocol's.
    """
    if input_or_output.datatype != "BYTES":
        return np.dtype(datatype(input_or_output.datatype, input_or_output.name).numpy)
    if is_list_of(input_or_output.data.root, str):
        return np.dtype(str)
    return np.dtype((bytes, input_or_output.shape[-1]))


def to_datatype(dtype: np.dtype[Any]) -> Datatype:
    """The datatype that an array of that type is sent as."""
    return Datatype(array.tensor_of("", np.empty(0, dtype)).datatype)


@register_input_codec
class NumpyCodec(InputCodec):
    """An array of numbers, read from the tensor's own bytes, or of text."""

    ContentType = "np"
    TypeHint = np.ndarray

    @classmethod
    def encode_output(
        cls, name: str, payload: np.ndarray[Any, Any], **kwargs: Any
    ) -> ResponseOutput:
        return cls._made(ResponseOutput, name, payload)

    @classmethod
    def encode_input(cls, name: str, payload: np.ndarray[Any, Any], **kwargs: Any) -> RequestInput:
        return cls._made(RequestInput, name, payload)

    @classmethod
    def decode_input(cls, request_input: RequestInput) -> np.ndarray[Any, Any]:
        return _array(request_input)

    @classmethod
    def decode_output(cls, response_output: ResponseOutput) -> np.ndarray[Any, Any]:
        return _array(response_output)

    @classmethod
    def _made(cls, made: type[_Made], name: str, payload: np.ndarray[Any, Any]) -> _Made:
        tensor = _raw(name, payload) or array.tensor_of(name, payload)
        item = described_as(made, tensor, as_bytes=True)
        item.shape = inject_batch_dimension(item.shape)
        if tensor.content_type in (None, "str"):
            item.parameters = Parameters(content_type=cls.ContentType)
        return item


def _raw(name: str, payload: np.ndarray[Any, Any]) -> Tensor | None:
    """An array of bytes as they are, as MLServer sends it; None for any other."""
    if payload.dtype.kind not in "SO":
        return None
    values = payload.ravel().tolist()
    if not values or not is_list_of(values, bytes):
        return None
    return Tensor(name, "BYTES", list(payload.shape), pack_bytes(values))


def _array(item: Described) -> np.ndarray[Any, Any]:
    if item.datatype != "BYTES":
        return array.array_of(tensor_of(item), writable=True)
    values = np.array(item.data.root)
    return values.reshape(tuple(item.shape))


@register_request_codec
class NumpyRequestCodec(SingleInputRequestCodec):
    """A request of one array."""

    InputCodec = NumpyCodec
    ContentType = NumpyCodec.ContentType
