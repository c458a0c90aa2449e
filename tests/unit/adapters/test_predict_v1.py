"""The predict API: what the adapter and its pages read and write, without a server."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headrace.adapters.predict_v1 import PredictV1
from headrace.errors import InvalidInput, ModelNotReady, UnsupportedMedia
from headrace.protocol.messages import PAYLOAD_TYPE, InferenceResponse, ModelMetadata
from headrace.protocol.tensor import Tensor, unpack_bytes

ADAPTER = PredictV1()
ANSWER = InferenceResponse([Tensor("y", "FP64", [2], np.array([1.0, 2.0]).tobytes())])


class FakeDirectory:
    """Models `a` and `m`; version 1 is never ready."""

    def __init__(self, ready: bool = True, versions: tuple[str, ...] = ()) -> None:
        self._ready, self._versions = ready, versions

    def names(self) -> list[str]:
        return ["a", "m"]

    def model_ready(self, name: str, version: str | None = None) -> bool:
        return self._ready and version != "1"

    def require_ready(self, name: str, version: str | None = None) -> None:
        if not self._ready:
            raise ModelNotReady(f"model '{name}' is not ready: it loads")

    def versions(self, name: str) -> list[str]:
        return list(self._versions)


def view(**metadata: Any) -> Any:
    found = ModelMetadata(**metadata)
    return SimpleNamespace(name="m", version=None, model_metadata=found, signature=None)


def asked(body: Any, media_type: bytes = b"application/json") -> Any:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return SimpleNamespace(headers={b"content-type": media_type}, body=sent, scope={})


@pytest.mark.parametrize(
    ("key", "answer"),
    [("instances", b'{"predictions":[1.0,2.0]}'), ("inputs", b'{"outputs":[1.0,2.0]}')],
)
def test_an_answer_has_the_form_of_its_request(key: str, answer: bytes) -> None:
    _, context = ADAPTER.decode(asked({key: [[1], [2]]}), view())

    assert ADAPTER.encode(view(), ANSWER, "7", context).body == answer


def test_parameters_are_the_params_of_mlflow() -> None:
    body = {"instances": [1], "parameters": {"top": 3}, "signature_name": "serving_default"}
    request, _ = ADAPTER.decode(asked(body), view())

    (payload,) = request.inputs
    assert json.loads(unpack_bytes(payload.data, 1)[0]) == {"instances": [1], "params": {"top": 3}}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "either instances or inputs"),
        ({"instances": [1], "inputs": [1]}, "either instances or inputs"),
        ({"instances": [1], "signature_name": "other"}, "signature_name: expected"),
        (b"{", "the request body"),
        (b"[1]", "the request body"),
        (b'{"instances": [1], "signature_name": "\xff"}', "the request body"),
    ],
    ids=["neither", "both", "another signature", "half", "a list", "not UTF-8"],
)
def test_a_body_that_is_not_a_request_is_refused(body: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        ADAPTER.decode(asked(body), view())


def test_another_media_type_and_a_plugin_are_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="application/json"):
        ADAPTER.decode(asked({"instances": [1]}, b"text/csv"), view())
    with pytest.raises(InvalidInput, match="/v2/models/m/raw"):
        ADAPTER.decode(asked({"instances": [1]}), view(parameters={PAYLOAD_TYPE: "image/png"}))


def test_the_list_of_models_has_names_and_objects() -> None:
    answer = json.loads(ADAPTER.models(FakeDirectory()).body)

    assert (answer["models"], answer["object"]) == (["a", "m"], "list")
    assert [item["id"] for item in answer["data"]] == ["a", "m"]


def test_a_model_that_is_ready_shows_the_state_of_each_version() -> None:
    answer = json.loads(ADAPTER.model(FakeDirectory(versions=("1", "2")), "m").body)
    states = [(item["version"], item["state"]) for item in answer["model_version_status"]]

    assert (answer["name"], answer["ready"]) == ("m", True)
    assert states == [("1", "LOADING"), ("2", "AVAILABLE")]


def test_a_model_without_a_version_shows_version_1() -> None:
    answer = json.loads(ADAPTER.model(FakeDirectory(), "m").body)

    assert [item["version"] for item in answer["model_version_status"]] == ["1"]


def test_a_model_that_is_not_ready_is_an_error() -> None:
    with pytest.raises(ModelNotReady, match="'m' is not ready"):
        ADAPTER.model(FakeDirectory(ready=False), "m")
