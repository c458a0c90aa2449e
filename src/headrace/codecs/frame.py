"""DataFrames and Series, to tensors and back: one tensor per column."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from headrace.codecs import array, bytes_elements, jsontext
from headrace.errors import BadModelOutput, InvalidInput, listing, shorten
from headrace.protocol import nullable
from headrace.protocol.datatypes import EXACT_IN_FLOAT
from headrace.protocol.tensor import Tensor

# Characters of the names of columns that are remembered.
LONGEST_NAMES = 4096
# Datatypes for which pandas and numpy agree on what a table with several of them becomes.
_NUMBERS = ("FP64", "FP32", "INT64", "INT32")


def frame_of(
    tensors: Sequence[Tensor], kinds: dict[str, str] | None = None, columns: Any = None
) -> Any:
    """A DataFrame with one column per tensor of shape [N] or [N, 1].

    `kinds` gives the content type of columns whose tensor has none; JSON cells in a column
    of kind `datetime` are times or null. A tensor of more dimensions becomes a column of
    arrays. `columns` is a pandas Index to use for the names.

    Raises:
        InvalidInput: columns differ in length, repeat a name, or hold an undecodable cell.
    """
    import pandas as pd

    rows = _rows(tensors)
    if columns is None:
        names = tuple([tensor.name for tensor in tensors])
        # Callers choose the names: long ones must not fill the memory.
        is_short = sum(map(len, names)) <= LONGEST_NAMES
        columns = (_index if is_short else _index.__wrapped__)(names)
        if not columns.is_unique:
            raise InvalidInput("two inputs have the same name; a table's columns must differ")
    block = _block(tensors, rows)
    if block is not None:
        return pd.DataFrame(block, columns=columns, copy=False)
    values = {
        position: _column(tensor, (kinds or {}).get(tensor.name), rows)
        for position, tensor in enumerate(tensors)
    }
    frame = pd.DataFrame(values, index=pd.RangeIndex(rows))
    frame.columns = columns
    return frame


def frame_of_matrix(matrix: Tensor, columns: Any) -> Any:
    """A DataFrame of the rows of a `[N, columns]` tensor; as `frame_of` of its columns."""
    import pandas as pd

    return pd.DataFrame(block_of_matrix(matrix), columns=columns, copy=False)


def block_of_matrix(matrix: Tensor) -> np.ndarray[Any, Any]:
    """The array of a `[N, columns]` tensor, laid out by column as those in DataFrames are."""
    rows = array.numbers_of(matrix).reshape(tuple(matrix.shape))
    return rows.T.copy().T


def block_of_columns(tensors: Sequence[Tensor]) -> np.ndarray[Any, Any] | None:
    """The array that numpy makes of the DataFrame with these columns; None unless all are numbers.

    Whole numbers among others become floating-point numbers in it.
    """
    rows = tensors[0].shape[0]
    block = _block(tensors, rows)
    if block is not None or not rows:
        return block
    if not all(tensor.datatype in _NUMBERS and len(tensor.shape) == 1 for tensor in tensors):
        return None
    columns = [array.numbers_of(tensor) for tensor in tensors]
    joined = np.empty((len(columns), rows), np.result_type(*columns))
    for index, column in enumerate(columns):
        joined[index] = column
    return joined.T


def tensors_of(frame: Any, is_answer: bool = False) -> list[Tensor]:
    """One tensor of shape [N] per column, named after it; the index is left out.

    For `is_answer`, see `tensor_of_series`.

    Raises:
        BadModelOutput: two columns have the same name, or a cell has no form in JSON.
    """
    names = [jsontext.key_text(name) for name in frame.columns]
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise BadModelOutput(f"the answer has several columns named {listing(repeated)}")
    return [tensor_of_series(name, frame.iloc[:, i], is_answer) for i, name in enumerate(names)]


def tensor_of_series(name: str, series: Any, is_answer: bool = False) -> Tensor:
    """The Series as a tensor of shape [N].

    Missing values among text, times or Python objects make it a column of JSON cells with nulls.
    Those among integers and booleans of a dtype that allows them do not change the datatype of an
    answer, see `headrace.protocol.nullable`. A model is asked with what it may know better: FP64
    with NaN for integers that float64 holds exactly, and JSON cells for others.
    """
    dtype = _number_dtype(series.dtype)
    if dtype is not None and (is_answer or dtype.kind == "f"):
        missing = series.isna().to_numpy()
        return array.nullable_of(name, _filled(series, dtype, missing), missing)
    values = _values(series)
    if values.dtype.kind == "O":
        missing = series.isna().to_numpy()
        if missing.any() and not _has_containers(values):
            values = values.copy()
            values[missing] = None
    return array.answer_of(name, values) if is_answer else array.tensor_of(name, values)


def _rows(tensors: Sequence[Tensor]) -> int:
    counts = [tensor.shape[0] if tensor.shape else 1 for tensor in tensors]
    for tensor, count in zip(tensors, counts):
        if count != counts[0]:
            raise InvalidInput(
                f"input '{shorten(tensor.name)}' has {count} rows, but input "
                f"'{shorten(tensors[0].name)}' has {counts[0]}"
            )
    return counts[0] if counts else 0


@lru_cache(maxsize=64)
def _index(names: tuple[str, ...]) -> Any:
    import pandas as pd

    return pd.Index(names)


def _block(tensors: Sequence[Tensor], rows: int) -> np.ndarray[Any, Any] | None:
    """All columns as one array whose transpose is the frame, if they share a datatype.

    A frame read from a file has one block, laid out by column, and this one would be copied
    into such a block; BLAS rounds differently for other layouts.
    """
    if not tensors or not rows:
        return None
    first = tensors[0].datatype
    if first in ("BYTES", "BF16"):
        return None
    for tensor in tensors:
        shape = tensor.shape
        if tensor.datatype != first or len(shape) > 1 and (len(shape) > 2 or shape[1] != 1):
            return None
    flat = array.numbers_of(
        Tensor("", first, (), bytearray().join([tensor.data for tensor in tensors]))
    )
    return flat.reshape(len(tensors), rows).T


def _column(tensor: Tensor, kind: str | None, rows: int) -> Any:
    import pandas as pd

    if tensor.datatype == "BYTES":
        content_type = tensor.content_type or kind
        if content_type == "datetime":
            texts = [element.decode("utf-8", "replace") for element in bytes_elements.raw(tensor)]
            return _times(tensor, texts)
        if content_type == "pd_json" and kind == "datetime":
            return _times(tensor, bytes_elements.decode(tensor))
        if content_type == "pd_json" and kind == "base64":
            return pd.Series(bytes_elements.decode_base64(tensor), dtype=object)
        if (datatype := nullable.datatype_of(tensor)) and prod(tensor.shape) == rows:
            return pd.Series(pd.array(nullable.values_of(tensor), dtype=_extension(datatype)))
        flat: Any = bytes_elements.decode(tensor, content_type)
    else:
        flat = array.numbers_of(tensor, writable=True)
    if len(flat) == rows:
        return pd.Series(flat) if rows else pd.Series(flat, dtype=_empty_dtype(flat))
    nested = np.empty(rows, dtype=object)
    items = np.asarray(flat, dtype=object) if isinstance(flat, list) else flat
    for row, item in enumerate(items.reshape(tuple(tensor.shape))):
        nested[row] = item
    return pd.Series(nested)


def _extension(datatype: str) -> str:
    """The dtype of pandas for columns of a datatype that has no null of its own."""
    if datatype == "BOOL":
        return "boolean"
    if datatype == "FP64":
        return "object"
    return f"UInt{datatype[4:]}" if datatype.startswith("U") else f"Int{datatype[3:]}"


def _empty_dtype(flat: Any) -> Any:
    return object if isinstance(flat, list) else flat.dtype


def _times(tensor: Tensor, texts: list[Any]) -> Any:
    import pandas as pd

    for index, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise bytes_elements.unreadable(tensor, index, "datetime")
    try:
        times = pd.to_datetime(pd.Series(texts, dtype=object), format="ISO8601")
        if times.dtype == object or getattr(times.dt, "tz", None) is not None:
            times = pd.to_datetime(times, utc=True).dt.tz_localize(None)
        return times.astype("datetime64[ns]")
    except (ValueError, TypeError, OverflowError) as error:
        wrong = next((at for at, text in enumerate(texts) if not _is_time(text)), None)
        if wrong is None:
            # Each alone is a time.
            name = shorten(tensor.name)
            raise InvalidInput(f"input '{name}': these times do not fit together") from error
        raise bytes_elements.unreadable(tensor, wrong, "datetime") from error


def _is_time(text: Any) -> bool:
    import pandas as pd

    try:
        pd.to_datetime(pd.Series([text], dtype=object), format="ISO8601", utc=True).astype(
            "datetime64[ns, UTC]"
        )
    except (ValueError, TypeError, OverflowError):
        return False
    return True


def _number_dtype(dtype: Any) -> np.dtype[Any] | None:
    """The dtype of the numbers or booleans in an extension array; None for any other column."""
    if isinstance(dtype, np.dtype):
        return None
    own = getattr(dtype, "numpy_dtype", None)
    if hasattr(dtype, "fill_value"):
        own = dtype.subtype
    elif hasattr(dtype, "categories"):
        own = dtype.categories.dtype
    return own if isinstance(own, np.dtype) and own.kind in "biuf" else None


def _filled(
    series: Any, dtype: np.dtype[Any], missing: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """The values of an extension array, with anything where one is missing."""
    if hasattr(series.dtype, "categories"):
        known = series.dtype.categories.to_numpy()
        return known.take(series.cat.codes, mode="clip") if len(known) else np.zeros(len(series))
    if not missing.any():
        return np.asarray(series.to_numpy(dtype=dtype))
    return np.asarray(series.to_numpy(dtype=dtype, na_value=dtype.type(0).item()))


def _values(series: Any) -> np.ndarray[Any, Any]:
    """The Series as an array of numbers or times where nothing is lost, else of objects."""
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        values: np.ndarray[Any, Any] = series.to_numpy()
        return values
    if dtype.kind == "M":
        # to_numpy of a Series with a time zone gives UTC; the zone has to be sent as text.
        return np.array([None if item is None else item for item in series.astype(object)])
    missing = bool(series.isna().any())
    if dtype.kind in "biu" and dtype.name != "category":
        if not missing:
            return np.asarray(series.to_numpy(dtype=getattr(dtype, "numpy_dtype", None)))
        if dtype.kind in "iu" and series.abs().max() <= EXACT_IN_FLOAT:
            return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.asarray(series.astype(object).to_numpy())


def _has_containers(values: np.ndarray[Any, Any]) -> bool:
    return any(isinstance(value, (list, tuple, dict, np.ndarray)) for value in values)
