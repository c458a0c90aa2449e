"""Rows that are objects, as `dataframe_records` has them: each may have keys of its own.

A table has a cell for each row and each key, however few of them the body holds, so that a small
body may stand for a table that nobody has memory for.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from headrace.errors import InvalidInput

# Cells of a table that no row has a value for.
MOST_ABSENT = 20_000_000


def names_of(records: Sequence[dict[str, Any]]) -> list[str]:
    """The keys of all rows, in the order in which they first occur."""
    return list(dict.fromkeys(chain.from_iterable(records)))


def absent_cells(records: Sequence[dict[str, Any]], names: Sequence[str]) -> int:
    """How many cells at least a table of these columns has beyond the values in the rows."""
    return max(0, len(records) * len(names) - sum(map(len, records)))


def check_size(records: Sequence[dict[str, Any]], names: Sequence[str], where: str) -> None:
    """Check that the table of these columns has no more cells than a body of its size may ask for.

    Raises:
        InvalidInput: most of its cells would be absent, and they are too many.
    """
    absent = absent_cells(records, names)
    if absent > MOST_ABSENT:
        raise InvalidInput(
            f"{where}: {len(records):,} objects with {len(names):,} different keys are a table "
            f"with {absent:,} absent cells, at most {MOST_ABSENT:,} may be; send fewer rows at once"
        )
