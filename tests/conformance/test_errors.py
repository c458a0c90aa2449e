"""What is refused, and with which kind and message, is the same over every transport."""

from __future__ import annotations

import grpc
import pytest

from conformance.transports import Refused, Tensor
from headrace.errors import BY_KIND
from headrace.grpc.status_codes import TABLE as GRPC_TABLE
from headrace.protocol.error_table import TABLE as HTTP_TABLE

ONE = Tensor("x", "FP64", [1], [1.0])
CASES = {
    "unknown model": ("not_found", "nobody", [ONE], {}),
    "unknown version": ("not_found", "echo", [ONE], {"version": "9"}),
    "model raises": ("model_error", "fails", [ONE], {}),
    "no inputs": ("invalid_argument", "echo", [], {}),
    "too few elements": ("invalid_argument", "echo", [Tensor("x", "FP64", [3], [1.0])], {}),
    "too many elements": ("invalid_argument", "echo", [Tensor("x", "INT8", [1], [1, 2])], {}),
    "negative dimension": ("invalid_argument", "echo", [Tensor("x", "FP64", [-1], [1.0])], {}),
    "deep shape": ("invalid_argument", "echo", [Tensor("x", "FP64", [1] * 33, [1.0])], {}),
    "the same input twice": ("invalid_argument", "echo", [ONE, ONE], {}),
    "the same output twice": ("invalid_argument", "echo", [ONE], {"outputs": ["x", "x"]}),
    "wrong input": ("invalid_argument", "double", [ONE._replace(name="y")], {}),
    "long id": ("invalid_argument", "echo", [ONE], {"id": "x" * 257}),
    "control character in id": ("invalid_argument", "echo", [ONE], {"id": "a\nb"}),
}
OF_JSON = {
    "300 in UINT8": Tensor("x", "UINT8", [2], [1, 300]),
    "-1 in UINT16": Tensor("x", "INT8", [2], [1, -129]),
    "too few": Tensor("x", "FP32", [2, 2], [1.0]),
}
OF_RAW = {
    "too few bytes": Tensor("x", "FP32", [2, 2], [1.0]),
    "a wrong count of BYTES": Tensor("x", "BYTES", [3], [b"mill"]),
}

# The statuses that mean the same; gRPC may split one HTTP status, but not the reverse.
TWINS = {
    400: {"INVALID_ARGUMENT"}, 401: {"UNAUTHENTICATED"}, 403: {"PERMISSION_DENIED"},
    404: {"NOT_FOUND"}, 405: {"UNIMPLEMENTED"}, 408: {"DEADLINE_EXCEEDED"}, 409: {"ABORTED"},
    413: {"RESOURCE_EXHAUSTED"}, 415: {"INVALID_ARGUMENT"}, 422: {"FAILED_PRECONDITION"},
    429: {"RESOURCE_EXHAUSTED"}, 431: {"RESOURCE_EXHAUSTED"}, 499: {"CANCELLED"},
    500: {"INTERNAL"}, 501: {"UNIMPLEMENTED"}, 504: {"DEADLINE_EXCEEDED"},
    507: {"RESOURCE_EXHAUSTED"},
    # Clients repeat what is UNAVAILABLE, which is wrong for a model that nobody has loaded.
    503: {"UNAVAILABLE", "FAILED_PRECONDITION"},
}  # fmt: skip


def refusal(transport, model, tensors, **more):
    with pytest.raises(Refused) as refused:
        transport.infer(model, tensors, **more)
    return refused.value


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_every_kind_of_error_has_matching_rows_in_both_tables(kind):
    code = GRPC_TABLE[kind].code

    assert isinstance(code, grpc.StatusCode)
    assert code.name in TWINS[HTTP_TABLE[kind].status]
    assert GRPC_TABLE[kind].retry_after == HTTP_TABLE[kind].retry_after
    assert (code is grpc.StatusCode.UNAVAILABLE) <= HTTP_TABLE[kind].retry_after


def test_the_tables_have_no_other_kinds():
    assert set(GRPC_TABLE) == set(HTTP_TABLE) == set(BY_KIND)


@pytest.mark.e2e
@pytest.mark.parametrize("case", CASES)
def test_what_is_refused_has_the_same_kind(case, transport):
    kind, model, tensors, more = CASES[case]

    refused = refusal(transport, model, tensors, **more)

    assert refused.kind == kind
    assert kind in refused.kinds
    assert refused.request_id


@pytest.mark.e2e
@pytest.mark.parametrize("case", [case for case in CASES if "elements" not in case])
def test_what_is_refused_has_the_same_message(case, transport, reference):
    _, model, tensors, more = CASES[case]

    refused = refusal(transport, model, tensors, **more)

    assert refused.message == refusal(reference, model, tensors, **more).message


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("one", "other", "tensor"),
    [
        *[pytest.param("REST JSON", "gRPC typed", t, id=name) for name, t in OF_JSON.items()],
        *[pytest.param("REST binary", "gRPC raw", t, id=name) for name, t in OF_RAW.items()],
    ],
)
def test_data_that_does_not_fit_has_the_same_message(one, other, tensor, transports):
    messages = [refusal(transports[name], "echo", [tensor]).message for name in (one, other)]

    assert messages[0] == messages[1]
    assert messages[0].startswith("input 'x'")
    # A count that is wrong is that of all elements.
    assert ("input 'x', row 1: " in messages[0]) == ("expected" in messages[0])


@pytest.mark.e2e
def test_a_refusal_carries_the_callers_request_id(transport):
    assert refusal(transport, "nobody", [ONE], request_id="trace-9").request_id == "trace-9"
