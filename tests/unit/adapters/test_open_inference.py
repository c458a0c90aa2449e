"""The Open Inference Protocol over REST: what the adapter reads and writes, without a server."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headrace.adapters.open_inference import OpenInference
from headrace.errors import HeadraceError, InvalidInput, UnsupportedMedia
from headrace.protocol.messages import (
    PAYLOAD_TYPE,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.protocol.tensor import Tensor

ADAPTER = OpenInference()
TWO = np.array([1.0, 2.0]).tobytes()
X = {"name": "x", "shape": [2], "datatype": "FP64"}
ANSWER = InferenceResponse([Tensor("y", "FP64", [2], TWO)])


def view(**metadata: Any) -> Any:
    return SimpleNamespace(
        name="m",
        version="3",
        model_metadata=ModelMetadata(**metadata),
        cloud_events=None,
        signature=None,
    )


def asked(body: bytes, **headers: str) -> Any:
    fields = {name.replace("_", "-").encode(): text.encode() for name, text in headers.items()}
    return SimpleNamespace(headers=fields, body=body, scope={})


def test_numbers_in_json_become_a_tensor() -> None:
    body = json.dumps({"id": "7", "inputs": [{**X, "data": [1, 2]}]}).encode()
    request, _ = ADAPTER.decode(asked(body), view())

    (tensor,) = request.inputs
    assert (request.id, tensor.name, list(tensor.shape), bytes(tensor.data)) == ("7", "x", [2], TWO)


def test_binary_data_follows_as_many_bytes_of_json_as_the_header_says() -> None:
    head = json.dumps({"inputs": [{**X, "parameters": {"binary_data_size": 16}}]}).encode()
    sent = asked(head + TWO, inference_header_content_length=str(len(head)))

    assert bytes(ADAPTER.decode(sent, view())[0].inputs[0].data) == TWO


@pytest.mark.parametrize("media_type", ["application/vnd.api+json", "application/x+json; v=1"])
def test_every_type_of_json_is_read_as_json(media_type: str) -> None:
    body = json.dumps({"inputs": [{**X, "data": [1, 2]}]}).encode()
    request, _ = ADAPTER.decode(asked(body, content_type=media_type), view())

    assert bytes(request.inputs[0].data) == TWO


def test_a_body_without_json_is_the_only_input_of_the_model() -> None:
    model = view(inputs=[TensorMetadata("x", "FP64", [-1])])
    request, _ = ADAPTER.decode(asked(TWO, inference_header_content_length="0"), model)

    assert (request.inputs[0].name, bytes(request.inputs[0].data)) == ("x", TWO)


@pytest.mark.parametrize("length", ["-1", "x", "", "1e3", "9" * 19])
def test_a_length_that_is_not_a_number_is_refused(length: str) -> None:
    with pytest.raises(InvalidInput, match="Inference-Header-Content-Length"):
        ADAPTER.decode(asked(b"{}", inference_header_content_length=length), view())


@pytest.mark.parametrize(
    "media_type",
    ["", "Application/JSON; charset=utf-8", "application/octet-stream"],
)
def test_a_media_type_that_the_protocol_uses_is_read(media_type: str) -> None:
    body = json.dumps({"inputs": [{**X, "data": [1, 2]}]}).encode()

    assert ADAPTER.decode(asked(body, content_type=media_type), view())[0].inputs


@pytest.mark.parametrize("media_type", ["text/plain", "application/json, text/plain"])
def test_any_other_media_type_is_refused(media_type: str) -> None:
    with pytest.raises(UnsupportedMedia, match="application/json"):
        ADAPTER.decode(asked(b"{}", content_type=media_type), view())


def test_an_answer_names_the_model_its_version_and_the_request() -> None:
    _, context = ADAPTER.decode(
        asked(json.dumps({"inputs": [{**X, "data": [1, 2]}]}).encode()), view()
    )
    status, headers, body = ADAPTER.encode(view(), ANSWER, "7", context)

    assert (status, headers) == (200, [(b"content-type", b"application/json")])
    assert json.loads(body) == {
        "model_name": "m",
        "model_version": "3",
        "id": "7",
        "outputs": [{**X, "name": "y", "data": [1.0, 2.0]}],
    }


def test_a_binary_answer_says_where_its_json_ends_and_an_event_has_none() -> None:
    wanted = {"name": "y", "parameters": {"binary_data": True}}
    body = json.dumps({"inputs": [{**X, "data": [1, 2]}], "outputs": [wanted]}).encode()
    _, context = ADAPTER.decode(asked(body), view())
    reply = ADAPTER.encode(view(), ANSWER, "7", context)
    headers = dict(reply.headers)
    length = int(headers[b"inference-header-content-length"])
    event = ADAPTER.event(view(), ANSWER, "7", context)

    assert headers[b"content-type"] == b"application/octet-stream"
    assert json.loads(reply.body[:length])["outputs"][0]["name"] == "y"
    assert reply.body[length:] == TWO
    assert json.loads(event.removeprefix(b"data: "))["outputs"][0]["data"] == [1.0, 2.0]
    assert event.endswith(b"}\n\n")


def test_an_error_is_a_message_and_a_code() -> None:
    error: HeadraceError = InvalidInput("x is missing")

    assert ADAPTER.error(error) == (400, b'{"error":"x is missing","code":"invalid_argument"}')
    assert ADAPTER.error_event(b"{}") == b"event: error\ndata: {}\n\n"


def test_plugins_do_not_speak_it() -> None:
    assert ADAPTER.speaks(view())
    assert not ADAPTER.speaks(view(parameters={PAYLOAD_TYPE: "image/png"}))
