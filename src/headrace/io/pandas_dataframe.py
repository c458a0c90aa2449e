"""pandas data frames, as JSON, CSV or Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.codecs import jsontext
from headrace.errors import BadModelOutput, InvalidInput, listing
from headrace.io import element_types, json_body, table_formats
from headrace.io.descriptor import (
    BODY,
    OCTETS,
    UNNAMED,
    Descriptor,
    Encoded,
    check_media_type,
    is_json,
    media_type_of,
    refuse_output,
)
from headrace.io.shape import checked_shape

CSV = ("text/csv",)
PARQUET = (
    OCTETS,
    "application/vnd.apache.parquet",
    "application/x-parquet",
    "application/parquet",
)
# The first bytes of a file.
_PARQUET_MAGIC = b"PAR1"
_FORMATS = {"json": "application/json", "parquet": PARQUET[0], "csv": "text/csv; charset=utf-8"}


class PandasDataFrame(Descriptor):
    """A data frame, in the format that the Content-Type of the request names.

    If that says nothing the format is `default_format`, which is also that of answers: "json",
    "parquet" or "csv"; a Parquet file is recognised in any case. `orient` is the form of JSON, as
    pandas names them.

    `columns` are the columns that must be there; they come first, in this order. With
    `apply_column_names` the columns are renamed to them instead. `dtype` is one for all columns or
    a dict by column, and works as in `NumpyNdarray`, as `enforce_dtype` does. `shape` is compared
    from its second dimension on, the number of columns, and only with `enforce_shape`.

    Raises:
        ValueError: an argument is not one of those named, or is enforced and not given.
        MissingDependency: pandas is not installed, or pyarrow for `default_format="parquet"`.
    """

    content_types = ("application/json", *CSV, *PARQUET)

    def __init__(
        self,
        orient: str = "records",
        columns: Sequence[str] | None = None,
        apply_column_names: bool = False,
        dtype: Any = None,
        enforce_dtype: bool = False,
        shape: Sequence[int] | None = None,
        enforce_shape: bool = False,
        default_format: str = "json",
    ) -> None:
        table_formats.pandas()
        if orient not in table_formats.FRAME_ORIENTS:
            raise ValueError(
                f"orient: expected one of {listing(table_formats.FRAME_ORIENTS)}, got {orient!r}"
            )
        if default_format not in _FORMATS:
            raise ValueError(
                f"default_format: expected one of {listing(list(_FORMATS))}, got {default_format!r}"
            )
        for given, name in ((columns, "columns"), (shape, "shape")):
            flag = {"columns": apply_column_names, "shape": enforce_shape}[name]
            if flag and given is None:
                what = "apply_column_names" if name == "columns" else "enforce_shape"
                raise ValueError(f"{what}=True needs {name}")
        if enforce_dtype and (dtype is None or isinstance(dtype, bool)):
            raise ValueError("enforce_dtype=True needs a dtype")
        if default_format == "parquet":
            table_formats.need_parquet()
        self.orient, self.default_format = orient, default_format
        self.columns = None if columns is None else list(columns)
        self.apply_column_names = apply_column_names
        self.dtype, self.enforce_dtype = dtype, enforce_dtype
        self.shape = None if shape is None else checked_shape(shape)
        self.enforce_shape = enforce_shape
        self.content_type = _FORMATS[default_format]

    @classmethod
    def from_sample(cls, sample: Any, **arguments: Any) -> PandasDataFrame:
        """A descriptor for frames like `sample`, which is a frame or what pandas makes one of.

        Its columns, dtypes and number of columns are taken where the arguments, those of the
        class, give none.
        """
        frame = table_formats.pandas().DataFrame(sample)
        names = [str(name) for name in frame.columns]
        if "columns" not in arguments:
            arguments["columns"] = names
        if "dtype" not in arguments:
            arguments["dtype"] = dict(zip(names, frame.dtypes))
        if "shape" not in arguments:
            arguments["shape"] = (-1, len(names))
        made = cls(**arguments)
        made.example = json.loads(made._json(frame))
        return made

    def decode(self, body: bytes, headers: Mapping[str, str], where: str = BODY) -> Any:
        """The data frame in a body."""
        media_type = media_type_of(headers)
        if not media_type or media_type in UNNAMED:
            name = "parquet" if body.startswith(_PARQUET_MAGIC) else self.default_format
            media_type = _FORMATS[name].partition(";")[0]
        if is_json(media_type):
            return self.decode_json(json_body.loads(body, where), where)
        check_media_type(media_type, self.content_types, where)
        if media_type in CSV:
            return self._checked(table_formats.frame_of_csv(body, where), where)
        return self._checked(table_formats.frame_of_parquet(body, where), where)

    def decode_json(self, value: Any, where: str) -> Any:
        """The data frame of a value in the form of `orient`."""
        return self._checked(table_formats.frame_of_json(value, self.orient, where), where)

    def encode(self, value: Any) -> Encoded:
        """A frame, or what pandas makes one of; NaN and missing values are null in JSON."""
        pd = table_formats.pandas()
        if value is None or isinstance(value, (str, bytes)):
            raise refuse_output("a pandas DataFrame", value)
        try:
            frame = value if isinstance(value, pd.DataFrame) else pd.DataFrame(value)
            frame = self._checked(frame, "the answer")
        except InvalidInput as error:
            raise BadModelOutput(error.message) from error
        except (ValueError, TypeError):
            raise refuse_output("a pandas DataFrame", value) from None
        if self.default_format == "json":
            return Encoded(self._json(frame), self.content_type)
        if self.default_format == "csv":
            return Encoded(frame.to_csv(index=False).encode("utf-8"), self.content_type)
        return Encoded(_to_parquet(frame), self.content_type)

    def openapi_schema(self) -> dict[str, Any]:
        """An array of records with the known columns; any object or array for other orients."""
        if self.orient != "records":
            return {"type": "array"} if self.orient == "values" else {"type": "object"}
        dtypes = self.dtype if isinstance(self.dtype, dict) else {}
        names = self.columns or list(dtypes)
        properties = {name: schema_of(dtypes.get(name)) for name in names}
        row: dict[str, Any] = {"type": "object", "properties": properties}
        if self.columns and not self.apply_column_names:
            row["required"] = self.columns
        return {"type": "array", "items": row}

    def _json(self, frame: Any) -> bytes:
        if self.orient == "table":
            return str(frame.to_json(orient="table", double_precision=15)).encode("utf-8")
        if self.orient != "values" and not frame.columns.is_unique:
            raise BadModelOutput("the answer: two columns have the same name")
        return jsontext.dumps(table_formats.json_of_frame(frame, self.orient), "the answer")

    def _checked(self, frame: Any, where: str) -> Any:
        if self.enforce_shape and self.shape is not None:
            for wanted in self.shape[1:]:
                if wanted not in (-1, frame.shape[1]):
                    raise InvalidInput(
                        f"{where}: expected {wanted} columns, got {frame.shape[1]}; "
                        "the endpoint has enforce_shape=True"
                    )
        return self._typed(self._named(frame, where), where)

    def _named(self, frame: Any, where: str) -> Any:
        if self.columns is None:
            return frame
        if self.apply_column_names:
            if len(self.columns) != frame.shape[1]:
                raise InvalidInput(
                    f"{where}: expected {len(self.columns)} columns, got {frame.shape[1]}; "
                    "the endpoint has apply_column_names=True"
                )
            return frame.set_axis(self.columns, axis=1)
        # Rows without names get those of the sample or of `columns`, if as many.
        if list(frame.columns) == list(range(len(self.columns))):
            return frame.set_axis(self.columns, axis=1)
        missing = [name for name in self.columns if name not in frame.columns]
        if missing:
            got = listing([str(name) for name in frame.columns]) or "none"
            raise InvalidInput(f"{where}: columns {listing(missing)} are missing, got {got}")
        if list(frame.columns[: len(self.columns)]) == self.columns:
            return frame
        rest = [name for name in frame.columns if name not in self.columns]
        return frame[self.columns + rest]

    def _typed(self, frame: Any, where: str) -> Any:
        if self.dtype is None or isinstance(self.dtype, bool):
            return frame
        if isinstance(self.dtype, dict):
            wanted = self.dtype
            missing = [name for name in wanted if name not in frame.columns]
            if missing and self.enforce_dtype:
                raise InvalidInput(f"{where}: columns {listing(missing)} are missing")
        else:
            wanted = dict.fromkeys(frame.columns, self.dtype)
        changed = {
            name: column_of_type(
                frame[name], dtype, self.enforce_dtype, f"{where}: column '{name}'"
            )
            for name, dtype in wanted.items()
            if name in frame.columns and frame[name].dtype != dtype
        }
        if not changed:
            return frame
        frame = frame.copy(deep=False)
        for name, column in changed.items():
            frame[name] = column
        return frame

    def __repr__(self) -> str:
        return f"PandasDataFrame(orient={self.orient!r}, columns={self.columns})"


def column_of_type(column: Any, dtype: Any, enforce: bool, where: str) -> Any:
    """A column or series converted to a dtype of numpy or pandas, or as it is.

    Raises:
        InvalidInput: it cannot be converted without loss, and `enforce` is true.
    """
    try:
        return _converted(column, dtype)
    except (ValueError, TypeError, OverflowError, InvalidInput) as error:
        if not enforce:
            return column
        why = f": {element_types.reason(error)}" if isinstance(error, InvalidInput) else ""
        raise InvalidInput(
            f"{where}: expected {dtype}, got {column.dtype}{why}; "
            "the endpoint has enforce_dtype=True"
        ) from None


def _converted(column: Any, dtype: Any) -> Any:
    try:
        target = np.dtype(dtype)
    except TypeError:
        # A dtype of pandas' own, such as "category" or "Int64".
        return column.astype(dtype)
    if target.kind not in "biuf":
        return column.astype(dtype)
    if not isinstance(column.dtype, np.dtype) or column.dtype.kind not in "biuf":
        if column.isna().all():
            return column.astype(dtype)
        raise InvalidInput(f"{column.dtype} is not {target}")
    values = element_types.converted(column.to_numpy(), target)
    return table_formats.pandas().Series(values, column.index, name=column.name)


def schema_of(dtype: Any) -> dict[str, Any]:
    """The JSON schema of one cell."""
    name = str(dtype).lower()
    if name.startswith(("int", "uint")):
        return {"type": "integer"}
    if name.startswith("float"):
        return {"type": ["number", "null"]}
    if name.startswith("bool"):
        return {"type": "boolean"}
    return {"type": "string"} if name.startswith(("str", "datetime")) else {}


def _to_parquet(frame: Any) -> bytes:
    buffer = io.BytesIO()
    try:
        frame.set_axis([str(name) for name in frame.columns], axis=1).to_parquet(buffer)
    except Exception as error:
        raise BadModelOutput("the answer cannot be written as Parquet") from error
    return buffer.getvalue()
