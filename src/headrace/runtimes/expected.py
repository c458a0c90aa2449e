"""What a model says that it takes, and what it was given, in words for a refusal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Optional

import numpy as np

from headrace.errors import listing, shorten
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.json_words import word_of

_DATATYPES = {np.dtype(row.numpy).str: row.name for row in DATATYPES.values() if row.itemsize}
# Cells of a column that are looked at for its type.
_LOOKED_AT = 1000


class Expected(NamedTuple):
    """The features that a model was trained on: how many, and their names if it knows them."""

    width: Optional[int] = None  # noqa: UP045 -- evaluated by Python 3.9
    names: Sequence[str] = ()

    @classmethod
    def by(cls, model: Any) -> Expected:
        """What an estimator of scikit-learn's API says, or a model of a booster's own."""
        count = _first(model, "n_features_in_", "num_features", "num_feature")
        names = _first(
            model, "feature_names_in_", "feature_names_", "feature_names", "feature_name"
        )
        names = [str(name) for name in names] if names is not None else []
        if count is None and names:
            count = len(names)
        return cls(None if count is None else int(count), names)

    def __str__(self) -> str:
        if self.names:
            return f"a table with the columns {listing(list(self.names))}"
        return "another input" if self.width is None else f"{self.width} features"

    def fault(self, value: Any) -> str:
        """What is wrong with the shape or the columns of a value; empty if nothing is."""
        shape = getattr(value, "shape", None)
        if self.width is None:
            return ""
        if shape is None or len(shape) != 2:
            got = described(value) if shape is None else f"shape {list(shape)}"
            return (
                f"the model takes rows of {self.width} features, shape [-1, {self.width}], "
                f"got {got}"
            )
        given = [str(name) for name in value.columns] if hasattr(value, "columns") else []
        if self.names and given and given != list(self.names) and not _are_numbers(given):
            return (
                f"the model takes the columns {listing(list(self.names))} in this order, "
                f"got {listing(given)}"
            )
        if shape[1] != self.width:
            return f"the model takes {self.width} features, got {shape[1]}"
        return ""


def described(value: Any) -> str:
    """The kind of a value with its types and shapes, and none of what it holds."""
    if hasattr(value, "columns"):
        names = [
            f"'{shorten(name)}' ({type_of(value.iloc[:, position])})"
            for position, name in enumerate(value.columns[:10])
        ]
        more = len(value.columns) - len(names)
        return f"a table with {', '.join(names)}" + (f" and {more} more" if more > 0 else "")
    if isinstance(value, dict):
        shown = [f"'{shorten(name)}' ({described(item)})" for name, item in list(value.items())[:4]]
        return "an object with " + (", ".join(shown) or "nothing in it")
    if isinstance(value, (list, tuple)):
        return f"a list with {', '.join(sorted({word_for(item) for item in value})) or 'nothing'}"
    if hasattr(value, "dtype"):
        return f"{type_of(value)} of shape {list(value.shape)}"
    return word_for(value)


def type_of(column: Any) -> str:
    """The datatype of an array or a column, or words for what its cells are."""
    if column.dtype.kind in "biuf":
        return _DATATYPES.get(np.dtype(column.dtype.name.lower()).str, str(column.dtype))
    words = {word_for(cell) for cell in _cells(column)[:_LOOKED_AT]}
    return " and ".join(sorted(words)) or "nothing"


def word_for(cell: Any) -> str:
    """What a cell is, in the words of JSON."""
    if _is_missing(cell):
        return "null"
    if isinstance(cell, np.ndarray):
        return "a list"
    if isinstance(cell, np.bool_):
        return "true or false"
    return "a number" if isinstance(cell, np.number) else word_of(type(cell))


def _is_missing(cell: Any) -> bool:
    """Whether a cell is None, NaN, NaT or NA of pandas."""
    if cell is None or hasattr(cell, "__len__"):
        # Arrays compare element by element.
        return cell is None
    try:
        return bool(cell != cell)
    except TypeError:
        # NA compares as NA, which is neither true nor false.
        return True


def _reads_as_number(text: str) -> bool:
    with suppress(ValueError):
        float(text)
        return True
    return False


def not_a_number(value: Any, said: str) -> str:
    """Where the first cell is that is no number, and what it is; empty if all are numbers.

    If `said`, the framework's own message, quotes a text, it is the cell with that text.
    """
    if where := quoted(value, said):
        return f"{where}: expected a number, got text"
    for where, cell, is_text in _other_cells(value):
        # A list of numbers and text arrives as text.
        if not is_text or not _reads_as_number(cell):
            return f"{where}: expected a number, got {word_for(cell)}"
    return ""


def quoted(value: Any, said: str) -> str:
    """Where the first text is that a message quotes; empty if there is none."""
    found = (
        where
        for where, cell, _ in _other_cells(value)
        if isinstance(cell, str) and cell and f"'{cell}'" in said
    )
    return next(found, "")


def not_finite(value: Any) -> str:
    """Where the first NaN or infinity is; empty if there is none."""
    for name, column in _columns(value):
        if column.dtype.kind in "fc":
            bad = ~np.isfinite(np.asarray(column)).reshape(-1)
        elif column.dtype.kind == "O":
            bad = np.array([_is_missing(cell) for cell in _cells(column)], bool)
        else:
            continue
        if bad.any():
            place = np.unravel_index(int(np.argmax(bad)), column.shape)
            return f"{name}row {place[0]:,}" + "".join(f", column {at}" for at in place[1:])
    return ""


def _columns(value: Any) -> Iterator[tuple[str, Any]]:
    """The columns of a table, a matrix or several arrays, and words that begin a place in them."""
    if hasattr(value, "columns"):
        for position, name in enumerate(value.columns):
            yield f"column '{shorten(name)}', ", value.iloc[:, position]
    elif isinstance(value, dict):
        for name, item in value.items():
            for where, column in _columns(item):
                yield f"input '{shorten(name)}', {where}", column
    elif hasattr(value, "dtype") and getattr(value, "ndim", 0) == 2 and value.dtype.kind in "OU":
        for position in range(value.shape[1]):
            yield f"column {position}, ", value[:, position]
    elif hasattr(value, "dtype"):
        yield "", value


def _other_cells(value: Any) -> Iterator[tuple[str, Any, bool]]:
    """The cells that are no numbers, where they are, and whether all others there are text."""
    for name, column in _columns(value):
        if column.dtype.kind in "biufcM":
            continue
        for index, cell in enumerate(_cells(column)):
            if not _is_number(cell):
                yield f"{name}row {index:,}", cell, column.dtype.kind == "U"


def _cells(column: Any) -> list[Any]:
    return np.asarray(column, dtype=object).reshape(-1).tolist()


def _is_number(cell: Any) -> bool:
    return isinstance(cell, (bool, int, float, complex, np.number, np.bool_)) and cell == cell


def _are_numbers(names: list[str]) -> bool:
    """Whether these are the names that a table has which was sent without any."""
    return names == [str(position) for position in range(len(names))]


def _first(model: Any, *names: str) -> Any:
    """The first of these attributes, or answers of methods, that the model has."""
    for owner in (model, getattr(model, "booster_", None)):
        for name in names:
            # Estimators hide some behind properties that raise.
            with suppress(Exception):
                found = getattr(owner, name)
                found = found() if callable(found) else found
                if found is not None:
                    return found
    return None
