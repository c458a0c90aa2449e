"""Reads files of requests piece by piece: JSON lines, CSV and Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from headrace.client.batch import Batch, key, merge
from headrace.client.client_errors import ClientError, InvalidRequest
from headrace.client.inputs import tensors_of
from headrace.errors import ConfigurationError, HeadraceError
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.open_inference.rest_json import decode_request

LINES = (".jsonl", ".ndjson", ".json")
CSV = (".csv",)
PARQUET = (".parquet", ".pq")
TABLES = (*CSV, *PARQUET)


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


def batches(path: Path, start: int, size: int, inputs: list[dict[str, Any]]) -> Iterator[Batch]:
    """The entries of a file from `start` on, at most `size` in a batch.

    An entry is a request in JSON lines and a row in tables. `inputs` is the metadata of the
    model's inputs, which says what the columns of a CSV file hold.
    """
    kind = kind_of(path)
    if kind == "lines":
        return _merged(_requests(path, start), size)
    if kind == "csv":
        return _rows(_csv_chunks(path, start, size, inputs), start)
    return _rows(_parquet_chunks(path, start, size), start)


def _requests(path: Path, start: int) -> Iterator[Batch]:
    with path.open("rb") as file:
        lines = (line for line in file if not line.isspace())
        for index, line in enumerate(lines):
            if index >= start:
                yield _request(index, line.strip())


def _request(index: int, line: bytes) -> Batch:
    try:
        request = decode_request(line).request
    except HeadraceError as error:
        fault = InvalidRequest(error.message, code="preprocessing error")
        return Batch(index, [1], InferenceRequest([]), [""], fault)
    shape = request.inputs[0].shape
    return Batch(index, [shape[0] if shape else 1], request, [request.id])


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


def _rows(chunks: Iterator[Any], start: int) -> Iterator[Batch]:
    for chunk in chunks:
        count = len(chunk)
        fault: ClientError | None = None
        request = InferenceRequest([])
        try:
            request = InferenceRequest(tensors_of(chunk))
        except InvalidRequest as error:
            fault = error
        yield Batch(start, [1] * count, request, [""] * count, fault)
        start += count


def _csv_chunks(path: Path, start: int, size: int, inputs: list[dict[str, Any]]) -> Iterator[Any]:
    import pandas as pd

    # What the model takes as text stays as written: `007` is not a number then.
    types = {item["name"]: str for item in inputs if item.get("datatype") == "BYTES"}
    try:
        with pd.read_csv(path, chunksize=size, dtype=types) as chunks:
            yield from _skip(chunks, start)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _parquet_chunks(path: Path, start: int, size: int) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from _skip((piece.to_pandas() for piece in file.iter_batches(size)), start)
    except pyarrow.ArrowInvalid as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _skip(frames: Iterable[Any], start: int) -> Iterator[Any]:
    """The rows from `start` on."""
    for frame in frames:
        if start < len(frame):
            yield frame.iloc[start:]
        start = max(0, start - len(frame))
