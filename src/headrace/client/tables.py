"""Writes a scored table as CSV, Parquet or JSON lines: one row for each row of the input."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from headrace.client.input_files import CSV, PARQUET, InputFile, kind_of
from headrace.client.operations import Infer
from headrace.client.pieces import frames
from headrace.client.rest import value_of
from headrace.errors import ConfigurationError, listing
from headrace.protocol.messages import InferenceRequest

ERROR = "error"
_ANY = Infer("", InferenceRequest([]))

# Gives the pieces of the table, as often as it is called.
Pieces = Callable[[], Iterator[Any]]


def is_table(output: Path, kind: str) -> bool:
    """Whether the answers to an input of this kind are written row by row into such a file."""
    return kind_of(output) != "lines" or kind == "rows"


def write_table(lines: Path, output: Path, input: InputFile, keep: Sequence[str] = ()) -> None:
    """Write the table of all lines, piece by piece, and put it in place atomically.

    The columns of the input that `keep` names come first. Rows that failed have no values, and
    the column `error` says why; it exists if any row failed.

    Raises:
        ConfigurationError: answers differ in their types, or do not have one row for each row.
    """
    columns, failed = _columns(lines)
    if both := [name for name in columns if name in keep]:
        raise ConfigurationError(
            f"--keep: the model has outputs of these names as well: {listing(both)}"
        )
    names = [*keep, *columns, *([ERROR] if failed else [])]
    unfinished = output.with_name(output.name + ".new")
    pieces = partial(_pieces, lines, input, keep)
    if separator := CSV.get(output.suffix.lower()):
        _write_csv(pieces, unfinished, names, separator)
    elif output.suffix.lower() in PARQUET:
        _write_parquet(pieces, unfinished, names)
    else:
        _write_lines(pieces, unfinished, names)
    os.replace(unfinished, output)


def _columns(lines: Path) -> tuple[list[str], bool]:
    """Names of the outputs, and whether any row failed."""
    columns: list[str] = []
    failed = False
    with lines.open("rb") as file:
        for line in file:
            answer = orjson.loads(line)
            failed = failed or "error" in answer
            for output in answer.get("outputs", ()):
                if output["name"] not in columns:
                    columns.append(output["name"])
    return columns, failed


def _frames(lines: Path) -> Iterator[Any]:
    import pandas as pd

    with lines.open("rb") as file:
        for line in file:
            answer = orjson.loads(line)
            rows = answer["parameters"]["rows"]
            if "error" in answer:
                message = f"{answer['error']['status']}: {answer['error']['msg']}"
                frame = pd.DataFrame({ERROR: [message] * rows})
            else:
                frame = value_of(_ANY, 200, {}, line).to_frame()
            if len(frame) != rows:
                raise ConfigurationError(
                    f"the model returned {len(frame)} rows for {rows}, which a table cannot hold; "
                    "name an output that ends in .jsonl"
                )
            yield frame


def _pieces(lines: Path, input: InputFile, keep: Sequence[str]) -> Iterator[Any]:
    """The answers, each piece with the kept columns of its rows."""
    if not keep:
        yield from _frames(lines)
        return
    import pandas as pd

    # As text, so that what is kept is what the file holds.
    texts = [{"name": name, "datatype": "BYTES"} for name in keep]
    rest = pd.DataFrame()
    kept = frames(input, inputs=texts)
    for frame in _frames(lines):
        while len(rest) < len(frame):
            piece = next(kept).reindex(columns=keep)
            rest = piece if rest.empty else pd.concat([rest, piece])
        taken, rest = rest.iloc[: len(frame)], rest.iloc[len(frame) :]
        yield pd.concat([taken.reset_index(drop=True), frame], axis=1)


def _write_csv(pieces: Pieces, output: Path, names: list[str], separator: str) -> None:
    with output.open("w", newline="", encoding="utf-8") as file:
        for position, frame in enumerate(pieces()):
            table = frame.reindex(columns=names)
            table.to_csv(file, sep=separator, index=False, header=position == 0)


def _write_lines(pieces: Pieces, output: Path, names: list[str]) -> None:
    with output.open("wb") as file:
        for frame in pieces():
            present = [name for name in names if name in frame.columns]
            for row in zip(*(frame[name] for name in present), strict=True):
                answer = dict(zip(present, map(_plain, row), strict=True))
                file.write(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")


def _plain(cell: Any) -> Any:
    """A cell as JSON has it: bytes in base64, times as in ISO 8601, no value as null."""
    if isinstance(cell, bytes):
        return base64.b64encode(cell).decode()
    if cell is None or isinstance(cell, (str, list, dict)) or np.ndim(cell):
        return cell
    if cell != cell:
        return None
    return cell.isoformat() if hasattr(cell, "isoformat") else cell


def _write_parquet(pieces: Pieces, output: Path, names: list[str]) -> None:
    import pyarrow
    import pyarrow.parquet

    try:
        schema = _schema(pieces, names)
        with pyarrow.parquet.ParquetWriter(output, schema) as writer:
            for frame in pieces():
                complete = frame.reindex(columns=names)
                table = pyarrow.Table.from_pandas(complete, schema=schema, preserve_index=False)
                writer.write_table(table)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise ConfigurationError(
            "the answers differ in their types, which Parquet cannot hold; name an output that "
            f"ends in .jsonl: {error}"
        ) from error


def _schema(pieces: Pieces, names: list[str]) -> Any:
    """Types of the columns: the widest of all pieces, so that every piece fits."""
    import pyarrow

    widest = pyarrow.schema([])
    for frame in pieces():
        found = pyarrow.Schema.from_pandas(frame, preserve_index=False).remove_metadata()
        widest = pyarrow.unify_schemas([widest, found], promote_options="permissive")
    return pyarrow.schema([widest.field(name) for name in names])
