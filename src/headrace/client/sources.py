"""Reads files piece by piece: requests and rows in JSON, CSV, Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from headrace.client import columns
from headrace.client.batch import Batch, key, merge
from headrace.client.client_errors import InvalidRequest
from headrace.client.inputs import tensors_of
from headrace.codecs import csv_rows
from headrace.errors import ConfigurationError, HeadraceError, listing
from headrace.protocol.datatypes import FLOATS
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.open_inference.rest_json import decode_request

LINES = (".jsonl", ".ndjson", ".json")
CSV = (".csv",)
PARQUET = (".parquet", ".pq")
TABLES = (*CSV, *PARQUET)
# Rows of a piece, where the caller names no size.
PIECE = 1000
# What a cell of a CSV file holds where there is no value; text has only the first.
MISSING = ["", "#N/A", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]


@dataclass(frozen=True)
class Selection:
    """Which columns of a table are sent, and which are carried into the output."""

    ignore_extra: bool = False
    keep: Sequence[str] = ()

    def sent(self, names: Iterable[str], inputs: columns.Metadata) -> list[str]:
        """The names of the columns to send."""
        known = {item["name"] for item in inputs}
        return [
            name for name in names if name in known or not (self.ignore_extra or name in self.keep)
        ]


def kind_of(path: Path) -> str:
    """The kind of file by its ending: `lines`, `csv` or `parquet`.

    Raises:
        ConfigurationError: the ending is not one of these kinds.
    """
    for kind, endings in (("lines", LINES), ("csv", CSV), ("parquet", PARQUET)):
        if path.suffix.lower() in endings:
            return kind
    known = ", ".join((*LINES, *TABLES))
    raise ConfigurationError(f"{path}: expected a file that ends in one of {known}")


def content_of(path: Path) -> str:
    """The kind of an existing file; `rows` for JSON whose first entry is no request.

    Raises:
        ConfigurationError: the ending is not one of these kinds, or a file of JSON is not JSON.
    """
    kind = kind_of(path)
    if kind != "lines":
        return kind
    try:
        first = orjson.loads(next(_lines(path), b"null"))
    except orjson.JSONDecodeError:
        return kind
    return "rows" if isinstance(first, dict) and not _is_request(first) else kind


def batches(
    path: Path, start: int, size: int, inputs: columns.Metadata, selection: Selection
) -> Iterator[Batch]:
    """The entries of a file from `start` on, at most `size` in a batch.

    An entry is a request in JSON lines and a row in everything else. `inputs` is the metadata of
    the model's inputs, which says what the columns hold.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    kind = content_of(path)
    if kind == "lines":
        return _merged(_requests(path, start), size)
    return _rows(_skip(frames(path, size, inputs), start), start, inputs, selection, kind)


def frames(path: Path, size: int = PIECE, inputs: columns.Metadata = ()) -> Iterator[Any]:
    """The rows of a table as DataFrames of at most `size`, with every column of the file."""
    kind = content_of(path)
    if kind == "csv":
        return _csv_pieces(path, size, inputs)
    return _json_pieces(path, size) if kind == "rows" else _parquet_pieces(path, size)


def names_of(path: Path) -> list[str]:
    """The columns of a table; of JSON, those of its first row."""
    kind = content_of(path)
    if kind == "parquet":
        return [str(name) for name in _parquet_names(path)]
    return next((list(map(str, frame.columns)) for frame in frames(path, 1)), [])


def _lines(path: Path) -> Iterator[bytes]:
    """The entries of a file of JSON: its lines, or the items if it is one array.

    A `.json` file may also be one object on several lines.
    """
    with path.open("rb") as file:
        first = next((line for line in file if not line.isspace()), b"").strip()
        file.seek(0)
        if first.startswith(b"[") or path.suffix.lower() == ".json" and not _is_json(first):
            yield from _items(path, file.read())
        else:
            yield from (line.strip() for line in file if not line.isspace())


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _items(path: Path, text: bytes) -> Iterator[bytes]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"{path}: not valid JSON: {error}") from error
    yield from map(orjson.dumps, found if isinstance(found, list) else [found])


def _is_request(entry: dict[str, Any]) -> bool:
    inputs = entry.get("inputs")
    return isinstance(inputs, list) and all(isinstance(each, dict) for each in inputs)


def _requests(path: Path, start: int) -> Iterator[Batch]:
    for index, line in enumerate(_lines(path)):
        if index >= start:
            yield _request(index, line)


def _request(index: int, line: bytes) -> Batch:
    try:
        request = decode_request(line).request
    except HeadraceError as error:
        return _fault(index, error.message, "preprocessing error")
    shape = request.inputs[0].shape
    return Batch(index, [shape[0] if shape else 1], request, [request.id])


def _fault(index: int, message: str, code: str | None = None) -> Batch:
    return Batch(index, [1], InferenceRequest([]), [""], InvalidRequest(message, code=code))


def _merged(entries: Iterator[Batch], size: int) -> Iterator[Batch]:
    waiting: list[Batch] = []
    for entry in entries:
        if waiting and (
            len(waiting) == size or key(entry) is None or key(entry) != key(waiting[0])
        ):
            yield merge(waiting)
            waiting = []
        waiting.append(entry)
    if waiting:
        yield merge(waiting)


