"""What each descriptor refuses: the case, the status of the answer, and its words."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow
from pydantic import BaseModel

from headrace.adapters.error_bodies import open_inference_error
from headrace.errors import HeadraceError
from headrace.io import (
    JSON,
    Arguments,
    File,
    Image,
    Multipart,
    NumpyNdarray,
    PandasDataFrame,
    PandasSeries,
    Text,
)


class Wine(BaseModel):
    sugar: float
    color: str = "red"


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def png(width: int, height: int) -> bytes:
    """A PNG of this size whose pixels are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def gif() -> bytes:
    buffer = io.BytesIO()
    Pillow.new("L", (1, 1)).save(buffer, "GIF")
    return buffer.getvalue()


def form(*parts: tuple[str, bytes], end: bytes = b"--XX--\r\n") -> bytes:
    heads = [
        (f"--XX\r\nContent-Disposition: form-data; {head}\r\n\r\n", data) for head, data in parts
    ]
    return b"".join(head.encode() + data + b"\r\n" for head, data in heads) + end


FORM = "multipart/form-data; boundary=XX"
HUGE_NPY = npy(np.ones(1)).replace(b"(1,), }         ", b"(2147483647,), }")
ARRAY = NumpyNdarray(dtype="float32", enforce_dtype=True, shape=(-1, 2), enforce_shape=True)
WHOLE = NumpyNdarray(dtype="int8", enforce_dtype=True)
PLAIN = NumpyNdarray()
FRAME = PandasDataFrame(columns=["a", "b"], dtype={"a": "int64"}, enforce_dtype=True)
LOOSE = PandasDataFrame()
TWO = PandasDataFrame(shape=(-1, 2), enforce_shape=True)
RENAMED = PandasDataFrame(columns=["a", "b"], apply_column_names=True)
SPLIT = PandasDataFrame(orient="split")
SERIES = PandasSeries(dtype="int64", enforce_dtype=True, shape=(2,), enforce_shape=True)
MODEL = JSON(Wine)
NUMBERS = JSON(dict[str, list[int]])
TEXT = Text()
PICTURE = Image(allowed_mime_types=["image/png"])
PDF = File(mime_type="application/pdf")
PAIR = Multipart(picture=PICTURE, note=Text())
NAMED = Arguments({"x": ARRAY, "k": JSON(int)}, optional=["k"])
CALL = Arguments({})

PARQUET = "application/vnd.apache.parquet"
HTML, OCTETS, JSON_TYPE = "text/html", "application/octet-stream", "application/json"
NOTE, PICTURE_PART = 'name="note"', 'name="picture"; filename="p.png"'
BOMB = "9000 x 9000 is over 50000000 pixels"

