"""Large predictions as JSON, put together in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from headrace.errors import BadModelOutput
from headrace.protocol.blocks import MOST, STEP, blocks, elements
from headrace.protocol.datatypes import DATATYPES, element_count
from headrace.protocol.piecewise import Pieces, inner
from headrace.protocol.tensor import Tensor

# What is a value of JSON in the place of a tensor, or of the rows of a table.
Nested = Callable[[Tensor], Any]
Records = Callable[[list[Tensor]], Any]


class LargeAnswer:
    """The JSON of predictions; `nested` and `records` make values of what is small."""

    def __init__(self, nested: Nested, records: Records, option: int) -> None:
        self._nested = nested
        self._records = records
        self._option = option
        self._pieces = Pieces()
        self.add = self._pieces.add
        self.add_buffer = self._pieces.add_buffer
        self.add_members = self._pieces.add_members
        self.whole = self._pieces.whole

    def add_nested(self, tensor: Tensor) -> None:
        """Add a tensor as arrays in arrays."""
        is_text = tensor.datatype == "BYTES"
        if not tensor.shape or not element_count(tensor.shape, tensor.name):
            self._add_small(tensor)
            return
        row = element_count(tensor.shape[1:], tensor.name)
        if row > MOST or row * DATATYPES[tensor.datatype].itemsize > STEP:
            # So few rows that each can be a piece of work.
            for index, block in enumerate(blocks(tensor, 1)):
                self.add(b"," if index else b"[")
                self.add_nested(_without_first(block))
            self.add(b"]")
            return
        self.add(b"[")
        for index, block in enumerate(blocks(tensor)):
            if index:
                self.add(b",")
            if is_text and block.nbytes > 2 * STEP:
                self._pieces.add_inner(self._nested(block), self._option)
            else:
                self.add(inner(self._dumped(self._nested(block))))
        self.add(b"]")

    def add_records(self, columns: Sequence[Tensor]) -> None:
        """Add a table as one object a row."""
        self.add(b"[")
        for index, block in enumerate(_rows(columns)):
            if index:
                self.add(b",")
            found = self._records(block)
            if sum(column.nbytes for column in block) > 2 * STEP:
                self._pieces.add_inner(found, self._option)
            else:
                self.add(inner(self._dumped(found)))
        self.add(b"]")

    def add_json(self, tensor: Tensor) -> None:
        """Add the only element of a tensor, which is JSON already."""
        block = next(blocks(tensor), tensor) if tensor.shape else tensor
        self.add_buffer(elements(block)[0])

    def _add_small(self, tensor: Tensor) -> None:
        self._pieces.add_value(self._nested(tensor), self._option)

    def _dumped(self, value: Any) -> bytes:
        return orjson.dumps(value, option=self._option)


def _as_row(column: Tensor) -> Tensor:
    return Tensor(column.name, column.datatype, [1], column.data, column.parameters)


def _without_first(block: Tensor) -> Tensor:
    return Tensor(block.name, block.datatype, block.shape[1:], block.data, block.parameters)


def _rows(columns: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The columns of a table cut into blocks of as many rows, all at the same rows.

    Raises:
        BadModelOutput: they differ in their number of rows.
    """
    tables = [column if column.shape else _as_row(column) for column in columns]
    counts = {column.shape[0] for column in tables}
    if len(counts) > 1:
        raise BadModelOutput("the model's output columns differ in their number of rows")
    count = max(1, *counts)
    width = sum(element_count(column.shape[1:], column.name) for column in tables)
    size = sum(column.nbytes for column in tables) // count
    rows = max(1, min(MOST // max(width, 1), STEP // max(size, 1)))
    cut = [blocks(column, rows=rows) for column in tables]
    yield from map(list, zip(*cut, strict=True))
