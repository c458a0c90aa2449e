"""The columns that a booster was trained on, and the check of a request's columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Callable

from headrace.errors import InvalidInput, listing, shorten
from headrace.protocol.messages import TensorMetadata

_NUMBERS = "biuf"


@dataclass(frozen=True)
class Features:
    """How many columns, their names if they had any in training, and which hold categories.

    `spell` changes a column's name as the framework did in training, and `integers` finds those of
    the categories that are whole numbers, where it matters.
    """

    count: int
    names: Sequence[str] = ()
    categories: frozenset[int] = frozenset()
    spell: Callable[[str], str] = str
    integers: Callable[[], frozenset[int]] = frozenset

    def check(self, value: Any) -> None:
        """Check that this is a matrix of numbers, or a table of the columns used in training.

        The contents of columns of categories are left to the runtime.

        Raises:
            InvalidInput: the shape, or the name, position or contents of a column is wrong.
        """
        shape = getattr(value, "shape", None)
        if shape is None or len(shape) != 2:
            got = "" if shape is None else f", got shape {list(shape)}"
            raise InvalidInput(
                f"the model takes rows of {self.count} features, shape [-1, {self.count}]{got}"
            )
        if hasattr(value, "columns"):
            self._check_table(value)
        elif shape[1] != self.count:
            raise InvalidInput(f"the model takes {self.count} features, got {shape[1]}")
        elif value.dtype.kind not in _NUMBERS:
            raise InvalidInput("a matrix must hold numbers; send text as one input per column")

    def metadata(self) -> list[TensorMetadata]:
        """One matrix, or one input per column if some hold categories."""
        if self.categories:
            return [
                TensorMetadata(name, "BYTES", [-1], {"content_type": "str"})
                if position in self.categories
                else TensorMetadata(name, "FP64", [-1])
                for position, name in enumerate(self._titles())
            ]
        parameters: dict[str, Any] = {"content_type": "np"}
        if self.names:
            parameters["feature_names"] = list(self.names)
        return [TensorMetadata("input-0", "FP64", [-1, self.count], parameters)]

    @property
    def content_type(self) -> str:
        """The content type of requests that do not name one."""
        return "pd" if self.categories else "np"

    def _titles(self) -> list[str]:
        return list(self.names) or [f"input-{position}" for position in range(self.count)]

    def _check_table(self, table: Any) -> None:
        given = [str(name) for name in table.columns]
        if self.names and [self.spell(name) for name in given] != list(self.names):
            raise InvalidInput(
                f"the model takes columns {listing(list(self.names))} in this order, "
                f"got {listing(given)}"
            )
        if len(given) != self.count:
            raise InvalidInput(f"the model takes {self.count} features, got {len(given)}")
        for position, dtype in enumerate(table.dtypes):
            if position not in self.categories and dtype.kind not in _NUMBERS:
                raise InvalidInput(f"column '{shorten(given[position])}' must hold numbers")


def with_categories(table: Any, positions: Iterable[int]) -> Any:
    """The table with these columns of pandas' category type, as frameworks know categories.

    Which codes they have is the framework's business: models keep the categories of training.
    """
    names = [table.columns[position] for position in sorted(positions)]
    return table.astype(dict.fromkeys(names, "category")) if names else table
