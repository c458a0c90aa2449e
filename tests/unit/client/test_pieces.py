"""The rows of files in the forms that people have them in."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

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
def test_a_csv_file_of_rows_with_a_value_too_many_is_refused(tmp_path, form, quote):
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
