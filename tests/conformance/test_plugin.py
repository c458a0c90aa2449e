"""A plugin's payloads and answers are the same over every transport, raw bodies included."""

from __future__ import annotations

import pytest

from conformance.transports import Refused, Tensor
from support.asking import ask

pytestmark = pytest.mark.e2e


def payloads(*values, **parameters):
    return Tensor("payload", "BYTES", [len(values)], list(values), parameters)


def test_each_payload_gets_its_answer_and_its_media_type(transport):
    answer, media_types = transport.infer("plugin", [payloads(b"a", b"bc")]).outputs

    assert (answer.name, answer.datatype, answer.shape) == ("answer", "BYTES", [2])
    assert answer.values == [b'{"got":"a"}', b'{"got":"bc"}']
    assert (media_types.name, media_types.values) == ("content_type", [b"application/json"] * 2)


def test_the_raw_route_gives_the_same_answer(transport, announced):
    raw = ask(
        announced["http"],
        "POST",
        "/v2/models/plugin/raw",
        b"a",
        {"Content-Type": "text/plain"},
    )

    answer, media_types = transport.infer("plugin", [payloads(b"a")]).outputs
    assert [raw.body] == answer.values
    assert [raw.headers["content-type"].encode()] == media_types.values


@pytest.mark.parametrize(
    ("tensor", "kind", "words"),
    [
        pytest.param(payloads(b"a", b""), "invalid_argument", "payload 1 is empty", id="empty"),
        pytest.param(
            Tensor("x", "FP64", [1], [1.0]),
            "invalid_argument",
            "expected datatype BYTES",
            id="FP64",
        ),
        pytest.param(
            payloads(b"a", content_type="image/png"), "unsupported_media", "text/plain", id="type"
        ),
        pytest.param(payloads(b"raise"), "model_error", "failed on this request", id="raises"),
        pytest.param(payloads(b"nothing"), "bad_model_output", "returned None", id="None"),
    ],
)
def test_what_a_plugin_refuses_has_the_same_kind(tensor, kind, words, transport):
    with pytest.raises(Refused) as refused:
        transport.infer("plugin", [tensor])

    assert refused.value.kind == kind
    assert words in refused.value.message


def test_metadata_names_the_payloads_media_type(transport, reference):
    metadata = transport.metadata("plugin")

    assert metadata == reference.metadata("plugin")
    [payload] = metadata["inputs"]
    assert (payload["datatype"], payload["shape"]) == ("BYTES", [-1])
    assert payload["parameters"] == {"content_type": "text/plain"}
    assert metadata["parameters"] == {"request_content_type": "text/plain"}
