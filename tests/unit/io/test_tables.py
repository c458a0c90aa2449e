"""Frames and series: every orient and format, and what happens to names and types."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

from headrace.errors import BadModelOutput, MissingDependency
from headrace.io import PandasDataFrame, PandasSeries
from headrace.io.table_formats import FRAME_ORIENTS, SERIES_ORIENTS

TABLE = pd.DataFrame({"a": [1, 2], "b": [0.1 + 0.2, None], "c": ["01234", "x"]})


def decoded(descriptor, body, content_type="application/json"):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return descriptor.decode(body, {"content-type": content_type})


@pytest.mark.parametrize("orient", FRAME_ORIENTS)
def test_a_frame_comes_back_from_what_pandas_and_we_write_of_it(orient):
    descriptor = PandasDataFrame(orient=orient)
    table = TABLE.assign(b=[0.5, None])
    theirs = table.to_json(orient=orient).encode()
    ours = descriptor.encode(table).body

    for body in (theirs, ours):
        frame = decoded(descriptor, body)
        assert frame.to_numpy().tolist()[0] == [1, 0.5, "01234"]
        assert frame["b" if orient != "values" else 1].isna().tolist() == [False, True]
        assert list(map(str, frame.index)) == ["0", "1"]
    assert json.loads(ours) == json.loads(theirs)


def test_an_answer_keeps_every_digit_and_text_stays_text():
    body = PandasDataFrame().encode(TABLE).body

    assert json.loads(body) == [
        {"a": 1, "b": 0.30000000000000004, "c": "01234"},
        {"a": 2, "b": None, "c": "x"},
    ]
    assert decoded(PandasDataFrame(), body)["c"].tolist() == ["01234", "x"]


@pytest.mark.parametrize("name", ["json", "csv", "parquet"])
def test_a_frame_travels_in_every_format(name):
    descriptor = PandasDataFrame(default_format=name)
    encoded = descriptor.encode(TABLE)

    back = decoded(PandasDataFrame(), encoded.body, encoded.content_type)
    assert back["b"].tolist()[0] == TABLE["b"][0]
    assert decoded(descriptor, encoded.body, "").shape == (2, 3)


def test_rows_without_names_are_numbered_or_named_by_the_columns():
    assert list(decoded(PandasDataFrame(), [[1, 2]]).columns) == [0, 1]
    assert list(decoded(PandasDataFrame(columns=["a", "b"]), [[1, 2]]).columns) == ["a", "b"]


def test_columns_of_rows_without_names_get_their_dtype_too():
    frame = decoded(PandasDataFrame(dtype="float32"), [[1, 2], [3, 4]])

    assert frame.dtypes.astype(str).tolist() == ["float32", "float32"]


def test_a_column_of_nulls_is_one_of_missing_numbers_as_models_want_it():
    frame = decoded(PandasDataFrame(), [{"a": None, "b": "x"}, {"a": None, "b": None}])

    assert (str(frame["a"].dtype), frame["a"].isna().all()) == ("float64", True)
    assert frame["b"].tolist()[0] == "x"
    assert decoded(PandasSeries(), [None]).dtype == "float64"
    assert decoded(PandasSeries(), {}).dtype == "float64"


def test_the_orient_of_columns_reads_rows_as_well_and_that_of_records_columns():
    rows, columns = [{"a": 1}, {"a": 2}], {"a": {"0": 1, "1": 2}}

    for orient in ("records", "columns"):
        for value in (rows, columns):
            frame = decoded(PandasDataFrame(orient=orient), value)
            assert (frame["a"].tolist(), frame.index.tolist()) == ([1, 2], [0, 1])


@pytest.mark.parametrize("content_type", ["", "application/octet-stream", "application/parquet"])
def test_a_parquet_file_is_recognised_where_nobody_named_it_rightly(content_type):
    body = PandasDataFrame(default_format="parquet").encode(TABLE).body

    assert decoded(PandasDataFrame(), body, content_type).shape == (2, 3)


def test_json_in_a_file_of_no_named_type_is_read():
    assert decoded(PandasDataFrame(), [{"a": 1}], "application/octet-stream").shape == (1, 1)
    assert decoded(PandasSeries(), [1], "application/octet-stream").tolist() == [1]


def test_named_columns_come_first_in_their_order_and_others_follow():
    frame = decoded(PandasDataFrame(columns=["b", "a"]), [{"x": 0, "a": 1, "b": 2}])

    assert list(frame.columns) == ["b", "a", "x"]


def test_columns_are_renamed_if_asked():
    descriptor = PandasDataFrame(columns=["u", "v"], apply_column_names=True)

    assert list(decoded(descriptor, [{"a": 1, "b": 2}]).columns) == ["u", "v"]


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("float32", [1, 2], "float32"),
        ("uint8", [1, 2], "uint8"),
        ("int64", [1.0, 2.0], "int64"),
        ("Int64", [1, None], "Int64"),
        ("category", ["a", "b"], "category"),
        ("datetime64[ns]", ["2024-02-29", None], "datetime64[ns]"),
        ("float64", [None, None], "float64"),
        ("int64", [1.5, 2], "float64"),
    ],
)
def test_a_column_gets_its_dtype_where_no_value_changes(dtype, values, expected):
    frame = decoded(PandasDataFrame(dtype={"a": dtype}), [{"a": value} for value in values])
    series = decoded(PandasSeries(dtype=dtype), values)

    assert str(frame["a"].dtype) == str(series.dtype) == expected


def test_a_sample_gives_columns_dtypes_and_their_number():
    descriptor = PandasDataFrame.from_sample(
        pd.DataFrame({"a": [1], "b": [0.5]}), enforce_dtype=True, enforce_shape=True
    )

    frame = decoded(descriptor, [{"b": 1, "a": 2}])
    assert frame.dtypes.astype(str).to_dict() == {"a": "int64", "b": "float64"}
    assert descriptor.openapi_request()["content"]["application/json"] == {
        "schema": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": ["number", "null"]}},
                "required": ["a", "b"],
            },
        },
        "example": [{"a": 1, "b": 0.5}],
    }


@pytest.mark.parametrize("orient", SERIES_ORIENTS)
def test_a_series_comes_back_from_what_pandas_and_we_write_of_it(orient):
    descriptor = PandasSeries(orient=orient)
    series = pd.Series([1.5, None], name="values")
    theirs = series.to_json(orient="records" if orient == "values" else orient).encode()

    for body in (theirs, descriptor.encode(series).body):
        found = decoded(descriptor, body)
        assert found.tolist()[0] == 1.5
        assert found.isna().tolist() == [False, True]
        assert found.index.tolist() == [0, 1]


@pytest.mark.parametrize(
    "value", [np.array([[1, 2]]), [{"0": 1, "1": 2}], {"0": [1], "1": [2]}, TABLE.iloc[:1, :2]]
)
def test_an_answer_may_be_whatever_pandas_makes_a_frame_of(value):
    (row,) = json.loads(PandasDataFrame().encode(value).body)

    assert len(row) == 2


@pytest.mark.parametrize("value", [None, "a", 1, np.ones((1, 1, 1)), {"a": object()}])
@pytest.mark.parametrize("descriptor", [PandasDataFrame(columns=["q"]), PandasSeries(dtype="int8")])
def test_an_answer_that_is_no_table_is_the_endpoints_fault(descriptor, value):
    with pytest.raises(BadModelOutput):
        descriptor.encode(value)


def test_dates_are_sent_as_iso_and_columns_of_one_name_are_refused():
    times = pd.DataFrame({"t": pd.to_datetime(["2024-02-29", None])})

    assert PandasDataFrame().encode(times).body == b'[{"t":"2024-02-29T00:00:00"},{"t":null}]'
    with pytest.raises(BadModelOutput, match="the same name"):
        PandasDataFrame().encode(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_parquet_of_many_equal_values_is_refused_before_it_is_unpacked(monkeypatch):
    buffer = io.BytesIO()
    pd.DataFrame({"a": np.zeros(1000)}).to_parquet(buffer)
    monkeypatch.setattr("headrace.io.table_formats.MAX_CELLS", 999)

    with pytest.raises(Exception, match="the body: 1000 cells are over 999"):
        decoded(PandasDataFrame(), buffer.getvalue(), "application/octet-stream")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"orient": "rows"}, "orient: expected one of 'records', .*, got 'rows'"),
        ({"default_format": "xml"}, "default_format: expected one of .*, got 'xml'"),
        ({"apply_column_names": True}, "apply_column_names=True needs columns"),
        ({"enforce_shape": True}, "enforce_shape=True needs shape"),
        ({"enforce_dtype": True, "dtype": True}, "enforce_dtype=True needs a dtype"),
    ],
)
def test_a_wrong_description_is_refused_when_it_is_made(arguments, words):
    with pytest.raises(ValueError, match=words):
        PandasDataFrame(**arguments)


def test_a_missing_library_is_named_when_the_descriptor_is_made(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)

    with pytest.raises(MissingDependency, match="pip install pandas"):
        PandasSeries()
