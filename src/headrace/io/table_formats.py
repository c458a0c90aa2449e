"""Data frames and series in JSON, CSV and Parquet."""

from __future__ import annotations

import io
import re
from typing import Any, Callable

from headrace.codecs import csv_rows
from headrace.errors import InvalidInput, MissingDependency, TooLarge, UnsupportedMedia, shorten
from headrace.io.descriptor import kind_of, text_of
from headrace.io.element_types import INEXACT, first_inexact
from headrace.protocol import records
from headrace.protocol.datatypes import EXACT_IN_FLOAT

FRAME_ORIENTS = ("records", "split", "index", "columns", "values", "table")
SERIES_ORIENTS = ("records", "split", "index", "values", "table")
# Parquet keeps a column of equal values in a few bytes.
MAX_CELLS = 50_000_000
_LINE = re.compile(r"\bline (\d+)")


def pandas() -> Any:
    """pandas, which only the descriptors of frames and series need.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError:
        raise MissingDependency(
            "PandasDataFrame and PandasSeries need pandas: pip install pandas"
        ) from None
    return pandas


def need_parquet() -> None:
    """Check that Parquet can be read and written.

    Raises:
        MissingDependency: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError:
        raise MissingDependency("Parquet needs pyarrow: pip install pyarrow") from None


def frame_of_json(value: Any, orient: str, where: str) -> Any:
    """A data frame from what JSON held in one of pandas' orients.

    Texts stay texts, also where they look like numbers or dates.

    Raises:
        InvalidInput: it does not have the form of the orient.
    """
    pd = pandas()
    try:
        frame = _without_objects(_frame(pd, value, orient, where))
        _check_exact(frame, lambda: _frame(pd, value, orient, where, object), where)
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError):
        raise InvalidInput(f"{where}: not a table in the orient '{orient}'") from None
    return _with_own_names(frame, where)


def _frame(pd: Any, value: Any, orient: str, where: str, dtype: Any = None) -> Any:
    if orient == "table":
        return _of_table(pd, value, where)
    if orient == "split":
        return _of_split(pd, value, where, dtype)
    if orient == "index":
        rows = list(_object(value, where, orient).values())
        if all(isinstance(row, dict) for row in rows):
            records.check_size(rows, records.names_of(rows), where)
        frame = pd.DataFrame.from_dict(value, orient="index", dtype=dtype)
        frame.index = _labels(frame.index)
        return frame
    if orient == "columns" and not isinstance(value, list):
        return _of_columns(pd, _object(value, where, orient), where, dtype)
    return _of_rows(pd, value, where, dtype)


def _check_exact(frame: Any, as_objects: Callable[[], Any], where: str) -> None:
    """Refuse integers that pandas has changed, because fractions or nulls are beside them."""
    at = [index for index, dtype in enumerate(frame.dtypes) if dtype.kind == "f"]
    large = [index for index in at if (frame.iloc[:, index].abs() >= EXACT_IN_FLOAT).any()]
    objects = as_objects() if large else frame
    for index in large:
        column = objects.iloc[:, index]
        row = first_inexact(frame.iloc[:, index].to_numpy(), column.tolist())
        if row is not None:
            raise InvalidInput(
                f"{where}: column '{shorten(frame.columns[index])}', row {row:,}: {INEXACT}"
            )


def _with_own_names(frame: Any, where: str) -> Any:
    if not frame.columns.is_unique:
        raise InvalidInput(f"{where}: two columns have the same name")
    for name, column in frame.items():
        check_integers(column, f"{where}: column '{name}'")
    return frame


def series_of_json(value: Any, orient: str, where: str) -> Any:
    """A series from what JSON held in one of pandas' orients.

    Raises:
        InvalidInput: it does not have the form of the orient.
    """
    pd = pandas()
    try:
        if orient == "table":
            series = _of_table(pd, value, where).iloc[:, 0]
        elif orient == "split":
            members = _object(value, where, orient)
            series = pd.Series(members["data"], members.get("index"), name=members.get("name"))
        elif isinstance(value, dict):
            series = pd.Series(value, dtype=None if value else "float64")
            series.index = _labels(series.index)
        elif isinstance(value, list):
            series = pd.Series(value, dtype=None if value else "float64")
        else:
            raise InvalidInput(f"{where}: expected an array, got {kind_of(value)}")
        if _is_missing(series):
            series = series.astype("float64")
        if orient != "table" and series.dtype.kind == "f":
            elements = list(value.values()) if isinstance(value, dict) else value
            if orient == "split":
                elements = value["data"]
            row = first_inexact(series.to_numpy(), elements)
            if row is not None:
                raise InvalidInput(f"{where}: row {row:,}: {INEXACT}")
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError):
        raise InvalidInput(f"{where}: not a series in the orient '{orient}'") from None
    check_integers(series, where)
    return series


def check_integers(column: Any, where: str) -> None:
    """Refuse integers of more than 64 bits, which pandas keeps as Python objects.

    Raises:
        InvalidInput: the message begins with `where`.
    """
    if column.dtype == object:
        for value in column:
            if isinstance(value, int) and not -(2**63) <= value < 2**64:
                raise InvalidInput(f"{where}: an integer is out of range of 64 bits")


def _without_objects(frame: Any) -> Any:
    """The frame with NaN in columns of which no value is known, as pandas reads JSON itself.

    Models take such a column for numbers, and refuse one of Python objects.
    """
    at = [index for index in range(frame.shape[1]) if _is_missing(frame.iloc[:, index])]
    for index in at:
        frame.isetitem(index, frame.iloc[:, index].astype("float64"))
    return frame


def _is_missing(column: Any) -> bool:
    return bool(column.dtype == object and len(column) and all(each is None for each in column))


