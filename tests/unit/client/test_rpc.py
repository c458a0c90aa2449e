"""gRPC messages to values and errors, without a channel."""

from __future__ import annotations

import pytest

from headrace.client import BadAnswer, ConnectionFailed, InvalidRequest, ServerError, Unavailable
from headrace.client.operations import Infer
from headrace.client.rpc import call_of, error_of, value_of
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.tensor import Tensor

INFER = Infer("m", InferenceRequest([Tensor("x", "UINT8", [2], b"\1\2")], {"k": 3}, ["y"], "q"))


def test_inputs_are_sent_as_raw_contents():
    method, message, _ = call_of(INFER)

    assert method == "ModelInfer"
    assert list(message.raw_input_contents) == [b"\1\2"]
    assert message.parameters["k"].int64_param == 3
    assert [output.name for output in message.outputs] == ["y"]


def answer(**contents):
    message = pb.ModelInferResponse(model_name="m", **contents)
    message.outputs.add(name="y", datatype="INT8", shape=[2])
    return message


def test_typed_contents_are_read_too():
    message = answer()
    message.outputs[0].contents.int_contents.extend([-1, 5])

    assert value_of(INFER, message).to_numpy().tolist() == [-1, 5]


@pytest.mark.parametrize(
    "raw", [[b"\1"], [b"\1\2", b"\3"]], ids=["too few bytes", "too many tensors"]
)
def test_contents_that_do_not_fit_are_refused(raw):
    with pytest.raises(BadAnswer):
        value_of(INFER, answer(raw_output_contents=raw))


@pytest.mark.parametrize(
    ("status", "trailing", "error"),
    [
        ("UNAVAILABLE", {}, ConnectionFailed),
        ("UNAVAILABLE", {"x-error-code": "overloaded"}, Unavailable),
        ("INVALID_ARGUMENT", {}, InvalidRequest),
        ("DATA_LOSS", {}, ServerError),
    ],
    ids=["channel", "server", "refused", "another status"],
)
def test_each_status_has_its_error(status, trailing, error):
    assert type(error_of(status, "why", trailing)) is error


def test_the_server_says_when_to_retry():
    trailing = {"x-error-code": "overloaded", "retry-after": "2"}

    assert error_of("UNAVAILABLE", "busy", trailing).retry_after == 2.0
