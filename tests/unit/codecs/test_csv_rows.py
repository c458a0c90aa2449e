"""A CSV table is never read shifted: a row with more values than columns is refused."""

from __future__ import annotations

import io
from typing import Any

import pytest

from headrace.codecs.csv_rows import BadTable, whole_rows

pd = pytest.importorskip("pandas")


def read(body: bytes) -> Any:
    with whole_rows(lambda: io.BytesIO(body)):
        return pd.read_csv(io.BytesIO(body))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"a,b\n5,1,2\n", "row 0 (line 2): expected 2 values, one for each column of the first "
         "line, got 3"),
        (b"a,b\n0,1,2\n1,3,4\n2,5,6\n", "row 0 (line 2): expected 2 values"),
        (b"a,b\n1,2,\n3,4,\n", "row 0 (line 2): expected 2 values"),
        (b"a,b\n1,2\n3,4,5\n", "row 1 (line 3): expected 2 values"),
        (b"a\n1,2\n", "row 0 (line 2): expected 1 value, one for"),
        (b'"a, b",c\n"1,5",2,3\n', "row 0 (line 2): expected 2 values"),
        (b'a,b\n"1\n,",2\n3,4,5\n', "row 1 (line 4): expected 2 values"),
        (b"\xef\xbb\xbfa,b\r\n1,2,3\r\n", "row 0 (line 2): expected 2 values"),
        (b"a,b\r1,2,3\r", "row 0 (line 2): expected 2 values"),
        (b"\n  \na,b\n\n1,2,3\n", "row 0 (line 5): expected 2 values"),
        (b"\x0c\na,b\n1,2\n", "row 0 (line 2): expected 1 value, one for"),
        (b"a,b\n" + b"1,2\n" * 50_000 + b"3,4,5\n", "row 50,000 (line 50,002): expected 2 values"),
    ],
)  # fmt: skip
def test_a_row_with_a_value_too_many_is_refused_with_its_place(body: bytes, message: str) -> None:
    with pytest.raises(BadTable) as refused:
        read(body)

    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (pd.DataFrame({"a": [1], "b": [2]}).to_csv().encode(), {"Unnamed: 0": 0, "a": 1, "b": 2}),
        (b'a,b\n"1,5",2\n', {"a": "1,5", "b": 2}),
        (b'"a\n,b",c\n1,2', {"a\n,b": 1, "c": 2}),
        (b"a,b\r1,2\r", {"a": 1, "b": 2}),
    ],
    ids=["with the index", "quoted", "names in quotes", "old line ends"],
)
def test_a_table_with_a_value_for_each_column_is_read_as_it_is(
    body: bytes, expected: dict[str, Any]
) -> None:
    assert read(body).to_dict("records") == [expected]


@pytest.mark.parametrize(
    "header",
    [
        ["x"] * 5000,
        [" \t\nx", *["x"] * 5000],
        ['"' + "a" * 200_000 + '"', *["x"] * 5000],
        ["x", *[f"x.{number}" for number in range(1, 5000)], "x"],
    ],
    ids=["at once", "after a blank line", "after a long name", "with numbers"],
)
def test_a_header_that_repeats_thousands_of_names_never_reaches_pandas(header: list[str]) -> None:
    body = ",".join(header).encode()

    with pytest.raises(BadTable), whole_rows(lambda: io.BytesIO(body)):
        pytest.fail("pandas would read it")


def test_a_comma_at_the_end_of_every_line_is_a_column_without_values() -> None:
    table = read(b"a,b,\n1,2,\n")

    assert table["a"].tolist() == [1]
    assert table["Unnamed: 2"].isna().all()


def test_values_that_a_row_lacks_are_missing_at_its_end() -> None:
    table = read(b"a,b,c\n1\n1,2,3\n")

    assert table["a"].tolist() == [1, 1]
    assert table[["b", "c"]].iloc[0].isna().all()


def test_other_faults_of_a_table_are_left_to_pandas() -> None:
    with pytest.raises(pd.errors.EmptyDataError):
        read(b"")
    with pytest.raises(UnicodeDecodeError):
        read(b"a,b\n\xff,2\n")
