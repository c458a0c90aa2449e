"""A request for a table of numbers, before anybody asks for its inputs one by one."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from math import nan
from typing import NamedTuple

from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Parameters, Tensor


class Table(NamedTuple):
    """Columns of FP64: their names, and `[rows, columns]` numbers as raw bytes."""

    names: list[str]
    rows: int
    data: bytes

    @classmethod
    def of(cls, names: list[str], rows: Sequence[Sequence[float | None]]) -> Table:
        """The table with these rows, which must be as long as `names`; None becomes NaN."""
        numbers = rows[0] if len(rows) == 1 else list(chain.from_iterable(rows))
        pack = _packer(len(numbers))
        try:
            data = pack(*numbers)
        except struct.error:
            data = pack(*[nan if number is None else number for number in numbers])
        return cls(names, len(rows), data)

    def columns(self) -> list[Tensor]:
        """One tensor of shape `[rows]` per column."""
        width = len(self.names)
        numbers = memoryview(self.data).cast("d")
        return [
            Tensor(name, "FP64", [self.rows], numbers[index::width].tobytes())
            for index, name in enumerate(self.names)
        ]


class TableRequest(InferenceRequest):
    """A request with one input per column of a table.

    A model that takes just these columns gets the `table` whole. It is None once somebody has asked
    for `inputs`, which may have been changed since.
    """

    __slots__ = ("_inputs", "table")

    def __init__(self, table: Table, parameters: Parameters | None = None, id: str = "") -> None:
        self.table: Table | None = table
        self._inputs: list[Tensor] = []
        self.parameters = parameters
        self.outputs = None
        self.id = id
        self.context = None
        self.timeout = None
        self.received = 0

    @property
    def inputs(self) -> list[Tensor]:
        table, self.table = self.table, None
        if table is not None:
            self._inputs = table.columns()
        return self._inputs

    @inputs.setter
    def inputs(self, inputs: list[Tensor]) -> None:
        self.table, self._inputs = None, inputs


@lru_cache(maxsize=256)
def _packer(count: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{count}d").pack