OWN_KEYS = json.dumps([{f"key {number}": 1} for number in range(5000)]).encode()
OWN_KEYS_BY_LABEL = json.dumps(
    {f"row {number}": {f"key {number}": 1} for number in range(5000)}
).encode()
CASES: list[tuple[str, Any, str, bytes, int, str]] = [
    # Media types.
    ("array, media type", ARRAY, HTML, b"[[1,2]]", 415, "expected Content-Type application/json or"),
    ("frame, media type", FRAME, "image/png", b"[]", 415, "got 'image/png'"),
    ("series, media type", SERIES, "text/csv", b"1", 415, "got 'text/csv'"),
    ("json, media type", MODEL, HTML, b"{}", 415, "expected Content-Type application/json, got"),
    ("text, media type", TEXT, "image/png", b"a", 415, "expected Content-Type text/* or"),
    ("image, media type", PICTURE, HTML, gif(), 415, "expected Content-Type image/png or"),
    ("image, curl's default", PICTURE, "application/x-www-form-urlencoded", gif(), 415, "form-urlenc"),
    ("file, media type", PDF, HTML, b"a", 415, "expected Content-Type application/pdf, got"),
    ("file, no media type", PDF, "", b"a", 415, "got none"),
    ("form, media type", PAIR, JSON_TYPE, b"{}", 415, "expected Content-Type multipart/form-data"),
    ("arguments, media type", NAMED, HTML, b"{}", 415, "got 'text/html'"),
    ("array, charset", ARRAY, "application/json; charset=utf-16", b"[]", 415, "charset utf-16"),
    ("text file, charset", File("textio"), "text/csv; charset=latin1", b"a", 415, "charset latin1"),
    ("text, charset", TEXT, 'text/plain; charset="latin1"', b"a", 415, "charset latin1 is not read"),
    ("image, other format inside", PICTURE, "image/png", gif(), 415, "got a file of image/gif"),
    # Nothing.
    ("array, empty", ARRAY, "", b"", 400, "the body is empty, expected JSON"),
    ("array, empty file", ARRAY, "application/vnd.numpy", b"", 400, "is not a .npy file"),
    ("array, nothing named", ARRAY, OCTETS, b"", 400, "the body is empty, expected JSON"),
    ("frame, empty", FRAME, "", b"", 400, "the body is empty, expected JSON"),
    ("frame, empty CSV", FRAME, "text/csv", b" \n", 400, "empty, expected CSV with a line of column"),
    ("frame, empty Parquet", FRAME, PARQUET, b"", 400, "the body is empty, expected a Parquet file"),
    ("series, empty", SERIES, "", b"", 400, "the body is empty, expected JSON"),
    ("json, empty", MODEL, "", b"", 400, "the body is empty, expected JSON"),
    ("image, empty", PICTURE, "image/png", b"", 400, "the body is empty, expected an image file"),
    ("form, empty", PAIR, FORM, b"", 400, "ends before its last boundary"),
    ("arguments, empty", NAMED, "", b"", 400, "the body is empty, expected JSON"),
    # Broken JSON, and where.
    ("array, broken", ARRAY, "", b"[[1,2],\n [3,,4]]", 400, "line 2, column 5 (byte 12)"),
    ("array, broken after a mark", ARRAY, "", b"\xef\xbb\xbf[1,,2]", 400, "(byte 6)"),
    ("array, UTF-16", ARRAY, "", "[1]".encode("utf-16"), 400, "not valid UTF-8 at byte 0"),
    ("array, JSON of nothing named", ARRAY, OCTETS, b"junk", 400, "not valid JSON: the fault is at line 1"),
    ("array, cut short", ARRAY, "", b"[[1,2],\n", 400, "it ends too early, at line 2, column 1 (byte 8)"),
    ("array, two texts", ARRAY, "", b"[] []", 400, "the fault is at line 1, column 4 (byte 3)"),
    ("frame, broken", FRAME, "", b'[{"\xc3\xa9": x}]', 400, "line 1, column 8 (byte 8)"),
    ("series, broken", SERIES, "", b"[1 2]", 400, "line 1, column 4 (byte 3)"),
    ("json, broken", MODEL, "", b"{'sugar': 1}", 400, "line 1, column 2 (byte 1)"),
    ("arguments, broken", NAMED, "", b'{"x": }', 400, "line 1, column 7 (byte 6)"),
    ("array, nested", ARRAY, "", b"[" * 100_000, 400, "the body is nested too deeply"),
    ("json, nested", JSON(), "", b'{"a":' * 100_000, 400, "the body is nested too deeply"),
    # Not UTF-8.
    ("array, UTF-8", ARRAY, "", b'["\xff"]', 400, "the body is not valid UTF-8 at byte 2"),
    ("frame, UTF-8", FRAME, "text/csv", b"a,b\n1,\xe9\n", 400, "not valid UTF-8 at byte 6"),
    ("json, UTF-8", MODEL, "", b"\xff", 400, "the body is not valid UTF-8 at byte 0"),
    ("text, UTF-8", TEXT, "", b"caf\xe9", 400, "the body is not valid UTF-8 at byte 3"),
    ("text file, UTF-8", File("textio"), "", b"\xff", 400, "not valid UTF-8 at byte 0"),
    # Numbers.
    ("array, NaN", ARRAY, "", b"[[1,\nNaN]]", 400, "NaN and Infinity are not JSON"),
    ("array, NaN has a place", ARRAY, "", b'[["NaN",-Infinity]]', 400, "line 1, column 9 (byte 8)"),
    ("frame, NaN", LOOSE, "", b'[{"a": NaN}]', 400, "found at line 1, column 8 (byte 7)"),
    ("json, NaN", JSON(), "", b'{"a": Infinity}', 400, "found at line 1, column 7 (byte 6)"),
    ("array, exponent", ARRAY, "", b"[[1, 1e999]]", 400, "out of range of float64, at line 1, column 6"),
    ("frame, exponent", LOOSE, "", b'[{"a": -1e999}]', 400, "out of range of float64, at line 1"),
    ("json, exponent", JSON(), "", b"1E+400", 400, "out of range of float64"),
    ("array, digits", PLAIN, "", b"[" + b"9" * 30 + b"]", 400, "row 0: expected an integer of 64 bits"),
    ("array, thousands of digits", PLAIN, "", b"[" + b"9" * 9000 + b"]", 400, "too many digits"),
    ("array, float of digits", PLAIN, "", b"[" + b"9" * 400 + b".0]", 400, "out of range of float64"),
    ("array, digits and exponent", PLAIN, "", b"[" + b"9" * 250 + b"e99]", 400, "out of range of"),
    ("frame, digits", LOOSE, "", b'[{"a": ' + b"9" * 30 + b"}]", 400, "column 'a': an integer is out"),
    ("array, float32", ARRAY, "", b"[[1, 1e39]]", 400, "row 0, column 1: expected FP32"),
    ("array, int8", WHOLE, "", b"[1, 300]", 400, "row 1: expected INT8, -128 to 127"),
    ("array, integer beside a fraction", PLAIN, "", b"[[1, 2], [0.5, 9007199254740993]]", 400, "the body, row 1, column 1: an integer that a float does not hold exactly"),
    ("array, integer beside a negative one", PLAIN, "", b"[-1, 9223372036854775809]", 400, "row 1: an integer that a float"),
    ("array, integer beside null", PLAIN, "", b"[null, 9007199254740993]", 400, "row 1: an integer that a float does not"),
    ("array, whole numbers by a float", NumpyNdarray("int64"), "", b"[1.0, 9007199254740993]", 400, "row 1: an integer that a float"),
    ("frame, integer beside null", LOOSE, "", b'[{"a": null}, {"a": 9007199254740993}]', 400, "column 'a', row 1: an integer that a float does not hold exactly"),
    ("split, integer beside a fraction", SPLIT, "", b'{"columns": ["a"], "data": [[9007199254740993], [0.5]]}', 400, "column 'a', row 0: an integer"),
    ("series, integer beside null", PandasSeries(), "", b"[null, 9007199254740993]", 400, "row 1: an integer that a float does not"),
    ("array, text beside a number", PLAIN, "", b'[[1, "b"]]', 400, "the body, row 0, column 1: expected a number, as the first element is one, got a string"),
    ("array, number beside text", PLAIN, "", b'["b", 2]', 400, "row 1: expected a string, as the first element is one, got a number"),
    ("array, number beside a boolean", PLAIN, "", b"[[true, 2]]", 400, "row 0, column 1: expected a boolean, as the first element is one, got a number"),
    ("array, boolean beside a number", ARRAY, "", b"[[0.5, true]]", 400, "row 0, column 1: expected a number, as the first element is one, got a boolean"),
    ("array, boolean beside null", PLAIN, "", b"[null, true]", 400, "row 1: expected a number beside null, got true or false"),
    ("frame, a row's own keys", LOOSE, "", OWN_KEYS, 400, "5,000 objects with 5,000 different keys are a table with 24,995,000 absent"),
    ("index, a row's own keys", PandasDataFrame(orient="index"), "", OWN_KEYS_BY_LABEL, 400, "24,995,000 absent cells"),
    ("columns, own labels", PandasDataFrame(orient="columns"), "", OWN_KEYS_BY_LABEL, 400, "24,995,000 absent cells"),
    # Shapes.
    ("array, shape", ARRAY, "", b"[[1,2,3]]", 400, "shape (*, 2), got (1, 3); the endpoint has enforce_s"),
    ("array, dimensions", ARRAY, "", b"[1,2]", 400, "expected an array of shape (*, 2), got (2)"),
    ("array, object", ARRAY, "", b'{"a": 1}', 400, "the body: expected an array, got object"),
    ("array, null", ARRAY, "", b"null", 400, "the body: expected an array, got null"),
    ("array, ragged", PLAIN, "", b"[[1,2],[3]]", 400, "lists differ in length: [1] has 1 elements, others 2"),
    ("array, ragged inside", PLAIN, "", b"[[[1]],[[1,2]]]", 400, "[1][0] has 2 elements, others 1"),
    ("array, mixed depth", PLAIN, "", b"[[1],2]", 400, "[1] is a single value, expected a list of 1"),
    ("array, objects inside", PLAIN, "", b'[{"a": 1}]', 400, "row 0: expected a number, got an object"),
    ("array, file of a shape", ARRAY, OCTETS, npy(np.ones(2)), 400, "shape (*, 2), got (2)"),
    ("frame, shape", TWO, "", b'[{"a": 1}]', 400, "expected 2 columns, got 1; the endpoint has enforce_s"),
    ("frame, names", RENAMED, "", b"[[1]]", 400, "expected 2 columns, got 1; the endpoint has apply_col"),
    ("frame, ragged", LOOSE, "", b"[[1,2],[3]]", 400, "row 1 has 1 values, row 0 has 2"),
    ("frame, mixed rows", LOOSE, "", b'[{"a": 1}, 2]', 400, "row 1: expected an object, got integer"),
    ("frame, single values", LOOSE, "", b"[1, 2]", 400, "row 0: expected an object, got integer"),
    ("frame, one row", LOOSE, "", b'{"a": 1, "b": "x"}', 400, "or an object of columns, got one row; put"),
    ("frame, null", LOOSE, "", b"null", 400, "expected an array of rows, got null"),
    ("frame, not rows", LOOSE, "", b'"a"', 400, "expected an array of rows, got string"),
    ("frame, CSV fields", LOOSE, "text/csv", b"a,b\n1,2\n1,2,3\n", 400, "CSV: row 1 (line 3): expected 2 values"),
    ("frame, CSV columns without names", LOOSE, "text/csv", b"a,b\n1,2,3\n", 400, "row 0 (line 2): expected 2 values"),
    ("frame, CSV columns that count up", LOOSE, "text/csv", b"a,b\n0,2,3\n1,2,3\n", 400, "row 0 (line 2): expected 2 values"),
    ("split, not an object", SPLIT, "", b"[]", 400, "the orient 'split' is an object, got array"),
    ("split, member", SPLIT, "", b'{"columns": []}', 400, "needs 'data', which is missing"),
    ("split, rows", SPLIT, "", b'{"columns": ["a"], "data": [[1,2]]}', 400, "2 values for 1 columns"),
    ("split, data", SPLIT, "", b'{"columns": ["a"], "data": 1}', 400, "not a table in the orient 'split'"),
    ("split, names", SPLIT, "", b'{"columns": ["a","a"], "data": [[1,2]]}', 400, "the same name"),
    ("series, shape", SERIES, "", b"[1]", 400, "expected 2 values, got 1; the endpoint has enforce_shape"),
    ("series, null", SERIES, "", b"null", 400, "the body: expected an array, got null"),
    ("series, kind", SERIES, "", b"1", 400, "the body: expected an array, got integer"),
    # Types.
    ("array, text", ARRAY, "", b'[["a","b"]]', 400, "elements of float32, got <U1: text is not float32"),
    ("array, fractions", WHOLE, "", b"[1.5]", 400, "row 0: expected INT8, got a number that is not whole"),
    ("array, missing", WHOLE, "", b"[null, 1]", 400, "row 0: expected INT8, got NaN or infinity"),
    ("frame, text", FRAME, "", b'[{"a": "x", "b": 1}]', 400, "column 'a': expected int64, got"),
    ("frame, fractions", FRAME, "", b'[{"a": 1.5, "b": 1}]', 400, "row 0: expected INT64, got a number that is not whole"),
    ("series, text", SERIES, "", b'["1", "2"]', 400, "expected int64, got"),
    ("json, type", MODEL, "", b'{"sugar": "much"}', 400, "the body is not a Wine: sugar: Input should be"),
    ("json, member", MODEL, "", b"{}", 400, "the body is not a Wine: sugar: Field required"),
    ("json, array", MODEL, "", b"[]", 400, "the body is not a Wine"),
    ("json, place", NUMBERS, "", b'{"a": [1, "b"]}', 400, "the body at .a[1]: expected integer, got string"),
    ("json, boolean", JSON(int), "", b"true", 400, "the body: expected integer, got boolean"),
    ("arguments, type", NAMED, "", b'{"x": [[1,2]], "k": "a"}', 400, "argument 'k': expected integer"),
    ("arguments, shape", NAMED, "", b'{"x": [1]}', 400, "argument 'x': expected an array of shape (*, 2)"),
    # Names.
    ("frame, columns", FRAME, "", b'[{"a": 1, "c": 2}]', 400, "columns 'b' are missing, got 'a', 'c'"),
    ("frame, CSV columns", FRAME, "text/csv", b"a\n1\n", 400, "columns 'b' are missing, got 'a'"),
    ("arguments, missing", NAMED, "", b'{"k": 1}', 400, "the body: argument 'x' missing, got 'k'"),
    ("arguments, too many", NAMED, "", b'{"x": [], "y": 1}', 400, "argument 'y' not expected, expected 'x'"),
    ("arguments, array", NAMED, "", b"[]", 400, "expected an object with 'x', 'k', got array"),
    ("arguments, none", CALL, "", b'{"a": 1}', 400, "argument 'a' not expected, expected none"),
    # Files.
    ("npy, damaged", ARRAY, OCTETS, b"\x93NUMPY\x01\x00\xff\xff", 400, "not a .npy file, as numpy.save"),
    ("npy, cut short", ARRAY, OCTETS, npy(np.ones((2, 2)))[:-1], 400, "announces 4 elements of float64"),
    ("npy, huge", ARRAY, OCTETS, HUGE_NPY, 400, "announces 2147483647 elements"),
    ("npy, pickle", ARRAY, OCTETS, npy(np.array([{}]), allow_pickle=True), 400, "pickled Python objects"),
    ("parquet, not recognised", LOOSE, OCTETS, b"\0\0", 400, "the body is not valid JSON"),
    ("parquet, damaged", LOOSE, OCTETS, b"PAR1 not", 400, "the body is not a Parquet file"),
    ("parquet, columns", FRAME, OCTETS, parquet(pd.DataFrame({"a": [1]})), 400, "columns 'b' are missing"),
    ("image, damaged", PICTURE, "image/png", b"\x89PNG\r\n", 400, "the body is not an image, one of PNG"),
    ("image, bomb", PICTURE, "image/png", png(9000, 9000), 413, BOMB),
    ("image, warned bomb", PICTURE, "image/png", png(10000, 10000), 413, "is over 50000000 pixels"),
    ("image, refused bomb", PICTURE, "image/png", png(60000, 60000), 413, "is over 50000000 pixels"),
    ("image, form without", PICTURE, FORM, form((NOTE, b"a")), 400, "got 0 of 0 files; their types: none"),
    ("file, form with two", File(), FORM, form((PICTURE_PART, b"a"), (PICTURE_PART, b"b")), 400, "got 2 of 2"),
    # Forms.
    ("form, part missing", PAIR, FORM, form((NOTE, b"a")), 400, "part 'picture' missing, got 'note'"),
    ("form, part too many", PAIR, FORM, form((NOTE, b"a"), ('name="x"', b"")), 400, "part 'x' not expected"),
    ("form, part twice", PAIR, FORM, form((NOTE, b"a"), (NOTE, b"a")), 400, "several parts 'note'"),
    ("form, no boundary", PAIR, "multipart/form-data", form((NOTE, b"a")), 400, "needs its boundary"),
    ("form, cut short", PAIR, FORM, form((NOTE, b"a"), end=b""), 400, "ends before its last boundary"),
    ("form, part's bomb", PAIR, FORM, form((NOTE, b"a"), (PICTURE_PART, png(9000, 9000))), 413, f"part 'picture': {BOMB}"),
    ("form, part's text", PAIR, FORM, form((NOTE, b"\xff"), (PICTURE_PART, png(1, 1))), 400, "part 'note' is not valid UTF-8 at byte 0"),
    ("form, part's encoding", PAIR, FORM, form((f'{NOTE}\r\nContent-Transfer-Encoding: base64', b"YQ=="), (PICTURE_PART, b"")), 415, "send it unencoded"),
    ("form, thousand parts", PAIR, FORM, form(*[(NOTE, b"")] * 1000), 400, "more than 100 parts"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("descriptor", "content_type", "body", "status", "words"),
    [pytest.param(*case[1:], id=case[0]) for case in CASES],
)
def test_bad_input_is_refused_by_its_status_and_in_words_that_help(
    descriptor, content_type, body, status, words
):
    with pytest.raises(HeadraceError) as caught:
        descriptor.decode(body, {"content-type": content_type})

    assert words in caught.value.message
    assert open_inference_error(caught.value)[0] == status
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500
