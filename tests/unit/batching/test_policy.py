"""What a batch keeps of the contexts of its requests."""

from __future__ import annotations

import pytest

from headrace.batching import policy
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor


def request(headers):
    context = None if headers is None else {"headers": headers}
    return InferenceRequest([Tensor("x", "FP64", [1], bytes(8))], context=context)


def test_different_headers_do_not_keep_requests_apart():
    assert policy.key(request({"a": "1"})) == policy.key(request({"a": "2"}))


@pytest.mark.parametrize(
    ("headers", "common"),
    [
        pytest.param([{"a": "1", "b": "2"}], {"a": "1", "b": "2"}, id="alone"),
        pytest.param([{"a": "1", "b": "2"}, {"a": "1", "b": "3"}], {"a": "1"}, id="one differs"),
        pytest.param([{"a": "1"}, {}], {}, id="one lacks it"),
        pytest.param([{"a": "1"}, None], {}, id="one has none"),
    ],
)
def test_a_batch_has_the_headers_that_all_its_requests_have(headers, common):
    merged = policy.merge([request(each) for each in headers])

    assert merged.context == {"headers": common}


def test_text_stays_bytes_only_if_it_does_in_all_requests():
    over_grpc, over_http = request({}), request({})
    over_grpc.context["bytes"] = True

    assert policy.merge([over_grpc, over_grpc]).context == {"headers": {}, "bytes": True}
    assert policy.merge([over_grpc, over_http]).context == {"headers": {}}


def test_requests_without_a_context_merge_into_one_without():
    assert policy.merge([request(None), request(None)]).context is None
