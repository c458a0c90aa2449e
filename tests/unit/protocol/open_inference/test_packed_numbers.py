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
from headrace.protocol.open_inference.grpc_contents import varint
from headrace.protocol.open_inference.grpc_messages import decode_request
from headrace.protocol.open_inference.wire_counts import MALFORMED

BOUNDS = {
    "bool_contents": (0, 1), "int_contents": (-(2**31), 2**31 - 1),
    "int64_contents": (-(2**63), 2**63 - 1), "uint_contents": (0, 2**32 - 1),
    "uint64_contents": (0, 2**64 - 1), "fp32_contents": (-(2**24), 2**24),
    "fp64_contents": (-(2**53), 2**53),
}  # fmt: skip
DATATYPES = ["BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
DATATYPES += ["FP32", "FP64", "FP16", "BYTES"]


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
        return MALFORMED
    except InvalidInput as error:
        return error.message


def by_us(body: bytes) -> Any:
    try:
        rest, numbers = packed_numbers.set_aside(body, COUNTS)
        return described(decode_request(pb.ModelInferRequest.FromString(rest), COUNTS, numbers))
    except DecodeError:
        return MALFORMED
    except InvalidInput as error:
        return error.message


def assert_same(body: bytes) -> None:
    """What protobuf refuses may be refused for another reason, which is found earlier."""
    ours, theirs = by_us(body), by_protobuf(body)
    assert ours == theirs or (theirs == MALFORMED and isinstance(ours, str))


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
    assert_same(body)


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field."""
    return bytes([number << 3 | 2]) + varint(len(data)) + data


@st.composite
def pieces(draw: st.DrawFn) -> bytes:
    """The contents of an input in several pieces, some of which are cut or have another number."""
    number = draw(st.sampled_from([1, 2, 3, 6, 7]))
    sizes = {1: 1, 2: 1, 3: 10, 6: 4, 7: 8}
    data = draw(st.binary(max_size=4)) if number == 1 else bytes(8) + b"\1" * 8
    if number == 3:
        data = b"\xff" * 9 + b"\1"
    whole = field(number, data[: len(data) // sizes[number] * sizes[number]])
    odd = st.sampled_from([b"", whole, field(number, data + b"\xff"), field(2, b"\1"), b"\x10\1"])
    several = st.lists(st.just(whole) | odd, max_size=3)
    contents = draw(st.lists(several, max_size=3))
    parts = [field(5, b"".join(each)) for each in contents]
    parts.insert(draw(st.integers(0, len(parts))), field(1, b"x") + field(3, b"\4"))
    datatype = {1: b"BOOL", 2: b"INT8", 3: b"INT64", 6: b"FP32", 7: b"FP64"}[number]
    each = 1 if number == 3 else len(data) // sizes[number]
    shape = each * draw(st.integers(0, 4))
    tensor = b"".join(parts) + field(2, datatype) + field(3, bytes([shape, 1]))
    return field(1, b"m") + field(5, tensor) + field(5, tensor.replace(b"x", b"y", 1))


@given(pieces())
def test_numbers_in_several_pieces_are_read_as_protobuf_reads_them(body: bytes) -> None:
    assert_same(body)


def test_pieces_of_all_contents_of_an_input_are_its_numbers() -> None:
    two, three = field(2, b"\1\2"), field(2, b"\3\4\5")
    named = field(1, b"x") + field(3, b"\6") + field(2, b"INT8")
    tensor = field(5, two + three) + named + field(5, field(2, b"\6"))
    rest, numbers = packed_numbers.set_aside(field(5, tensor), COUNTS)

    assert rest == field(5, named)
    assert bytes(numbers[0].packed) == b"\1\2\3\4\5\6"
    assert by_us(field(5, tensor)) == by_protobuf(field(5, tensor))


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
