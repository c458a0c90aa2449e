"""The binary tensor data extension: raw tensors after the JSON, or a body that is one tensor.

Implements "Binary Tensor Data Extension" of the Open Inference Protocol for requests, and the
choice of the outputs that are returned as binary.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from headrace.errors import InvalidInput, shorten
from headrace.protocol.datatypes import datatype, element_count
from headrace.protocol.messages import InferenceRequest, TensorMetadata
from headrace.protocol.place import refusal
from headrace.protocol.tensor import Buffer, Tensor, check_size, pack_bytes


class AllExcept:
    """A set of names that holds every name but the given ones."""

    __slots__ = ("names",)

    def __init__(self, names: frozenset[str] = frozenset()) -> None:
        self.names = names

    def __contains__(self, name: object) -> bool:
        return name not in self.names


NO_OUTPUTS: Container[str] = frozenset()
ALL_OUTPUTS: Container[str] = AllExcept()
NO_CLASSES: Mapping[str, int] = MappingProxyType({})


class RestRequest:
    """A decoded REST request, and the form in which its outputs are wanted.

    Use `name in binary_outputs` to check whether one is wanted as binary; the container is falsy
    if it is empty. `classes` says of how many classes of an output the texts are wanted.
    """

    __slots__ = ("binary_outputs", "classes", "request")

    def __init__(
        self,
        request: InferenceRequest,
        binary_outputs: Container[str] = NO_OUTPUTS,
        classes: Mapping[str, int] = NO_CLASSES,
    ) -> None:
        self.request = request
        self.binary_outputs = binary_outputs
        self.classes = classes


class RawTensors:
    """The bytes that follow the JSON of a binary request, handed out in input order."""

    __slots__ = ("offset", "view")

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.offset = 0

    def take(self, size: Any, where: str) -> memoryview:
        """The next `size` bytes; `size` is the unchecked value of `binary_data_size`.

        Raises:
            InvalidInput: it is not a size, or is more than the bytes that are left.
        """
        if type(size) is not int or size < 0:
            raise InvalidInput(
                f"{where}: parameter binary_data_size must be an integer of at least 0"
            )
        end = self.offset + size
        if end > len(self.view):
            raise InvalidInput(
                f"{where}: binary_data_size asks for {shorten(size, 24)} bytes, "
                f"the body has {len(self.view) - self.offset} left"
            )
        piece = self.view[self.offset : end]
        self.offset = end
        return piece

    def finish(self) -> None:
        """Check that the inputs took all bytes.

        Raises:
            InvalidInput: bytes are left over.
        """
        left = len(self.view) - self.offset
        if left:
            raise InvalidInput(
                f"{left} bytes of binary tensor data follow the last input; the sizes in "
                "binary_data_size must add up to the rest of the body"
            )


def check_raw(tensor: Tensor, where: str) -> None:
    """Check that raw bytes from a client are a valid tensor.

    Raises:
        InvalidInput: the size or a BYTES length is wrong, or a BOOL is neither 0 nor 1.
    """
    check_size(tensor, where)
    data = bytes(tensor.data) if tensor.datatype == "BOOL" else b""
    if other := data.translate(None, b"\0\1"):
        index = data.index(other[:1])
        raise refusal(where, index, tensor.shape, "the byte 0 or 1 (BOOL)", "another byte")


def flag(parameters: Mapping[str, Any], key: str, where: str, default: bool) -> bool:
    """The boolean parameter `key`, or `default` where it is absent.

    Raises:
        InvalidInput: it is not a boolean.
    """
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise InvalidInput(f"{where}: parameter {key} must be true or false")
    return value


def choose_binary(default: bool, overrides: Mapping[str, bool]) -> Container[str]:
    """The outputs requested as binary: a default for all, overridden by name."""
    if default:
        return AllExcept(frozenset(name for name, wanted in overrides.items() if not wanted))
    return frozenset(name for name, wanted in overrides.items() if wanted)


def decode_raw(body: Buffer, inputs: Sequence[TensorMetadata]) -> RestRequest:
    """Decode a raw request, whose whole body is the only input of the model.

    The header `Inference-Header-Content-Length: 0` selects raw mode. A free dimension takes its
    size from the body; if the leading one and another are free, the leading one is a batch of 1.
    The body of a BYTES input is its only element, without a length prefix. All outputs are
    returned as binary.

    Raises:
        InvalidInput: the model does not have exactly one input, more dimensions are free than
            the size can determine, or the size fits no shape.
    """
    if len(inputs) != 1:
        raise InvalidInput(
            f"a raw request needs a model with exactly one input, this one has {len(inputs)}"
        )
    meta = inputs[0]
    where = f"input '{shorten(meta.name)}'"
    kind = datatype(meta.datatype, where)
    if kind.itemsize:
        tensor = Tensor(
            meta.name, kind.name, _raw_shape(meta, kind.itemsize, len(body), where), body
        )
    else:
        shape = [1 if dim < 0 else dim for dim in meta.shape]
        if element_count(shape, where) != 1:
            raise InvalidInput(
                f"{where}: a raw request carries one BYTES element, but the model expects "
                f"shape {list(meta.shape)}"
            )
        tensor = Tensor(meta.name, kind.name, shape, pack_bytes([bytes(body)]))
    check_raw(tensor, where)
    return RestRequest(InferenceRequest([tensor]), ALL_OUTPUTS)


def _raw_shape(meta: TensorMetadata, itemsize: int, size: int, where: str) -> list[int]:
    shape = list(meta.shape)
    free = [position for position, dim in enumerate(shape) if dim < 0]
    if len(free) == 2 and free[0] == 0:
        shape[free.pop(0)] = 1
    if len(free) > 1:
        raise InvalidInput(
            f"{where}: a raw request cannot determine {len(free)} free dimensions of shape "
            f"{list(meta.shape)}; send the shape in JSON"
        )
    for position in free:
        shape[position] = 1
        row = element_count(shape, where) * itemsize
        if not row or size % row:
            raise InvalidInput(
                f"{where}: byte size mismatch, shape {list(meta.shape)} of {meta.datatype} needs "
                f"a multiple of {row} bytes, got {size}"
            )
        shape[position] = size // row
    return shape
