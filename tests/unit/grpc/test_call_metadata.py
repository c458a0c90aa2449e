"""Headers that a model puts into its answer, as gRPC sends them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from headrace.errors import BadModelOutput
from headrace.grpc import call_metadata
from headrace.protocol.messages import InferenceResponse


def taken(headers):
    return call_metadata.taken(InferenceResponse([], {"headers": headers}), "m")[1]


def test_names_become_lower_case_and_values_text():
    assert taken({"X-Rows": 2}) == [("x-rows", "2")]


def test_what_belongs_to_the_call_is_not_the_models_to_say():
    assert taken({"grpc-status": "0", "Content-Type": "text/plain", "x-request-id": "a"}) == []


@pytest.mark.parametrize(
    "header", [{"x-bin": "a"}, {"x a": "1"}, {"x": "\N{SNOWMAN}"}, {"x": "\n"}]
)
def test_metadata_that_grpc_cannot_carry_are_refused(header):
    with pytest.raises(BadModelOutput, match="which gRPC cannot carry"):
        taken(header)


def test_binary_metadata_do_not_reach_a_model():
    metadata = (("x-a", "1"), ("x-b-bin", b"\x00"))
    context = SimpleNamespace(invocation_metadata=lambda: metadata)

    assert call_metadata.request_context(context)["headers"] == {"x-a": "1"}
