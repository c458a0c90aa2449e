"""CSV that pandas would misread, or would take minutes for.

If rows have more values than the first line names columns, pandas takes their first values for
labels. If the one too many is another, such as an empty one after a comma at the end, every value
is in the column of its neighbour. Names that occur more than once get numbers from pandas, which
takes quadratic time.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Callable

# Names of columns that are there already; more of them are no accident.
MOST_REPEATED = 1000
# pandas passes over lines that hold nothing else.
_BLANKS = " \t\r\n"

Open = Callable[[], Any]


class BadTable(ValueError):
    """What is wrong with a table, and where, as a sentence."""


def exactly(pd: Any) -> dict[str, Any]:
    """The options of `read_csv` by which every digit of a number counts, as in Python.

    pandas before 3.1 has to be asked for it; later versions do so by themselves, and deprecate the
    option.
    """
    version = tuple(map(int, re.findall(r"\d+", pd.__version__)[:2]))
    return {"float_precision": "round_trip"} if version < (3, 1) else {}


class SurplusValues(BadTable):
    """A row other than the first one has more values than there are columns."""


@contextmanager
def whole_rows(opened: Open, separator: str = ",") -> Iterator[None]:
    """Have pandas read a table of CSV inside, of which no row may have more values than columns.

    `opened` opens the same text each time that it is called, as UTF-8. pandas compares each row
    with the one before, so only the first one is looked at here.

    Raises:
        BadTable: a row has more; the message has its number, counted from 0. Or the first line
            repeats more than `MOST_REPEATED` names.
    """
    import pandas as pd

    _check_names(opened, separator)
    if not _first_row_fits(opened, separator):
        raise BadTable(_surplus(opened, separator))
    try:
        yield
    except pd.errors.ParserError as error:
        found = _first_surplus(opened, separator)
        if found is None:
            raise
        raise SurplusValues(found) from error


def _check_names(opened: Open, separator: str) -> None:
    with _rows(opened, separator) as (_, rows):
        try:
            names = next(rows, [])
        except csv.Error:
            # Only a name of more than 128 KiB can be the reason, or, before Python 3.11, a NUL.
            raise BadTable("the names in its first line cannot be read") from None
    counts = Counter(names)
    repeated = {name for name, count in counts.items() if count > 1}
    # A second `x` becomes `x.1`, unless there is one: then each number is tried in turn.
    numbered = sum(_without_number(name) in repeated for name in counts) if repeated else 0
    again = len(names) - len(counts) + numbered
    if again > MOST_REPEATED:
        raise BadTable(
            f"its first line repeats {again:,} names, at most {MOST_REPEATED:,} are allowed"
        )


def _without_number(name: str) -> str | None:
    base, _, number = name.rpartition(".")
    return base if number.isdigit() else None


def _first_row_fits(opened: Open, separator: str) -> bool:
    with opened() as file:
        blanks = _BLANKS.replace(separator, "").encode()
        lines = (line.rstrip(b"\r\n") for line in file if line.strip(blanks))
        head, first = next(lines, b""), next(lines, b"")
    if b'"' not in head + first and b"\r" not in head + first:
        mark = separator.encode()
        return bool(first.count(mark) <= head.count(mark))
    return _pandas_takes(opened, separator)


def _pandas_takes(opened: Open, separator: str) -> bool:
    """Whether pandas, which splits lines as it will, finds no more values in the second one."""
    import pandas as pd

    with opened() as file:
        try:
            pd.read_csv(file, sep=separator, header=None, nrows=2, dtype=str)
        except pd.errors.ParserError:
            return False
        except ValueError:
            # Something else is wrong with it, which is said when all of it is read.
            return True
    return True


def _surplus(opened: Open, separator: str) -> str:
    found = _first_surplus(opened, separator)
    return found or "rows have more values than the first line has columns"


def _first_surplus(opened: Open, separator: str) -> str | None:
    """Where the first row with more values than the first line is; None if none is found."""
    with _rows(opened, separator) as (reader, rows):
        try:
            expected = len(next(rows, []))
            for number, row in enumerate(rows):
                if len(row) > expected:
                    return f"row {number:,} (line {reader.line_num:,}): {_too_many(row, expected)}"
        except csv.Error:
            pass
    return None


def mended(file: Any, separator: str, faults: dict[int, str]) -> Iterator[bytes]:
    """The records of a file of CSV in UTF-8; rows with values too many have empty ones instead.

    What is wrong with those is added to `faults`, under their numbers from 0, as they are read.
    """
    options: Any = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    blanks = _BLANKS.replace(separator, "")
    record: list[str] = []
    expected = None
    number = 0
    with io.TextIOWrapper(file, **options) as lines:
        try:
            for row in csv.reader(_noted(lines, record), delimiter=separator):
                text = "".join(record)
                record.clear()
                if expected is None:
                    expected = len(row) if text.strip(blanks) else None
                elif text.strip(blanks):
                    if len(row) > expected:
                        faults[number] = _too_many(row, expected)
                        text = separator.join(['""'] * expected) + "\n"
                    number += 1
                yield text.encode("utf-8", "surrogateescape")
        except csv.Error:
            # A value of more than 128 KiB; what follows is left to who reads it.
            yield "".join([*record, *lines]).encode("utf-8", "surrogateescape")


def _noted(lines: Iterable[str], record: list[str]) -> Iterator[str]:
    for line in lines:
        record.append(line)
        yield line


def _too_many(row: list[str], expected: int) -> str:
    values = "values" if expected > 1 else "value"
    return f"expected {expected} {values}, one for each column of the first line, got {len(row)}"


@contextmanager
def _rows(opened: Open, separator: str) -> Iterator[tuple[Any, Iterator[list[str]]]]:
    """A reader of CSV, and the rows that it reads, without those that pandas passes over."""
    options: Any = {"encoding": "utf-8-sig", "errors": "replace", "newline": ""}
    with io.TextIOWrapper(opened(), **options) as text:
        reader = csv.reader(text, delimiter=separator)
        yield reader, (row for row in reader if len(row) > 1 or "".join(row).strip(_BLANKS))
