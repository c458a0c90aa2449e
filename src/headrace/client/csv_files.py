"""The rows of a CSV file as DataFrames of a bounded size."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from headrace.client import columns
from headrace.client.input_files import Chunks, InputFile, reading
from headrace.codecs import csv_rows
from headrace.errors import ConfigurationError, listing
from headrace.protocol.datatypes import FLOATS

# What a cell of a CSV file holds where there is no value; text has only the first.
MISSING = ["", "#N/A", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]

# Opens the text of a file in UTF-8, from its beginning.
Open = Callable[[], Any]
Faults = dict[int, str]


def frames_of(file: InputFile, size: int, inputs: columns.Metadata) -> Iterator[tuple[Any, Faults]]:
    """The rows, at most `size` at a time, and why some of them cannot be read.

    A row with more values than the file has columns is such a row, but for the first one: then it
    is the header that does not fit.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    try:
        with reading(file):
            _check_header(file)
            given = 0
            try:
                with csv_rows.whole_rows(file.open_utf_8, file.separator):
                    for frame in _frames(file, file.open_utf_8, size, inputs):
                        yield frame, {}
                        given += 1
            except csv_rows.SurplusValues:
                yield from islice(_mended_frames(file, size, inputs), given, None)
    except ValueError as error:
        raise ConfigurationError(f"{file.path}: {str(error).strip()}") from error


def _mended_frames(
    file: InputFile, size: int, inputs: columns.Metadata
) -> Iterator[tuple[Any, Faults]]:
    """The rows of a file of which some have values too many; those are empty in the frames."""
    faults: Faults = {}
    start = 0
    for frame in _frames(file, partial(_mended, file, faults), size, inputs):
        end = start + len(frame)
        of_these = {at - start: faults.pop(at) for at in list(faults) if at < end}
        if not frame.iloc[list(of_these)].isna().to_numpy().all():
            raise ValueError("its rows cannot be told apart; is each quotation closed?")
        yield frame, of_these
        start = end


def _mended(file: InputFile, faults: Faults) -> Any:
    opened = file.open_utf_8()
    return Chunks(csv_rows.mended(opened, file.separator, faults), opened.close)


def _frames(file: InputFile, opened: Open, size: int, inputs: columns.Metadata) -> Iterator[Any]:
    """The rows in pieces. An infinity that the file does not write as one stays text."""
    import pandas as pd

    # Some stay as written: `007` is not a number if the model takes text, and an integer of
    # nineteen digits is not a float because another row has none.
    known = {item["name"]: str(item.get("datatype")) for item in inputs}
    # What a field of an object holds, only the model knows.
    unknown = "FP64" if columns.element_of(inputs) is None else "BYTES"
    with opened() as text:
        names = list(pd.read_csv(text, nrows=0, sep=file.separator).columns)
    kinds = {name: known.get(name, unknown) for name in names}
    floats = [name for name in names if known.get(name) in FLOATS]
    options: Any = {
        "sep": file.separator,
        "chunksize": size,
        "na_values": {name: [""] if kind == "BYTES" else MISSING for name, kind in kinds.items()},
        "keep_default_na": False,
        **csv_rows.exactly(pd),
    }
    written: Any = {name: str for name, kind in kinds.items() if kind not in FLOATS}
    texts: Iterator[tuple[int, Any]] | None = None
    with ExitStack() as stack:
        read = partial(_reader, stack, opened, options)
        for number, frame in enumerate(read(written)):
            huge = [name for name in floats if _is_infinite(frame[name])]
            if huge:
                texts = enumerate(read(str)) if texts is None else texts
                as_written = next(each for at, each in texts if at == number)
                frame = frame.assign(**{name: as_written[name] for name in huge})
            yield frame


def _reader(stack: ExitStack, opened: Open, options: Any, dtype: Any) -> Any:
    import pandas as pd

    text = stack.enter_context(opened())
    return stack.enter_context(pd.read_csv(text, dtype=dtype, **options))


def _is_infinite(column: Any) -> bool:
    return column.dtype.kind == "f" and bool(np.isinf(column.to_numpy()).any())


def _check_header(file: InputFile) -> None:
    """Refuse names that come twice: pandas would rename one of them without a word."""
    import pandas as pd

    options: Any = {"header": None, "dtype": str, "keep_default_na": False}
    with file.open_utf_8() as text:
        row = pd.read_csv(text, nrows=1, sep=file.separator, **options)
    names = [name for name in row.iloc[0] if name] if len(row) else []
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ConfigurationError(f"{file.path}: several columns are named {listing(twice)}")


def line_numbers(file: InputFile, rows: Iterable[int]) -> dict[int, int]:
    """The lines on which rows of a CSV file begin; rows are counted from 0, lines from 1.

    What cannot be found is left out.
    """
    wanted = set(rows)
    found: dict[int, int] = {}
    at, begins = -1, 1
    with suppress(csv.Error, ConfigurationError), reading(file), file.utf_8() as lines:
        reader = csv.reader((line.decode() for line in lines), delimiter=file.separator)
        for record in reader:
            # As in pandas, empty lines do not count, and the first line has the column names.
            if record and (len(record) > 1 or record[0].strip() or reader.line_num > begins):
                if at in wanted:
                    found[at] = begins
                at += 1
                if len(found) == len(wanted):
                    break
            begins = reader.line_num + 1
    return found
