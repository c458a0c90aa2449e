"""Writes a scored table as CSV or Parquet: one row for each row of the input."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from headrace.client.operations import Infer
from headrace.client.rest import value_of
from headrace.errors import ConfigurationError
from headrace.protocol.messages import InferenceRequest

ERROR = "error"
_ANY = Infer("", InferenceRequest([]))


def write_table(lines: Path, output: Path) -> None:
    """Write the table of all lines, piece by piece, and put it in place atomically.

    Rows that failed have no values, and the column `error` says why; it exists if any row failed.

    Raises:
        ConfigurationError: answers differ in their types, or do not have one row for each row.
    """
    columns, failed = _columns(lines)
    names = [*columns, *([ERROR] if failed else [])]
    unfinished = output.with_name(output.name + ".new")
    if output.suffix.lower() == ".csv":
        _write_csv(lines, unfinished, names)
    else:
        _write_parquet(lines, unfinished, names)
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


def _write_csv(lines: Path, output: Path, names: list[str]) -> None:
    with output.open("w", newline="") as file:
        for position, frame in enumerate(_frames(lines)):
            frame.reindex(columns=names).to_csv(file, index=False, header=position == 0)


def _write_parquet(lines: Path, output: Path, names: list[str]) -> None:
    import pyarrow
    import pyarrow.parquet

    try:
        schema = _schema(lines, names)
        with pyarrow.parquet.ParquetWriter(output, schema) as writer:
            for frame in _frames(lines):
                complete = frame.reindex(columns=names)
                table = pyarrow.Table.from_pandas(complete, schema=schema, preserve_index=False)
                writer.write_table(table)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise ConfigurationError(
            "the answers differ in their types, which Parquet cannot hold; name an output that "
            f"ends in .jsonl: {error}"
        ) from error


def _schema(lines: Path, names: list[str]) -> Any:
    """Types of the columns: the widest of all pieces, so that every piece fits."""
    import pyarrow

    widest = pyarrow.schema([])
    for frame in _frames(lines):
        found = pyarrow.Schema.from_pandas(frame, preserve_index=False).remove_metadata()
        widest = pyarrow.unify_schemas([widest, found], promote_options="permissive")
    return pyarrow.schema([widest.field(name) for name in names])
