"""MLflow's scoring protocol: what the adapter reads and writes, without a server."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headrace.adapters.mlflow_scoring import MLflowScoring
from headrace.errors import InvalidInput, ModelNotReady, UnsupportedMedia
from headrace.protocol.messages import PAYLOAD_TYPE, InferenceResponse, ModelMetadata
from headrace.protocol.mlflow.signature import SCORING, Signature
from headrace.protocol.tensor import Tensor, unpack_bytes

ADAPTER = MLflowScoring()
ROUTE = ADAPTER.routes[0]
SIGNATURE = Signature.parse({"inputs": [{"name": "a", "type": "double"}]})
ANSWER = InferenceResponse([Tensor("y", "FP64", [2], np.array([1.0, 2.0]).tobytes())])


def view(signature: Signature | None = None, **metadata: Any) -> Any:
    found = ModelMetadata(**metadata)
    return SimpleNamespace(
        name="m", version=None, model_metadata=found, scoring_signature=signature
    )


def asked(body: Any, media_type: bytes | None = b"application/json") -> Any:
    headers = {} if media_type is None else {b"content-type": media_type}
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return SimpleNamespace(headers=headers, body=sent, scope={})


def test_a_table_that_fits_a_signature_becomes_one_tensor_for_each_column() -> None:
    table = {"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}}
    request, wrapped = ADAPTER.decode(asked(table), view(SIGNATURE))

    (column,) = request.inputs
    assert (column.name, column.datatype, wrapped) == ("a", "FP64", True)
    assert np.frombuffer(column.data).tolist() == [1.0, 2.0]


def test_a_body_without_a_signature_reaches_the_worker_without_the_word_stream() -> None:
    request, _ = ADAPTER.decode(asked({"inputs": [1], "stream": True}), view())

    (payload,) = request.inputs
    assert request.content_type == SCORING
    assert json.loads(unpack_bytes(payload.data, 1)[0]) == {"inputs": [1]}


@pytest.mark.parametrize("media_type", [None, b"text/html"])
def test_a_body_of_another_media_type_is_refused(media_type: bytes | None) -> None:
    with pytest.raises(UnsupportedMedia):
        ADAPTER.decode(asked({"inputs": [1]}, media_type), view())


def test_a_plugin_is_refused_with_the_route_that_it_has() -> None:
    with pytest.raises(InvalidInput, match="/v2/models/m/raw"):
        ADAPTER.decode(asked({"inputs": [1]}), view(parameters={PAYLOAD_TYPE: "image/png"}))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"inputs": [1], "stream": true}', True),
        (b'{"inputs": [1], "stream": false}', False),
        (b'{"inputs": [{"stream": true}]}', False),
        (b'{"inputs": [1]}', False),
        (b'{"stream": true', False),
    ],
)
def test_only_true_at_the_top_of_a_body_asks_for_a_stream(body: bytes, wanted: bool) -> None:
    assert ADAPTER.wants_stream(ROUTE, body) is wanted


def test_predictions_are_wrapped_except_in_events_and_for_chats() -> None:
    assert ADAPTER.encode(view(), ANSWER, "7", True).body == b'{"predictions":[1.0,2.0]}'
    assert ADAPTER.encode(view(), ANSWER, "7", False).body == b"[1.0,2.0]"
    assert ADAPTER.event(view(), ANSWER, "7", True) == b"data: [1.0,2.0]\n\n"


def test_an_error_has_the_form_of_mlflows_servers_in_events_too() -> None:
    status, body = ADAPTER.error(ModelNotReady("it loads"))

    assert (status, json.loads(body)) == (
        503,
        {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "it loads"},
    )
    assert ADAPTER.error_event(body) == b'data: {"error":%b}\n\n' % body


def test_models_of_mlflow_take_precedence() -> None:
    assert ADAPTER.prefers(view(decodes_scoring=True))
    assert not ADAPTER.prefers(view())
