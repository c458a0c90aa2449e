"""The rows of a file as DataFrames of a bounded size: from CSV, JSON and Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from headrace.client import columns, csv_files
from headrace.client.input_files import InputFile, reading
from headrace.errors import ConfigurationError

# Rows of a piece, where the caller names no size.
PIECE = 1000
# Lines that are tried before a file is said not to be JSON.
FIRST_LINES = 100
MLFLOW_BODIES = {"dataframe_split", "dataframe_records", "instances"}
JSON_NAMES = {
    dict: "an object", list: "an array", str: "a text", bool: "a truth value", int: "a number",
    float: "a number", type(None): "null",
}  # fmt: skip

Masks = dict[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True)
class Piece:
    """Consecutive rows. `faults` are rows that cannot be read; `absent` marks, for a column that
    not every row has, the rows without it."""

    frame: Any
    faults: dict[int, str] = field(default_factory=dict)
    absent: Masks = field(default_factory=dict)

    def after(self, start: int) -> Piece:
        """The rows from `start` on."""
        return Piece(
            self.frame.iloc[start:],
            {at - start: why for at, why in self.faults.items() if at >= start},
            {name: mask[start:] for name, mask in self.absent.items()},
        )


def content_of(file: InputFile) -> str:
    """The kind of an existing file: `csv`, `parquet`, `lines` of requests, or `rows` in JSON.

    Raises:
        ConfigurationError: the ending is not one of these kinds, or a file of JSON is not JSON.
    """
    if file.kind != "lines":
        return file.kind
    first: Any = None
    problem = ""
    for at, line in enumerate(lines_of(file)):
        try:
            first = orjson.loads(line)
            break
        except orjson.JSONDecodeError as error:
            problem = problem or f"not valid JSON: {error}"
        if at == FIRST_LINES:
            break
    else:
        if problem:
            raise ConfigurationError(f"{file.path}: {problem}")
    _check_rows(file, first)
    return "lines" if _is_request(first) else "rows"


def _check_rows(file: InputFile, first: Any) -> None:
    """Refuse other forms of a table, of which each would be read as one row."""
    if isinstance(first, dict) and len(first) > 1:
        columns_of = [cell for cell in first.values() if isinstance(cell, dict)]
        if len(columns_of) == len(first) and all(
            list(column) == [str(at) for at in range(len(column))] for column in columns_of
        ):
            raise ConfigurationError(
                f"{file.path}: holds columns; a row per line is what pandas writes with "
                "to_json(PATH, orient='records', lines=True)"
            )
    if isinstance(first, dict) and len(first) < 3 and not first.keys().isdisjoint(MLFLOW_BODIES):
        raise ConfigurationError(
            f"{file.path}: holds a body of MLflow's /invocations; here, write its rows as JSON "
            "lines, or send it to that route"
        )


def _is_request(entry: Any) -> bool:
    inputs = entry.get("inputs") if isinstance(entry, dict) else None
    return isinstance(inputs, list) and all(isinstance(each, dict) for each in inputs)


def pieces_of(file: InputFile, size: int, inputs: columns.Metadata) -> Iterator[Piece]:
    """The rows of a table, at most `size` in a piece, with every column of the file."""
    kind = content_of(file)
    if kind == "rows":
        return _json_pieces(file, size, inputs)
    if kind == "csv":
        return (Piece(*found) for found in csv_files.frames_of(file, size, inputs))
    return (Piece(frame) for frame in _parquet_frames(file, size))


def frames(file: InputFile, size: int = PIECE, inputs: columns.Metadata = ()) -> Iterator[Any]:
    """The rows of a table as DataFrames of at most `size`, with every column of the file."""
    return (piece.frame for piece in pieces_of(file, size, inputs))


def names_of(file: InputFile) -> list[str]:
    """The columns of a table; of JSON, those of its first row."""
    if file.kind == "parquet":
        return [str(name) for name in _parquet_names(file)]
    return next((list(map(str, frame.columns)) for frame in frames(file, 1)), [])


def lines_of(file: InputFile) -> Iterator[bytes]:
    """The entries of a file of JSON: its lines, or the items if it is one array.

    A `.json` file may also be one object on several lines.
    """
    with reading(file):
        with file.utf_8() as lines:
            filled = (line.strip() for line in lines if not line.isspace())
            first = next(filled, None)
            second = next(filled, None)
        whole = first is not None and _is_json(first)
        if first is None:
            return
        # Arrays line by line are rows; one array holds the rows.
        is_array = first.startswith(b"[") and not (whole and second is not None)
        if is_array or file.ending == ".json" and not whole:
            with file.utf_8() as lines:
                text = b"".join(lines)
            yield from _items(file, text)
            return
        with file.utf_8() as lines:
            yield from (line.strip() for line in lines if not line.isspace())


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _items(file: InputFile, text: bytes) -> Iterator[bytes]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"{file.path}: not valid JSON: {error}") from error
    yield from map(orjson.dumps, found if isinstance(found, list) else [found])


def _json_pieces(file: InputFile, size: int, inputs: columns.Metadata) -> Iterator[Piece]:
    waiting: list[bytes] = []
    for line in lines_of(file):
        waiting.append(line)
        if len(waiting) == size:
            yield _json_piece(waiting, inputs)
            waiting = []
    if waiting:
        yield _json_piece(waiting, inputs)


def _json_piece(lines: list[bytes], inputs: columns.Metadata) -> Piece:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    faults = {}
    for at, line in enumerate(lines):
        try:
            rows.append(_row_of(orjson.loads(line), inputs))
        except ValueError as error:
            said = f"not valid JSON: {error}" if isinstance(error, orjson.JSONDecodeError) else None
            faults[at] = said or str(error)
            rows.append({})
    names = dict.fromkeys(name for row in rows for name in row)
    # What a model with inputs does not know is of the rows that have it, and of no other.
    unknown = set(names) - {item["name"] for item in inputs} if inputs else ()
    missing = {name: np.array([name not in row for row in rows]) for name in unknown}
    absent = {name: mask for name, mask in missing.items() if mask.sum() > len(faults)}
    # Column by column: pandas would make floats of integers next to a missing one.
    frame = pd.DataFrame(
        {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names},
        index=range(len(rows)),
    )
    return Piece(frame, faults, absent)


def _row_of(value: Any, inputs: columns.Metadata) -> dict[str, Any]:
    """A line as the values of its columns: an object, or the element of the only input."""
    element = columns.element_of(inputs)
    if element is not None:
        given = isinstance(value, dict) and set(value) == {element}
        return value if given else {element: value}
    if isinstance(value, dict):
        return value
    if len(inputs) == 1:
        return {str(inputs[0]["name"]): value}
    raise ValueError(f"expected a JSON object, got {JSON_NAMES[type(value)]}")


def _parquet_names(file: InputFile) -> list[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        with reading(file):
            return list(pyarrow.parquet.read_schema(file.path).names)
    except pyarrow.ArrowInvalid as error:
        raise ConfigurationError(f"{file.path}: {error}") from error


def _parquet_frames(file: InputFile, size: int) -> Iterator[Any]:
    import pandas as pd
    import pyarrow
    import pyarrow.parquet

    # Integers stay integers next to a missing one.
    integers = [f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
    types = {getattr(pyarrow, each.lower())(): getattr(pd, f"{each}Dtype")() for each in integers}
    try:
        with reading(file), pyarrow.parquet.ParquetFile(file.path) as found:
            for piece in found.iter_batches(size):
                yield piece.to_pandas(types_mapper=types.get)
    except pyarrow.ArrowInvalid as error:
        raise ConfigurationError(f"{file.path}: {error}") from error
