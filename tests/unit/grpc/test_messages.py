"""Requests and answers as messages."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import BadModelOutput, InvalidInput
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.grpc_messages import decode_request, encode_response
from headrace.protocol.tensor import Tensor, pack_bytes


def asked(datatype="FP64", shape=(1,), raw=None, **contents):
    message = pb.ModelInferRequest(model_name="m")
    added = message.inputs.add(name="x", datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(added.contents, field).extend(values)
    message.raw_input_contents.extend(raw or [])
    return message


def refusal(message):
    with pytest.raises(InvalidInput) as refused:
        decode_request(message)
    return refused.value.message


def answered(*tensors, raw=False, parameters=None):
    response = InferenceResponse(list(tensors), parameters)
    return encode_response(response, model_name="m", model_version=None, id="", raw=raw)


def test_raw_contents_and_contents_may_not_be_mixed():
    message = asked(raw=[bytes(8)], fp64_contents=[1.0])

    assert refusal(message) == "input 'x': expected either contents or raw_input_contents, got both"


@pytest.mark.parametrize("count", [1, 3])
def test_raw_contents_must_be_as_many_as_the_inputs(count):
    message = asked(raw=[bytes(8)] * count)
    message.inputs.add(name="y", datatype="FP64", shape=[1])

    assert refusal(message) == (
        f"raw_input_contents holds {count} tensors, expected one for each of 2 inputs"
    )


def test_an_input_without_contents_is_refused():
    assert refusal(asked()) == "input 'x': data is missing"


def test_contents_in_the_field_of_another_datatype_are_refused():
    message = asked("UINT8", int_contents=[1])

    assert refusal(message) == "input 'x': UINT8 belongs in uint_contents, got int_contents"


def test_contents_in_two_fields_are_refused():
    message = asked("FP64", fp64_contents=[1.0], fp32_contents=[1.0])

    assert refusal(message).endswith(
        "belongs in fp64_contents, got fp32_contents and fp64_contents"
    )


def test_an_unknown_field_does_not_shift_the_data():
    message = asked(fp64_contents=[1.5])
    contents = message.inputs[0].contents
    contents.MergeFromString(bytes([99 << 3 & 0x7F | 0x80, 99 >> 4, 7]))

    (tensor,) = decode_request(message).request.inputs

    assert bytes(tensor.data) == struct.pack("<d", 1.5)


def test_a_parameter_without_a_value_is_none():
    message = asked(fp64_contents=[1.0])
    message.parameters["empty"].SetInParent()

    assert decode_request(message).request.parameters == {"empty": None}


def test_a_content_type_that_is_no_string_is_refused():
    message = asked(fp64_contents=[1.0])
    message.inputs[0].parameters["content_type"].int64_param = 1

    assert refusal(message).endswith("parameter content_type must be a string")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_parameter_that_is_not_a_finite_number_is_refused(number):
    message = asked(fp64_contents=[1.0])
    message.parameters["rate"].double_param = number

    assert refusal(message) == "request: parameter 'rate' must be a finite number"


def test_parameters_that_steer_the_transport_never_reach_the_model():
    message = asked(fp64_contents=[1.0])
    message.inputs[0].parameters["binary_data_size"].int64_param = 8

    assert decode_request(message).request.inputs[0].parameters is None


def test_what_has_no_kind_of_parameter_is_sent_as_json():
    sent = answered(parameters={"list": [1, "a"], "huge": 2**70, "none": None}).parameters

    assert sent["list"].string_param == '[1,"a"]'
    assert sent["huge"].string_param == str(2**70)
    assert sent["none"].WhichOneof("parameter_choice") is None


def test_one_output_in_half_precision_makes_all_of_them_raw():
    sent = answered(Tensor("a", "FP16", [1], b"ab"), Tensor("b", "INT8", [1], b"\7"))

    assert list(sent.raw_output_contents) == [b"ab", b"\7"]
    assert not any(output.HasField("contents") for output in sent.outputs)


def test_a_damaged_output_is_the_models_fault():
    with pytest.raises(BadModelOutput, match="output 'a'"):
        answered(Tensor("a", "BYTES", [2], pack_bytes([b"mill"])))


def test_a_parameter_that_nothing_can_carry_is_the_models_fault():
    with pytest.raises(BadModelOutput, match="a name or parameter"):
        answered(parameters={"object": object()})


@given(st.lists(st.floats(width=32), max_size=300))
def test_floats_keep_their_bits_both_ways(values):
    raw = struct.pack(f"<{len(values)}f", *values)

    sent = answered(Tensor("x", "FP32", [len(values)], raw)).outputs[0]
    message = asked("FP32", [len(values)])
    message.inputs[0].contents.CopyFrom(sent.contents)

    assert bytes(decode_request(message).request.inputs[0].data) == raw


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoder_fail_otherwise(noise):
    message = asked(fp64_contents=[1.0])

    with suppress(DecodeError, InvalidInput):
        message.MergeFromString(noise)
        decode_request(message)


def test_the_fields_of_a_models_metadata_are_those_of_the_protocol():
    fields = pb.ModelMetadataResponse.DESCRIPTOR.fields_by_number
    entry = fields[6].message_type.fields_by_name

    names = ["name", "versions", "platform", "inputs", "outputs", "properties"]
    assert [fields[number].name for number in range(1, 7)] == names
    assert entry["value"].type == entry["value"].TYPE_STRING
    # Ours, which nothing in the protocol can be taken for.
    assert fields[100].name == "parameters"
