"""The rows of files in the forms that people have them in."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import pytest

from headrace.client.columns import fitted
from headrace.client.input_files import InputFile
from headrace.client.pieces import pieces_of
from headrace.errors import ConfigurationError


def write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    body = text.encode(encoding)
    path = folder / name
    path.write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    return path


FORMS = {
    "as it is": ("rows.csv", ",", "utf-8"),
    "with a byte order mark": ("rows.csv", ",", "utf-8-sig"),
    "tabs": ("rows.tsv", "\t", "utf-8"),
    "gzip": ("rows.csv.gz", ",", "utf-8"),
    "UTF-16": ("rows.csv", ",", "utf-16"),
    "UTF-16 and gzip": ("rows.tsv.gz", "\t", "utf-16"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("quote", ["", '"'], ids=["plain", "quoted"])
def test_a_csv_file_whose_rows_have_a_value_too_many_is_refused(tmp_path, form, quote):
    name, separator, encoding = form
    rows = [["ä", "b"], ["0", "1", "2"], ["1", "3", "4"]]
    text = "".join(separator.join(f"{quote}{cell}{quote}" for cell in row) + "\n" for row in rows)
    path = write(tmp_path, name, text, encoding)

    with pytest.raises(ConfigurationError, match=rf"{name}: row 0 \(line 2\): expected 2 values"):
        list(pieces_of(InputFile(path), 10, ()))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_csv_file_is_read_in_its_form(tmp_path, form):
    name, separator, encoding = form
    path = write(tmp_path, name, f"ä{separator}b\n1{separator}ü\n2{separator}", encoding)

    (piece,) = pieces_of(InputFile(path), 10, ())

    assert piece.frame["ä"].tolist() == [1, 2]
    assert piece.frame["b"].fillna("").tolist() == ["ü", ""]


def test_a_byte_order_mark_is_no_text_where_the_encoding_is_given(tmp_path):
    path = write(tmp_path, "rows.jsonl", '{"a": 1}\n', "utf-8-sig")

    (piece,) = pieces_of(InputFile(path, encoding="UTF8"), 10, ())

    assert piece.frame["a"].tolist() == [1]


def read(path: Path, size: int, inputs: Any = ()) -> tuple[list[Any], dict[int, str]]:
    """The first column of all pieces, and the rows that cannot be read."""
    cells: list[Any] = []
    faults = {}
    for piece in pieces_of(InputFile(path), size, inputs):
        faults.update({at + len(cells): why for at, why in piece.faults.items()})
        cells += piece.frame.iloc[:, 0].tolist()
    return cells, faults


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_later_row_of_csv_with_a_value_too_many_fails_alone(tmp_path, form, size):
    name, separator, encoding = form
    lines = ["ä,b", *(f'"{at}","ü\n"' for at in range(5)), "", "5,x,y", *["6,z"] * 3, "7,,", "8,"]
    text = "\r\n".join(lines).replace(",", separator)
    path = write(tmp_path, name, text, encoding)

    cells, faults = read(path, size, [{"name": "ä", "datatype": "FP64"}])

    message = "expected 2 values, one for each column of the first line, got 3"
    assert faults == {5: message, 9: message}
    assert [cell for at, cell in enumerate(cells) if at not in faults] == [*range(5), 6, 6, 6, 8]


def test_a_row_of_one_column_that_is_empty_in_quotation_marks_counts(tmp_path):
    path = write(tmp_path, "rows.csv", 'a\n1\n""\n\n2,3\n4\n')

    cells, faults = read(path, 10, [{"name": "a", "datatype": "BYTES"}])

    assert list(faults) == [2]
    assert (cells[0], cells[3]) == ("1", "4")


def test_a_row_that_cannot_be_read_after_a_bad_one_ends_the_reading(tmp_path):
    path = write(tmp_path, "rows.csv", 'a,b\n1,2\n3,4,5\n"6,7\n')

    with pytest.raises(ConfigurationError, match=r"rows\.csv: "):
        read(path, 10)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_digits_beyond_all_floats_stay_text_and_infinities_do_not(tmp_path, size):
    cells = ["1", "inf", "2.5", "-1e400", "3", "-Infinity"]
    path = write(tmp_path, "rows.csv", "a,b\n" + "".join(f"{cell},x\n" for cell in cells))
    inputs = [{"name": "a", "datatype": "FP64"}, {"name": "b", "datatype": "BYTES"}]

    frames = [piece.frame for piece in pieces_of(InputFile(path), size, inputs)]

    found = [fitted(frame, inputs, from_text=True) for frame in frames]
    places = [start + at for start, each in zip(range(0, 6, size), found, strict=True)
              for at in each.faults]  # fmt: skip
    values = [value for each in found for value in each.columns["a"].tolist()]
    assert places == [3]
    assert values == [1, math.inf, 2.5, 0, 3, -math.inf]
