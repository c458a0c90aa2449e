"""Keys of a body that mean nothing: typos are refused, and those of other clients passed over."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.adapters.predict_v1 import PredictV1
from headrace.errors import InvalidInput
from headrace.protocol.messages import ModelMetadata
from headrace.protocol.open_inference.rest_json import decode_request
from headrace.protocol.open_inference.strange_keys import MOST

INPUT = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}


def decoded(**body: Any) -> Any:
    return decode_request(json.dumps({"inputs": [INPUT], **body}).encode()).request


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"paramters": {}}, "the request body: there is no key 'paramters'; did you mean "
         "'parameters'?"),
        ({"ouputs": []}, "the request body: there is no key 'ouputs'; did you mean 'outputs'?"),
        ({"inputs": [INPUT, {**INPUT, "name": "y", "params": {}}]},
         "inputs[1]: there is no key 'params'; did you mean 'parameters'?"),
        ({"outputs": [{"name": "y", "Parameters": {}}]},
         "outputs[0]: there is no key 'Parameters'; did you mean 'parameters'?"),
    ],
)  # fmt: skip
def test_a_key_that_resembles_another_is_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decoded(**body)

    assert caught.value.message == message


def test_keys_of_other_clients_are_passed_over() -> None:
    more = {**INPUT, "contents": None, "type": "tensor"}

    request = decoded(model_name="m", model_version="1", inputs=[more], outputs=None)

    assert request.inputs[0].shape == [1]


def test_a_key_that_is_not_utf_8_is_refused() -> None:
    body = json.dumps({"inputs": [INPUT]}).encode()

    with pytest.raises(InvalidInput, match="the request body"):
        decode_request(body[:-1] + b', "\xff": 1}')


def test_a_body_with_very_many_keys_is_read_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[object] = []
    place = "headrace.protocol.open_inference.strange_keys.nearest"
    monkeypatch.setattr(place, lambda word, known: compared.append(word) or "")

    assert decoded(**{f"zz{number}": 0 for number in range(5000)}, **{"z" * 10_000: 0})
    assert len(compared) == MOST


def test_the_predict_api_refuses_typos_too() -> None:
    view: Any = SimpleNamespace(
        name="m", version=None, model_metadata=ModelMetadata(), signature=None
    )

    def asked(**body: Any) -> Any:
        return SimpleNamespace(headers={}, body=json.dumps(body).encode(), scope={})

    with pytest.raises(InvalidInput, match="no key 'signature_nam'; did you mean 'signature_name"):
        PredictV1().decode(asked(instances=[1], signature_nam="a"), view)
    assert PredictV1().decode(asked(instances=[1], model="m"), view)
