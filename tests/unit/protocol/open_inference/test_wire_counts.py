"""What a message has is counted before protobuf makes objects of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import TooLarge
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.counts import COUNTS, Counts
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


@given(st.binary(max_size=300))
def test_whatever_is_no_message_is_left_to_protobuf(body: bytes) -> None:
    check_message(body, COUNTS)
