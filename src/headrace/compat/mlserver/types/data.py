"""The `data` of a tensor: a list in MLServer's API, a buffer until somebody reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from headrace.codecs import array, bytes_elements
from headrace.protocol.tensor import Tensor


class TensorData:
    """Flat numbers, or text (bytes where they are not UTF-8), or whatever a runtime gave.

    The list behind `root` is made from a tensor's bytes when it is first asked for; codecs
    read the bytes themselves until then, through `tensor`.
    """

    __slots__ = ("_as_bytes", "_root", "tensor")

    def __init__(self, root: Any = ()) -> None:
        self.tensor: Tensor | None = None
        self._as_bytes = False
        self._root = root.root if isinstance(root, TensorData) else root

    @classmethod
    def of(cls, tensor: Tensor, as_bytes: bool = False) -> TensorData:
        """The data of one of our own tensors, not yet turned into a list.

        `as_bytes` leaves the elements of BYTES as bytes in that list.
        """
        made = cls(None)
        made.tensor = tensor
        made._as_bytes = as_bytes
        return made

    @property
    def root(self) -> Any:
        if self.tensor is not None:
            # The caller may change the list, so the bytes no longer count.
            tensor, self.tensor = self.tensor, None
            self._root = elements(tensor, self._as_bytes)
        return self._root

    @root.setter
    def root(self, value: Any) -> None:
        self.tensor = None
        self._root = value

    __root__ = root

    def model_dump(self, **_: Any) -> Any:
        return self.root

    @classmethod
    def model_validate(cls, obj: Any, **_: Any) -> TensorData:
        return obj if isinstance(obj, cls) else cls(obj)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes, **_: Any) -> TensorData:
        return cls(json.loads(json_data))

    @classmethod
    def parse_obj(cls, obj: Any, **_: Any) -> TensorData:
        return cls.model_validate(obj)

    @classmethod
    def parse_raw(cls, b: str | bytes, **_: Any) -> TensorData:
        return cls.model_validate_json(b)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.root)

    def __getitem__(self, index: Any) -> Any:
        return self.root[index]

    def __len__(self) -> int:
        return len(self.root)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TensorData):
            return bool(self.root == other.root)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"TensorData(root={self.root!r})"


def elements(tensor: Tensor, as_bytes: bool = False) -> list[Any]:
    """The elements as MLServer reads them: text from JSON, bytes from gRPC.

    Raises:
        InvalidInput: the bytes do not fill the shape.
    """
    if tensor.datatype != "BYTES":
        numbers: list[Any] = array.numbers_of(tensor).tolist()
        return numbers
    raw = bytes_elements.raw(tensor)
    if as_bytes:
        return list(raw)
    try:
        return [element.decode("utf-8") for element in raw]
    except UnicodeDecodeError:
        return list(raw)
