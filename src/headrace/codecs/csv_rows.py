"""CSV whose rows have more values than its first line names columns.

pandas takes the first values of such rows for their labels. If the one too many is another, such as
an empty one after a comma at the end, every value is in the column of its neighbour.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

_BOM = b"\xef\xbb\xbf"

Open = Callable[[], Any]


class SurplusValues(ValueError):
    """The first row that has too many, as a sentence."""


@contextmanager
def whole_rows(opened: Open) -> Iterator[None]:
    """Have pandas read a table of CSV inside, of which no row may have more values than columns.

    `opened` opens the same bytes each time that it is called. pandas checks every row by that of
    the one before, so that only the first one is looked at here.

    Raises:
        SurplusValues: a row has more; the message has its number, counted from 0.
    """
    import pandas as pd

    if not _first_row_fits(opened):
        raise SurplusValues(_surplus(opened))
    try:
        yield
    except pd.errors.ParserError as error:
        found = _first_surplus(opened)
        if found is None:
            raise
        raise SurplusValues(found) from error


def _first_row_fits(opened: Open) -> bool:
    with opened() as file:
        lines = (line.rstrip(b"\r\n") for line in file if line.strip())
        head, first = next(lines, b""), next(lines, b"")
    if b'"' not in head + first and b"\r" not in head + first:
        return bool(first.count(b",") <= head.count(b","))
    return _pandas_takes(opened)


def _pandas_takes(opened: Open) -> bool:
    """Whether pandas, which splits lines as it will, finds no more values in the second one."""
    import pandas as pd

    with opened() as file:
        try:
            pd.read_csv(file, header=None, nrows=2, dtype=str)
        except pd.errors.ParserError:
            return False
        except ValueError:
            # Something else is wrong with it, which is said when all of it is read.
            return True
    return True


def _surplus(opened: Open) -> str:
    return _first_surplus(opened) or "rows have more values than the first line has columns"


def _first_surplus(opened: Open) -> str | None:
    """Where the first row with more values than the first line is; None if none is found."""
    with opened() as file:
        if file.read(len(_BOM)) != _BOM:
            file.seek(0)
        text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
        reader = csv.reader(text)
        rows = (row for row in reader if len(row) > 1 or "".join(row).strip())
        try:
            expected = len(next(rows, []))
            for number, row in enumerate(rows):
                if len(row) > expected:
                    values = "values" if expected > 1 else "value"
                    return (
                        f"row {number:,} (line {reader.line_num:,}): expected {expected} {values}, "
                        f"one for each column of the first line, got {len(row)}"
                    )
        except csv.Error:
            pass
    return None
