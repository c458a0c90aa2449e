"""What a message has is counted before protobuf makes objects of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InvalidInput, TooLarge
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference import wire_counts
from headrace.protocol.open_inference.counts import COUNTS, Counts
from headrace.protocol.open_inference.grpc_contents import varint
from headrace.protocol.open_inference.wire_counts import check_message

FEW = Counts(text_elements=3, inputs=3, outputs=3, parameters=3)


def texts(message: pb.ModelInferRequest, count: int) -> None:
    for part in (count // 2, count - count // 2):
        added = message.inputs.add(name=str(part), datatype="BYTES", shape=[part])
        added.contents.bytes_contents.extend([b""] * part)


def inputs(message: pb.ModelInferRequest, count: int) -> None:
    for index in range(count):
        message.inputs.add(name="x" * 200 + str(index))


def outputs(message: pb.ModelInferRequest, count: int) -> None:
    for index in range(count):
        message.outputs.add(name=str(index))


def parameters(message: pb.ModelInferRequest, count: int) -> None:
    places = [message, message.inputs.add(name="x"), message.outputs.add(name="y")]
    for index in range(count):
        places[index % 3].parameters[str(index)].int64_param = 2**40


KINDS = {
    "text_elements": texts, "inputs": inputs, "outputs": outputs, "parameters": parameters,
}  # fmt: skip


def written(fill: Callable[[pb.ModelInferRequest, int], None], count: int) -> bytes:
    message = pb.ModelInferRequest(model_name="m")
    fill(message, count)
    encoded: bytes = message.SerializeToString()
    return encoded


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_as_are_allowed_pass_and_one_more_is_refused(kind: str) -> None:
    check_message(written(KINDS[kind], 3), FEW)
    with pytest.raises(TooLarge, match="--max-" + kind.replace("_", "-")):
        check_message(written(KINDS[kind], 4), FEW)


def test_raw_and_packed_contents_are_not_looked_at() -> None:
    message = pb.ModelInferRequest(raw_input_contents=[b"\x42" * 1000])
    message.inputs.add(name="x").contents.fp64_contents.extend([1.0] * 1000)

    check_message(message.SerializeToString(), FEW)


def test_numbers_that_are_not_packed_are_counted() -> None:
    contents = b"\x10\x01" * 10
    tensor = b"\x2a" + bytes([len(contents)]) + contents
    body = b"\x2a" + bytes([len(tensor)]) + tensor
    assert len(pb.ModelInferRequest.FromString(body).inputs[0].contents.int_contents) == 10

    with pytest.raises(TooLarge):
        check_message(body, FEW)


def packed(number: int, data: bytes) -> bytes:
    """A length-delimited field of up to 127 bytes."""
    return bytes([number << 3 | 2, len(data)]) + data


@pytest.mark.parametrize(
    "field",
    [packed(5, b""), packed(7, b""), packed(5, packed(5, packed(2, b"")))],
    ids=["inputs", "raw contents", "pieces of contents"],
)
def test_fields_without_a_byte_are_counted(field: bytes) -> None:
    with pytest.raises(TooLarge, match="--max-inputs"):
        check_message(field * 500, FEW)


@pytest.mark.parametrize(
    "field",
    [packed(1, b""), packed(5, packed(5, b"") * 40), packed(5, packed(9, b"") * 40)],
    ids=["names", "contents", "unknown"],
)
def test_fields_around_contents_are_counted(field: bytes) -> None:
    with pytest.raises(TooLarge, match="fields around its contents"):
        check_message(field * 500, FEW._replace(inputs=100) if field[0] == 0x2A else FEW)


@pytest.mark.parametrize("times", [1, 40])
def test_the_numbers_of_a_long_shape_are_not_read(times: int) -> None:
    shape = packed(3, b"\1" * 100) if times == 1 else packed(3, b"\1" * 10)
    tensor = packed(1, b"x") + shape * max(times, 4)
    body = b"\x2a" + varint(len(tensor)) + tensor
    assert pb.ModelInferRequest.FromString(body).inputs[0].name == "x"

    with pytest.raises(InvalidInput, match=r"inputs\[0\]: shape has more than the 32 dimensions"):
        check_message(body, COUNTS)


ONES = packed(2, b"\1" * 100)


@pytest.mark.parametrize(
    ("contents", "raw"),
    [
        (packed(5, b"\x10\1" + ONES), b""),
        (packed(5, ONES + b"\x10\1"), b""),
        (packed(5, ONES) + packed(5, packed(6, bytes(4))), b""),
        (packed(5, ONES) + packed(5, packed(8, b"text")), b""),
        (packed(5, ONES), packed(7, bytes(100))),
    ],
    ids=["one before", "one behind", "another field", "a text", "raw"],
)
def test_large_contents_with_others_beside_them_are_refused(
    contents: bytes, raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = packed(1, b"x") + contents
    body = b"\x2a" + varint(len(tensor)) + tensor + raw
    check_message(body, COUNTS)
    monkeypatch.setattr(wire_counts, "MOST_UNUSUAL", 100)
    with pytest.raises(InvalidInput, match=r"inputs\[0\]: expected .*contents"):
        check_message(body, COUNTS)


@given(st.binary(max_size=300))
def test_nothing_is_refused_that_is_a_message(body: bytes) -> None:
    try:
        check_message(body, COUNTS)
    except InvalidInput:
        with pytest.raises(DecodeError):
            pb.ModelInferRequest.FromString(body)
