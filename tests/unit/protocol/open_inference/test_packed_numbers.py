"""Numbers that are read without protobuf are those that protobuf reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InvalidInput
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference import packed_numbers
from headrace.protocol.open_inference.counts import COUNTS
from headrace.protocol.open_inference.grpc_messages import decode_request

BOUNDS = {
    "bool_contents": (0, 1), "int_contents": (-(2**31), 2**31 - 1),
    "int64_contents": (-(2**63), 2**63 - 1), "uint_contents": (0, 2**32 - 1),
    "uint64_contents": (0, 2**64 - 1),
}  # fmt: skip
DATATYPES = ["BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
DATATYPES += ["FP32", "FP16", "BYTES"]


@pytest.fixture(autouse=True, scope="module")
def all_are_large() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_numbers, "LARGE", 1)
        patch.setattr(packed_numbers, "_STEP", 11)
        yield


def by_protobuf(body: bytes) -> Any:
    try:
        return described(decode_request(pb.ModelInferRequest.FromString(body)))
    except DecodeError:
        return "the request is not a valid ModelInferRequest message"
    except InvalidInput as error:
        return error.message


def by_us(body: bytes) -> Any:
    rest, numbers = packed_numbers.set_aside(body, COUNTS)
    try:
        return described(decode_request(pb.ModelInferRequest.FromString(rest), COUNTS, numbers))
    except DecodeError:
        return "the request is not a valid ModelInferRequest message"
    except InvalidInput as error:
        return error.message


def described(decoded: Any) -> Any:
    request = decoded.request
    tensors = [(each.name, each.datatype, each.shape, bytes(each.data)) for each in request.inputs]
    return tensors, request.parameters, request.outputs, decoded.raw


@st.composite
def inputs(draw: st.DrawFn) -> Any:
    field = draw(st.sampled_from(list(BOUNDS)))
    low, high = BOUNDS[field]
    small = st.integers(max(low, -200), min(high, 200))
    values = draw(st.lists(small | st.integers(low, high), max_size=30))
    fitting = [each for each in DATATYPES if each.lower()[:4] == field[:4]]
    datatype = draw(st.sampled_from(fitting + DATATYPES))
    return field, values, datatype, draw(st.sampled_from([len(values)] * 5 + [3]))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    message = pb.ModelInferRequest(model_name="m", id="i")
    for index, (field, values, datatype, count) in enumerate(draw(st.lists(inputs(), max_size=3))):
        item = message.inputs.add(name=str(index), datatype=datatype, shape=[count])
        getattr(item.contents, field).extend(values)
    message.outputs.add(name="y")
    body: bytes = message.SerializeToString()
    if draw(st.booleans()):
        return body
    place = draw(st.integers(0, len(body) - 1))
    return body[:place] + draw(st.binary(max_size=3)) + body[place + 1 :]


@given(messages())
def test_a_message_is_read_as_protobuf_reads_it(body: bytes) -> None:
    assert by_us(body) == by_protobuf(body)


@pytest.mark.parametrize("datatype", ["INT8", "UINT64", "BOOL", "INT64"])
def test_protobuf_is_given_no_large_numbers(datatype: str) -> None:
    kinds = {"INT8": "int", "UINT64": "uint64", "BOOL": "bool", "INT64": "int64"}
    message = pb.ModelInferRequest(model_name="m")
    for name in "ab":
        item = message.inputs.add(name=name, datatype=datatype, shape=[1000])
        getattr(item.contents, f"{kinds[datatype]}_contents").extend([1] * 1000)

    rest, numbers = packed_numbers.set_aside(message.SerializeToString(), COUNTS)

    assert len(rest) < 100
    decoded = decode_request(pb.ModelInferRequest.FromString(rest), COUNTS, numbers)
    assert [np.frombuffer(each.data, np.uint8).sum() for each in decoded.request.inputs] == [
        1000
    ] * 2


def test_numbers_beside_raw_contents_stay_in_the_message() -> None:
    message = pb.ModelInferRequest(raw_input_contents=[bytes(8)])
    message.inputs.add(name="x", datatype="INT64", shape=[1]).contents.int64_contents.append(1)

    assert by_us(message.SerializeToString()) == by_protobuf(message.SerializeToString())
    assert "got both" in by_us(message.SerializeToString())
