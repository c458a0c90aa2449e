from __future__ import annotations

import base64
import io
import json
import struct
import sys
import zlib

import numpy as np
import pytest

from headrace.codecs import decode_input, decode_request
from headrace.codecs.array import tensor_of
from headrace.codecs.huggingface_content import encode_rows, json_list
from headrace.codecs.image import to_text
from headrace.errors import InvalidInput, TooLarge, UnsupportedMedia
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor, pack_bytes

Image = pytest.importorskip("PIL.Image")

pytestmark = pytest.mark.runtimes

RED = Image.new("RGB", (3, 2), "red")


def png(image=RED):
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def elements(content_type, *values):
    return Tensor("x", "BYTES", [len(values)], pack_bytes(values), {"content_type": content_type})


@pytest.mark.parametrize(
    "element",
    [
        pytest.param(base64.b64encode(png()), id="base64"),
        pytest.param(png(), id="file"),
        pytest.param(to_text(RED).encode(), id="data URL"),
    ],
)
@pytest.mark.parametrize("content_type", ["pillow_image", "image"])
def test_an_image_is_sent_as_base64_as_a_file_or_as_a_data_url(content_type, element):
    (image,) = decode_input(elements(content_type, element))
    assert (image.size, image.getpixel((0, 0))) == ((3, 2), (255, 0, 0))


def test_a_request_may_say_that_its_input_is_images():
    tensor = Tensor("x", "BYTES", [1], pack_bytes([base64.b64encode(png())]))
    (image,) = decode_request(InferenceRequest([tensor]), "image")
    assert image.size == (3, 2)


def test_an_element_that_is_not_an_image_is_refused_by_its_index():
    tensor = elements("image", png(), b"GIF89a broken")
    with pytest.raises(InvalidInput, match="input 'x', row 1 is not an image"):
        decode_input(tensor)


def test_a_small_file_of_many_pixels_is_refused_before_it_is_unpacked():
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(TooLarge, match="9000 x 9000 is over"):
        decode_input(elements("image", bomb))


def test_postscript_is_not_run():
    with pytest.raises(InvalidInput, match="is not an image"):
        decode_input(elements("image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"))


def test_numbers_are_not_images():
    tensor = tensor_of("x", np.zeros(3))
    tensor.parameters = {"content_type": "image"}
    with pytest.raises(InvalidInput, match="input 'x': expected datatype BYTES, got FP64"):
        decode_input(tensor)


def test_without_pillow_the_answer_says_what_to_install(monkeypatch):
    tensor = elements("image", png())
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UnsupportedMedia, match="pip install pillow"):
        decode_input(tensor)


def test_images_inside_json_are_found_and_survive_both_ways():
    row = {"question": "red?", "pictures": [RED]}
    found = json_list(encode_rows([row], "output"))
    assert found[0]["question"] == "red?"
    assert found[0]["pictures"][0].tobytes() == RED.tobytes()


def test_json_is_sent_alone_or_as_a_list():
    assert decode_input(elements("hg_json", b'{"a":1}')) == {"a": 1}
    assert decode_input(elements("hg_jsonlist", b'{"a":1}', b"[2]")) == [{"a": 1}, [2]]
    with pytest.raises(InvalidInput, match="'hg_json' takes one element, got 2"):
        decode_input(elements("hg_json", b"1", b"2"))


def test_broken_json_is_refused_by_its_index():
    with pytest.raises(InvalidInput, match="input 'x', row 1: expected JSON"):
        decode_input(elements("hg_jsonlist", json.dumps("ok").encode(), b"{"))


def test_rows_of_an_array_become_a_list_of_arrays():
    tensor = tensor_of("x", np.arange(6).reshape(2, 3))
    tensor.parameters = {"content_type": "nplist"}
    assert [row.tolist() for row in decode_input(tensor)] == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("value", [5, 0.5, True, "word"], ids=["int", "float", "bool", "text"])
def test_raw_is_the_only_element(value):
    array = np.array([value], object if isinstance(value, str) else None)
    tensor = tensor_of("x", array)
    tensor.parameters = {"content_type": "raw"}
    assert decode_input(tensor) == value
