"""Which part of a form is the payload, and which forms hold none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters.multipart import payload
from headrace.errors import InvalidInput, UnsupportedMedia
from headrace.protocol import multipart_form
from headrace.protocol.multipart_form import MOST_PARTS

TYPE = "multipart/form-data; boundary=XX"
FILE = b'Content-Disposition: form-data; name="f"; filename="a.png"\r\nContent-Type: image/png'
FIELD = b'Content-Disposition: form-data; name="note"'


def form(*parts):
    body = b"".join(b"--XX\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + b"--XX--\r\n"


@given(st.binary())
def test_the_bytes_of_a_file_come_back_unchanged(data):
    if b"\r\n--XX" not in b"\r\n" + data:
        assert payload(form((FILE, data)), TYPE) == (data, "image/png")


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("piece", [b"\r", b"\r\n", b"\r\n--", b"\r\n--X", b"\r\n--XY", b"--XX--"])
def test_a_form_that_is_read_in_steps_loses_nothing_between_them(step, piece, monkeypatch):
    monkeypatch.setattr(multipart_form, "STEP", step)
    data = piece * 9

    assert payload(form((FILE, data), (FIELD, b"a")), TYPE) == (data, "image/png")


def test_the_only_file_is_the_payload_whatever_fields_are_around_it():
    assert payload(form((FIELD, b"a"), (FILE, b"b"), (FIELD, b"c")), TYPE) == (b"b", "image/png")


def test_the_only_part_is_the_payload_even_if_not_a_file_and_is_text_by_default():
    assert payload(form((FIELD, b"a")), TYPE) == (b"a", "text/plain")


def test_a_file_that_names_no_type_has_none():
    assert payload(form((FILE.partition(b"\r\n")[0], b"a")), TYPE) == (b"a", None)


@pytest.mark.parametrize("encoding", [b"binary", b"8BIT"])
def test_an_encoding_that_changes_nothing_is_taken(encoding):
    head = FILE + b"\r\nContent-Transfer-Encoding: " + encoding

    assert payload(form((head, b"a")), TYPE) == (b"a", "image/png")


def test_an_encoded_part_is_refused():
    head = FILE + b"\r\nContent-Transfer-Encoding: base64"

    with pytest.raises(UnsupportedMedia, match="send it unencoded"):
        payload(form((head, b"YQ==")), TYPE)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(form((FILE, b"a"), (FILE, b"b")), "2 files", id="two files"),
        pytest.param(form((FIELD, b"a"), (FIELD, b"b")), "no file and 2 fields", id="two fields"),
        pytest.param(b"--XX--\r\n", "no file and 0 fields", id="nothing"),
        pytest.param(form((FILE, b"a"))[:-8], "before its last boundary", id="cut short"),
        pytest.param(b"", "before its last boundary", id="empty"),
        pytest.param(b"hello", "not a valid multipart form", id="not a form"),
        pytest.param(form(*[(FIELD, b"")] * (MOST_PARTS + 1)), "more than", id="many parts"),
    ],
)
def test_a_form_without_exactly_one_payload_is_refused(body, words):
    with pytest.raises(InvalidInput, match=words):
        payload(body, TYPE)


@given(st.binary())
def test_any_bytes_are_refused_as_invalid_input(body):
    with pytest.raises(InvalidInput):
        payload(b"--XX\r\n" + body, TYPE)


def test_a_form_needs_its_boundary():
    with pytest.raises(InvalidInput, match="boundary"):
        payload(form((FILE, b"a")), "multipart/form-data")