def _rows(
    pieces: Iterator[Any],
    start: int,
    inputs: columns.Metadata,
    selection: Selection,
    kind: str,
) -> Iterator[Batch]:
    from_text, are_digits = kind == "csv", kind in ("csv", "rows")
    for frame in pieces:
        wanted = set(selection.sent(map(str, frame.columns), inputs))
        chosen = frame.loc[:, [str(name) in wanted for name in frame.columns]]
        found = columns.fitted(chosen, inputs, from_text=from_text, are_digits=are_digits)
        faults = {**found.faults, **_not_objects(frame)}
        for first, last in _between(faults, len(frame)):
            if first in faults:
                yield _fault(start + first, faults[first])
            else:
                part = {name: column[first:last] for name, column in found.columns.items()}
                yield from _sent(start + first, last - first, part, inputs)
        start += len(frame)


def _sent(
    start: int, count: int, part: dict[str, Any], inputs: columns.Metadata
) -> Iterator[Batch]:
    """The rows as one batch; row by row if a cell among them cannot be sent."""
    try:
        tensors = columns.labelled(tensors_of(part), inputs)
    except InvalidRequest as error:
        if count == 1:
            yield _fault(start, error.message)
            return
        for at in range(count):
            one = {name: column[at : at + 1] for name, column in part.items()}
            yield from _sent(start + at, 1, one, inputs)
        return
    yield Batch(start, [1] * count, InferenceRequest(tensors), [""] * count)


def _between(faults: Iterable[int], count: int) -> Iterator[tuple[int, int]]:
    """The rows at fault one by one, and the stretches of rows between them, in order."""
    first = 0
    for at in sorted(faults):
        if first < at:
            yield first, at
        yield at, at + 1
        first = at + 1
    if first < count:
        yield first, count


def _csv_pieces(path: Path, size: int, inputs: columns.Metadata) -> Iterator[Any]:
    import pandas as pd

    # Some stay as written: `007` is not a number if the model takes text, and an integer of
    # nineteen digits is not a float because another row has none.
    known = {item["name"]: str(item.get("datatype")) for item in inputs}
    # Before version 3, pandas rounds the last digit of a float differently than Python.
    exactly: Any = {"float_precision": "round_trip"} if pd.__version__ < "3" else {}
    try:
        names = list(pd.read_csv(path, nrows=0).columns)
        written = [name for name in names if known.get(name, "FP64") not in FLOATS]
        missing = {name: [""] if known.get(name) == "BYTES" else MISSING for name in names}
        with (
            csv_rows.whole_rows(partial(path.open, "rb")),
            pd.read_csv(
                path,
                chunksize=size,
                dtype=dict.fromkeys(written, str),
                na_values=missing,
                keep_default_na=False,
                **exactly,
            ) as pieces,
        ):
            yield from pieces
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _json_pieces(path: Path, size: int) -> Iterator[Any]:
    waiting: list[Any] = []
    for line in _lines(path):
        try:
            waiting.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            waiting.append(None)
        if len(waiting) == size:
            yield _json_frame(waiting)
            waiting = []
    if waiting:
        yield _json_frame(waiting)


def _json_frame(rows: list[Any]) -> Any:
    """A DataFrame whose `attrs` name the rows that are not objects."""
    import pandas as pd

    objects = [row if isinstance(row, dict) else {} for row in rows]
    names = dict.fromkeys(name for row in objects for name in row)
    # Column by column: pandas would make floats of integers next to a missing one.
    frame = pd.DataFrame(
        {name: pd.Series([row.get(name) for row in objects], dtype=object) for name in names},
        index=range(len(rows)),
    )
    frame.attrs["not_objects"] = [at for at, row in enumerate(rows) if not isinstance(row, dict)]
    return frame


def _not_objects(frame: Any) -> dict[int, str]:
    found = frame.attrs.get("not_objects", ())
    return dict.fromkeys(found, "not a JSON object, as the first row is")


def _parquet_names(path: Path) -> list[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_schema(path).names)
    except pyarrow.ArrowInvalid as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _parquet_pieces(path: Path, size: int) -> Iterator[Any]:
    import pandas as pd
    import pyarrow
    import pyarrow.parquet

    # Integers stay integers next to a missing one.
    integers = [f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
    types = {getattr(pyarrow, each.lower())(): getattr(pd, f"{each}Dtype")() for each in integers}
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for piece in file.iter_batches(size):
                yield piece.to_pandas(types_mapper=types.get)
    except pyarrow.ArrowInvalid as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _skip(pieces: Iterable[Any], start: int) -> Iterator[Any]:
    """The rows from `start` on."""
    for frame in pieces:
        if start < len(frame):
            rest = frame.iloc[start:]
            rest.attrs["not_objects"] = [
                at - start for at in frame.attrs.get("not_objects", ()) if at >= start
            ]
            yield rest
        start = max(0, start - len(frame))


def check(names: Sequence[str], inputs: columns.Metadata, selection: Selection) -> None:
    """Refuse a selection that cannot work with these columns of a file.

    Raises:
        ConfigurationError: a column to keep is not in the file, or none would be sent.
    """
    if selection.ignore_extra and not inputs:
        raise ConfigurationError(
            "--ignore-extra: the model's metadata does not say which inputs it takes"
        )
    for name in selection.keep:
        if name not in names:
            raise ConfigurationError(f"--keep: the file has no column '{name}'; it has "
                                     f"{listing(list(names))}")  # fmt: skip
    if names and not selection.sent(names, inputs):
        takes = listing([item["name"] for item in inputs])
        raise ConfigurationError(
            f"no column of the file would be sent: the model takes {takes}, the file has "
            f"{listing(list(names))}"
        )