def _of_columns(pd: Any, value: Any, where: str, dtype: Any) -> Any:
    columns = [column for column in value.values() if isinstance(column, dict)]
    records.check_size(columns, records.names_of(columns), where)
    frame = pd.DataFrame(value, dtype=dtype)
    frame.index = _labels(frame.index)
    return frame


def _of_rows(pd: Any, value: Any, where: str, dtype: Any) -> Any:
    if isinstance(value, dict):
        if value and not any(isinstance(each, (list, dict)) for each in value.values()):
            raise InvalidInput(
                f"{where}: expected an array of rows or an object of columns, got one row; put it "
                "into an array, as in [{...}]"
            )
        return _of_columns(pd, value, where, dtype)
    if not isinstance(value, list):
        raise InvalidInput(f"{where}: expected an array of rows, got {kind_of(value)}")
    first = kind_of(value[0]) if value else ""
    for index, row in enumerate(value):
        kind = kind_of(row)
        if kind not in ("object", "array") or kind != first:
            expected = first if first in ("object", "array") else "object"
            raise InvalidInput(f"{where}: row {index}: expected an {expected}, got {kind}")
    if first == "array":
        for index, row in enumerate(value):
            if len(row) != len(value[0]):
                raise InvalidInput(
                    f"{where}: row {index} has {len(row)} values, row 0 has {len(value[0])}"
                )
    else:
        records.check_size(value, records.names_of(value), where)
    return pd.DataFrame(value, dtype=dtype)


def _of_split(pd: Any, value: Any, where: str, dtype: Any) -> Any:
    members = _object(value, where, "split")
    missing = [name for name in ("columns", "data") if name not in members]
    if missing:
        raise InvalidInput(f"{where}: the orient 'split' needs '{missing[0]}', which is missing")
    columns = members["columns"]
    for index, row in enumerate(members["data"]):
        if len(row) != len(columns):
            raise InvalidInput(
                f"{where}: row {index} has {len(row)} values for {len(columns)} columns"
            )
    return pd.DataFrame(members["data"], members.get("index"), columns, dtype)


def _of_table(pd: Any, value: Any, where: str) -> Any:
    import json

    _object(value, where, "table")
    return pd.read_json(io.StringIO(json.dumps(value)), orient="table", precise_float=True)


def _object(value: Any, where: str, orient: str) -> Any:
    if not isinstance(value, dict):
        raise InvalidInput(f"{where}: the orient '{orient}' is an object, got {kind_of(value)}")
    return value


def _labels(index: Any) -> Any:
    """JSON has text for all keys; whole numbers are what pandas wrote them from."""
    if len(index) and all(isinstance(key, str) and key.isdecimal() for key in index):
        return index.astype("int64")
    return index


def frame_of_csv(body: bytes, where: str) -> Any:
    """A data frame from CSV with a line of column names.

    Raises:
        InvalidInput: it is empty, not UTF-8, or a line has too many fields.
    """
    pd = pandas()
    text = text_of(body, where)
    if not text.strip():
        raise InvalidInput(f"{where} is empty, expected CSV with a line of column names")
    try:
        with csv_rows.whole_rows(lambda: io.BytesIO(body)):
            return pd.read_csv(io.StringIO(text), **csv_rows.exactly(pd))
    except csv_rows.BadTable as error:
        raise InvalidInput(f"{where} is not valid CSV: {error}") from None
    except (ValueError, OverflowError) as error:
        line = _LINE.search(str(error))
        place = f", at line {line[1]}" if line else ""
        raise InvalidInput(f"{where} is not valid CSV{place}") from None


def frame_of_parquet(body: bytes, where: str) -> Any:
    """A data frame from a Parquet file.

    Raises:
        InvalidInput: it is not a Parquet file.
        TooLarge: it has more than `MAX_CELLS` cells.
        UnsupportedMedia: pyarrow is not installed.
    """
    if not body:
        raise InvalidInput(f"{where} is empty, expected a Parquet file")
    try:
        need_parquet()
    except MissingDependency as error:
        raise UnsupportedMedia(error.message) from None
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(io.BytesIO(body))
        cells = file.metadata.num_rows * max(file.metadata.num_columns, 1)
        if cells > MAX_CELLS:
            raise TooLarge(f"{where}: {cells} cells are over {MAX_CELLS}")
        return _with_own_names(file.read().to_pandas(), where)
    except (InvalidInput, TooLarge):
        raise
    except Exception:
        raise InvalidInput(f"{where} is not a Parquet file") from None


def json_of_frame(frame: Any, orient: str) -> Any:
    """What JSON holds for a frame in one of pandas' orients, every digit kept."""
    names = [str(name) for name in frame.columns]
    rows = list(zip(*(_values(frame.iloc[:, at]) for at in range(len(names)))))
    if not names:
        rows = [()] * len(frame)
    if orient == "values":
        return rows
    index = [str(label) for label in frame.index]
    if orient == "split":
        return {"columns": names, "index": _values(frame.index), "data": rows}
    records = [dict(zip(names, row)) for row in rows]
    if orient == "records":
        return records
    if orient == "index":
        return dict(zip(index, records))
    return {name: dict(zip(index, _values(frame.iloc[:, at]))) for at, name in enumerate(names)}


def json_of_series(series: Any, orient: str) -> Any:
    """What JSON holds for a series in one of pandas' orients."""
    values = _values(series)
    if orient == "split":
        return {"name": series.name, "index": _values(series.index), "data": values}
    if orient == "index":
        return dict(zip([str(label) for label in series.index], values))
    return values


def _values(column: Any) -> list[Any]:
    if column.dtype.kind in "biuf":
        found: list[Any] = column.tolist()
        return found
    missing = column.isna()
    return [None if gone else value for value, gone in zip(column, missing)]
