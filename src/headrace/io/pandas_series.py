"""pandas series, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.codecs import jsontext
from headrace.errors import BadModelOutput, InvalidInput, listing
from headrace.io import json_body, table_formats
from headrace.io.descriptor import (
    BODY,
    Descriptor,
    Encoded,
    check_media_type,
    may_be_json,
    media_type_of,
    refuse_output,
)
from headrace.io.pandas_dataframe import column_of_type, schema_of
from headrace.io.shape import checked_shape


class PandasSeries(Descriptor):
    """A series in JSON: a list of values, or the form of another of pandas' orients.

    `dtype` and `enforce_dtype` work as in `NumpyNdarray`. `shape` is the number of values in a
    tuple, and compared with `enforce_shape` only.

    Raises:
        ValueError: an argument is not one of those named, or is enforced and not given.
        MissingDependency: pandas is not installed.
    """

    content_types = ("application/json",)
    content_type = "application/json"

    def __init__(
        self,
        orient: str = "records",
        dtype: Any = None,
        enforce_dtype: bool = False,
        shape: Sequence[int] | None = None,
        enforce_shape: bool = False,
    ) -> None:
        table_formats.pandas()
        if orient not in table_formats.SERIES_ORIENTS:
            raise ValueError(
                f"orient: expected one of {listing(table_formats.SERIES_ORIENTS)}, got {orient!r}"
            )
        if enforce_dtype and (dtype is None or isinstance(dtype, bool)):
            raise ValueError("enforce_dtype=True needs a dtype")
        if enforce_shape and shape is None:
            raise ValueError("enforce_shape=True needs a shape")
        self.orient, self.dtype, self.enforce_dtype = orient, dtype, enforce_dtype
        self.shape = None if shape is None else checked_shape(shape)
        self.enforce_shape = enforce_shape

    @classmethod
    def from_sample(cls, sample: Any, **arguments: Any) -> PandasSeries:
        """A descriptor for series like `sample`, which is a series or a list.

        Its dtype is taken where the arguments, those of the class, give none.
        """
        series = table_formats.pandas().Series(sample)
        arguments.setdefault("dtype", series.dtype)
        made = cls(**arguments)
        made.example = json.loads(made._json(series))
        return made

    def decode(self, body: bytes, headers: Mapping[str, str], where: str = BODY) -> Any:
        """The series in a body."""
        if not may_be_json(headers.get("content-type", "")):
            check_media_type(media_type_of(headers), self.content_types, where)
        return self.decode_json(json_body.loads(body, where), where)

    def decode_json(self, value: Any, where: str) -> Any:
        """The series of a value in the form of `orient`."""
        return self._checked(table_formats.series_of_json(value, self.orient, where), where)

    def encode(self, value: Any) -> Encoded:
        """A series, or what pandas makes one of; NaN and missing values are null."""
        pd = table_formats.pandas()
        if value is None or isinstance(value, (str, bytes)):
            raise refuse_output("a pandas Series", value)
        try:
            array: Any = value if isinstance(value, (dict, pd.Series)) else np.asarray(value)
            if np.ndim(array) > 1 or (np.ndim(array) == 0 and array is not value):
                raise refuse_output("a pandas Series", value)
            series = pd.Series(array)
            series = self._checked(series, "the answer")
        except InvalidInput as error:
            raise BadModelOutput(error.message) from error
        except (ValueError, TypeError):
            raise refuse_output("a pandas Series", value) from None
        return Encoded(self._json(series), self.content_type)

    def openapi_schema(self) -> dict[str, Any]:
        """A list of values, or an object for the orients that are one."""
        if self.orient in ("records", "values"):
            known = self.dtype is not None and not isinstance(self.dtype, bool)
            return {"type": "array", "items": schema_of(self.dtype) if known else {}}
        return {"type": "object"}

    def _json(self, series: Any) -> bytes:
        if self.orient == "table":
            return str(series.to_json(orient="table", double_precision=15)).encode("utf-8")
        return jsontext.dumps(table_formats.json_of_series(series, self.orient), "the answer")

    def _checked(self, series: Any, where: str) -> Any:
        if self.enforce_shape and self.shape and self.shape[0] not in (-1, len(series)):
            raise InvalidInput(
                f"{where}: expected {self.shape[0]} values, got {len(series)}; "
                "the endpoint has enforce_shape=True"
            )
        if self.dtype is None or isinstance(self.dtype, bool) or series.dtype == self.dtype:
            return series
        return column_of_type(series, self.dtype, self.enforce_dtype, where)

    def __repr__(self) -> str:
        return f"PandasSeries(orient={self.orient!r}, dtype={self.dtype})"
