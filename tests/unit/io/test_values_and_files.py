"""JSON, text, images, files and forms: what endpoints get, and what answers are."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from pydantic import BaseModel

from headrace.errors import BadModelOutput, InvalidInput, UnsupportedMedia
from headrace.io import JSON, File, Image, Multipart, NumpyNdarray, Text
from headrace.protocol.multipart_form import parts


class Grape(BaseModel):
    name: str


class Wine(BaseModel):
    sugar: float
    grapes: list[Grape] = []


class Order(msgspec.Struct):
    number: int
    note: str = ""


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


def picture(format="PNG", mode="RGB"):
    buffer = io.BytesIO()
    Pillow.new(mode, (3, 2)).save(buffer, format)
    return buffer.getvalue()


def test_a_model_is_what_the_endpoint_gets():
    assert JSON(Wine).decode(b'{"sugar": 1}', {}) == Wine(sugar=1)
    assert JSON(Order).decode(b'{"number": 1}', {}) == Order(1)
    assert JSON(Point).decode(b'{"x": 1, "y": 2}', {}) == Point(1, 2.0)
    assert JSON(Wine, validate_json=False).decode(b'{"z": 1}', {}) == {"z": 1}


@pytest.mark.parametrize(
    ("model", "body", "words"),
    [
        (Order, b'{"number": "a"}', "the body is not a Order: Expected `int`, got `str`"),
        (Point, b'{"y": 1}', r"the body at \.x is missing"),
        (Point, b'{"x": 1, "z": 1}', r"the body at \.z is not expected"),
        (Point, b"[]", "expected object, got array"),
        (Wine, b'{"sugar": 1, "grapes": [{}]}', r"grapes\.0\.name: Field required"),
    ],
)
def test_a_value_that_does_not_match_its_model_is_refused_by_its_place(model, body, words):
    with pytest.raises(InvalidInput, match=words):
        JSON(model).decode(body, {})


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ({"a": np.arange(2), "b": np.float32(0.5)}, b'{"a":[0,1],"b":0.5}'),
        (Wine(sugar=1, grapes=[Grape(name="x")]), b'{"sugar":1.0,"grapes":[{"name":"x"}]}'),
        (Order(1), b'{"number":1,"note":""}'),
        ([Point(1)], b'[{"x":1,"y":0.0}]'),
        (pd.DataFrame({"a": [1]}), b'[{"a":1}]'),
        (Colour.RED, b'"red"'),
        (dt.date(2024, 2, 29), b'"2024-02-29"'),
        (float("nan"), b"null"),
        ("é", '"é"'.encode()),
        (None, b"null"),
    ],
)
def test_answers_of_common_types_have_a_form_in_json(value, body):
    assert JSON().encode(value).body == body


def test_an_answer_without_a_form_is_the_endpoints_fault():
    with pytest.raises(BadModelOutput):
        JSON().encode(object())


def test_a_json_encoder_of_ones_own_is_used():
    class Encoder(json.JSONEncoder):
        def default(self, o):
            return "own"

    assert JSON(json_encoder=Encoder).encode([object()]).body == b'["own"]'
    with pytest.raises(BadModelOutput):
        JSON(json_encoder=Encoder).encode(float("nan"))


def test_the_schemas_of_a_model_are_components_that_its_schema_refers_to():
    descriptor = JSON.from_sample(Wine(sugar=1.5))

    content = descriptor.openapi_request()["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/Wine"}
    assert content["example"] == {"sugar": 1.5, "grapes": []}
    components = descriptor.openapi_components()
    assert components["Wine"]["properties"]["grapes"]["items"] == {
        "$ref": "#/components/schemas/Grape"
    }
    assert "Grape" in components
    assert JSON(Order).openapi_components()["Order"]["required"] == ["number"]
    assert JSON(list[Point]).openapi_components()["Point"]["required"] == ["x"]


@given(st.text())
def test_text_comes_back_unchanged(text):
    encoded = Text().encode(text)

    assert Text().decode(encoded.body, {"content-type": encoded.content_type}) == text


def test_text_is_not_read_as_json_and_answers_must_be_text():
    assert Text().decode(b'"a"', {"content-type": "application/json"}) == '"a"'
    for value in (b"a", 1, "\ud800"):
        with pytest.raises(BadModelOutput):
            Text().encode(value)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_an_image_keeps_the_mode_of_its_file(format):
    body = picture(format, "L")

    image = Image().decode(body, {"content-type": f"image/{format.lower()}"})
    assert (image.size, image.mode) == (Pillow.open(io.BytesIO(body)).size, image.mode)
    assert Image().decode(body, {}).size == (3, 2)


def test_the_image_of_a_form_is_its_only_file_of_an_accepted_type():
    form = Multipart(a=Image(mime_type="image/png"), b=Image(mime_type="image/gif"))
    body, content_type, _ = form.encode(
        {"a": Pillow.new("L", (3, 2)), "b": Pillow.new("L", (1, 1))}
    )

    image = Image(allowed_mime_types=["image/png"]).decode(body, {"content-type": content_type})
    assert image.size == (3, 2)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 3, 3), "uint8"),
        np.zeros((2, 3), "uint8"),
        Pillow.new("RGBA", (3, 2)),
        Pillow.new("P", (3, 2)),
    ],
)
def test_an_image_or_array_is_sent_in_the_format_of_the_description(value):
    encoded = Image().encode(value)

    assert Pillow.open(io.BytesIO(encoded.body)).format == "JPEG"
    assert encoded.content_type == "image/jpeg"
    assert encoded.headers == {"content-disposition": 'attachment; filename="output.jpeg"'}


@pytest.mark.parametrize("value", [None, b"", np.zeros((2, 3, 3)), np.zeros((2, 3, 7), "uint8")])
def test_what_is_not_an_image_is_the_endpoints_fault(value):
    with pytest.raises(BadModelOutput):
        Image().encode(value)


def test_the_types_of_an_image_are_checked_when_it_is_described():
    assert Image.from_sample(picture("GIF")).content_type == "image/gif"
    for arguments in (
        {"pilmode": "X"},
        {"mime_type": "image/svg+xml"},
        {"allowed_mime_types": "a"},
    ):
        with pytest.raises(ValueError, match="expected one of"):
            Image(**arguments)


def test_a_file_has_the_name_and_type_that_the_client_gave():
    body = (
        b'--XX\r\nContent-Disposition: form-data; name="f"; filename="C:\\dir\\a.pdf"\r\n'
        b"Content-Type: application/pdf\r\n\r\nabc\r\n--XX--\r\n"
    )

    file = File().decode(body, {"content-type": "multipart/form-data; boundary=XX"})
    assert (file.read(), file.name, file.content_type) == (b"abc", "a.pdf", "application/pdf")
    raw = File().decode(b"abc", {})
    assert (raw.read(), raw.name, raw.content_type) == (b"abc", "body", "application/octet-stream")


def test_a_file_is_given_as_it_was_asked_for():
    assert File("bytes").decode(b"\xff", {}) == b"\xff"
    assert File("textio").decode("é".encode(), {}).read() == "é"
    path_file = File("path")
    path = path_file.decode(b"abc", {"x-filename": "../../etc/data.csv"})
    assert (path.read_bytes(), path.name) == (b"abc", "upload.csv")
    path_file.release(path)
    assert not path.parent.exists()


def test_answers_are_bytes_open_files_or_paths(tmp_path):
    path = tmp_path / "réport.csv"
    path.write_bytes(b"a")

    assert File().encode(b"a").body == File().encode(io.BytesIO(b"a")).body == b"a"
    assert File(mime_type="application/pdf").encode(b"a").content_type == "application/pdf"
    sent = File().encode(path)
    assert (sent.body, sent.content_type) == (b"a", "text/csv")
    assert sent.headers["content-disposition"] == "attachment; filename*=utf-8''r%C3%A9port.csv"
    with pytest.raises(BadModelOutput, match="returned int, expected bytes"):
        File().encode(1)


def test_a_file_without_the_wanted_type_is_refused():
    with pytest.raises(UnsupportedMedia):
        File.from_sample("a.pdf").decode(b"a", {"content-type": "text/plain"})


def test_a_form_comes_back_from_what_it_encodes():
    form = Multipart(x=NumpyNdarray(), note=Text(), data=JSON(), picture=Image())
    values = {
        "x": np.arange(3),
        "note": "é",
        "data": {"a": None},
        "picture": Pillow.new("L", (3, 2)),
    }
    encoded = form.encode(values)

    found = form.decode(encoded.body, {"content-type": encoded.content_type})
    assert (found["x"].tolist(), found["note"], found["data"]) == ([0, 1, 2], "é", {"a": None})
    assert found["picture"].size == (3, 2)
    assert [part.is_file for part in parts(encoded.body, encoded.content_type)] == [
        False, False, False, True,
    ]  # fmt: skip


def test_a_form_releases_its_files_also_if_another_part_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    form = Multipart(file=File("path"), k=JSON(int))
    encoded = Multipart(file=File(), k=Text()).encode({"file": b"a", "k": "x"})

    with pytest.raises(InvalidInput, match="part 'k' is not valid JSON"):
        form.decode(encoded.body, {"content-type": encoded.content_type})
    assert list(tmp_path.iterdir()) == []


def test_a_form_is_described_by_its_fields_and_may_not_be_nested():
    form = Multipart.from_sample({"x": np.ones(2), "note": "a", "wine": Wine(sugar=1), "f": b"a"})

    assert [type(each).__name__ for each in form.fields.values()] == [
        "NumpyNdarray", "Text", "JSON", "File",
    ]  # fmt: skip
    schema = form.openapi_request()["content"]["multipart/form-data"]["schema"]
    assert schema["required"] == ["x", "note", "wine", "f"]
    assert "Wine" in form.openapi_components()
    with pytest.raises(TypeError, match="'a': a Multipart cannot be inside another"):
        Multipart(a=form)
    with pytest.raises(TypeError, match="'a': expected a descriptor, got 'x'"):
        Multipart(a="x")
    with pytest.raises(BadModelOutput, match="returned 'x', expected 'f', 'note', 'wine', 'x'"):
        form.encode({"x": 1})


def test_a_sample_file_need_not_exist():
    assert File.from_sample(Path("missing.png")).mime_type == "image/png"


def test_a_form_of_curl_whose_json_file_has_no_type_of_its_own_is_read():
    body = (
        b'--X\r\nContent-Disposition: form-data; name="data"; filename="a.json"\r\n'
        b'Content-Type: application/octet-stream\r\n\r\n{"a": 1}\r\n'
        b'--X\r\nContent-Disposition: form-data; name="array"; filename="b.json"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n[1, 2]\r\n--X--\r\n"
    )
    form = Multipart(data=JSON(), array=NumpyNdarray())

    found = form.decode(body, {"content-type": "multipart/form-data; boundary=X"})

    assert (found["data"], found["array"].tolist()) == ({"a": 1}, [1, 2])


def test_the_encoding_of_a_file_is_for_the_endpoint_to_know():
    headers = {"content-type": "text/csv; charset=latin-1"}

    assert File("bytes", "text/csv").decode(b"\xe9", headers) == b"\xe9"


def test_the_wrong_name_that_many_have_for_jpeg_is_read():
    assert Image().decode(picture("JPEG"), {"content-type": "image/jpg"}).format == "JPEG"
