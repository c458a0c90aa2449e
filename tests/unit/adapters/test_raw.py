"""A plugin's payload: what the adapter reads and writes, without a server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from headrace.adapters.raw import Raw
from headrace.errors import BadModelOutput, InvalidInput, UnsupportedMedia
from headrace.protocol.messages import PAYLOAD_TYPE, InferenceResponse, ModelMetadata
from headrace.protocol.tensor import Tensor, pack_bytes, unpack_bytes

ADAPTER = Raw()
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
    b"Content-Type: %b\r\n\r\nabc\r\n--b--\r\n"
)


def view(wanted: str | None = "text/plain", is_ready: bool = True) -> Any:
    metadata = ModelMetadata(parameters={} if wanted is None else {PAYLOAD_TYPE: wanted})
    return SimpleNamespace(name="p", version=None, model_metadata=metadata, is_ready=is_ready)


def asked(body: bytes, media_type: bytes | None = b"text/plain") -> Any:
    headers = {} if media_type is None else {b"content-type": media_type}
    return SimpleNamespace(headers=headers, body=body, scope={})


def payload(request: Any, model: Any) -> bytes:
    (tensor,) = ADAPTER.decode(request, model)[0].inputs
    return unpack_bytes(tensor.data, 1)[0]


def answered(media_type: bytes) -> InferenceResponse:
    parts = [b"ABC", media_type]
    return InferenceResponse([Tensor("t", "BYTES", [1], pack_bytes([part])) for part in parts])


def test_the_payload_is_the_body_or_the_only_file_of_a_form() -> None:
    form = asked(FORM % b"text/plain", b"multipart/form-data; boundary=b")

    assert payload(asked(b"abc"), view()) == b"abc"
    assert payload(form, view()) == b"abc"


def test_a_plugin_that_takes_forms_gets_the_whole_form() -> None:
    body = FORM % b"text/plain"
    request = asked(body, b"multipart/form-data; boundary=b")

    assert payload(request, view("multipart/form-data")) == body


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (asked(b"abc", b"image/png"), "Content-Type: .* takes 'text/plain', got 'image/png'"),
        (asked(b"abc", None), "got none"),
        (asked(FORM % b"image/png", b"multipart/form-data; boundary=b"), "of the form's part"),
    ],
    ids=["another", "none", "part"],
)
def test_a_payload_of_another_media_type_is_refused(request_: Any, words: str) -> None:
    with pytest.raises(UnsupportedMedia, match=words):
        ADAPTER.decode(request_, view())


def test_an_empty_payload_is_refused() -> None:
    with pytest.raises(InvalidInput, match="the payload is empty"):
        ADAPTER.decode(asked(b""), view())


def test_a_model_that_is_not_a_plugin_is_refused_with_the_route_that_it_has() -> None:
    with pytest.raises(InvalidInput, match="/v2/models/p/infer"):
        ADAPTER.decode(asked(b"abc"), view(None))


def test_a_model_that_has_not_loaded_is_not_taken_for_something_else() -> None:
    assert ADAPTER.decode(asked(b"abc"), view(None, is_ready=False))[0].inputs == []


def test_an_answer_has_the_media_type_of_the_plugin_and_no_other() -> None:
    reply = ADAPTER.encode(view(), answered(b"image/png"), "7", None)

    assert (reply.status, reply.body) == (200, b"ABC")
    assert dict(reply.headers) == {
        b"content-type": b"image/png",
        b"x-content-type-options": b"nosniff",
    }


@pytest.mark.parametrize("media_type", [b"", b"text", b"text/plain\r\nx-evil: 1"])
def test_an_answer_with_a_malformed_media_type_is_a_failure_of_the_model(media_type: bytes) -> None:
    with pytest.raises(BadModelOutput, match="malformed media type"):
        ADAPTER.encode(view(), answered(media_type), "7", None)


def test_only_plugins_speak_it() -> None:
    assert ADAPTER.speaks(view())
    assert not ADAPTER.speaks(view(None))
