"""What MLflow would drop from a table, or refuse without saying how to write it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from headrace.errors import InvalidInput, shorten
from headrace.protocol.json_words import word_of


def check_lists(table: Any, names: Collection[str]) -> None:
    """Require a list in each cell of the columns that hold lists, unless it is empty.

    Raises:
        InvalidInput: a cell is something else; usually the rows are one row's list.
    """
    for name in names:
        cells = table[name].tolist() if name in table.columns else []
        for at, cell in enumerate(cells):
            if cell is None or isinstance(cell, (list, tuple)) or hasattr(cell, "shape"):
                continue
            if isinstance(cell, float) and cell != cell:
                continue
            raise InvalidInput(
                f"column '{shorten(name)}', row {at:,}: expected a list, got "
                f"{word_of(type(cell))}; a row holds a whole list, so that the column of one row "
                "is a list in a list"
            )


def check_one_row(table: Any, model: str) -> None:
    """Require exactly one row for an agent, of which MLflow answers the first one only.

    Raises:
        InvalidInput: there are more, or none.
    """
    if len(table) != 1:
        raise InvalidInput(
            f"the model '{shorten(model)}' takes one conversation in a request, got {len(table):,};"
            " send each in a request of its own"
        )
