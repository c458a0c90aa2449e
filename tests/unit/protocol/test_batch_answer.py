"""Parts of a batch's answer, and the JSON that is made of all of them at once."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import BadModelOutput
from headrace.protocol.batch_answer import Part, parts
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.open_inference.rest_json import encode_response
from headrace.protocol.open_inference.rest_parts import LARGEST_SHARED
from headrace.protocol.tensor import Tensor, pack_bytes

NAMES = st.text(max_size=5)
PARAMETERS = st.none() | st.dictionaries(NAMES, st.integers() | NAMES, max_size=2)


@st.composite
def answers(draw: Any) -> tuple[InferenceResponse, list[int]]:
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    outputs = []
    for name in draw(st.lists(NAMES, max_size=3)):
        kind = DATATYPES[draw(st.sampled_from([k for k, v in DATATYPES.items() if v.itemsize]))]
        shape = [sum(counts), *draw(st.lists(st.integers(0, 3), max_size=2))]
        size = int(np.prod(shape)) * kind.itemsize
        data = draw(st.binary(min_size=size, max_size=size))
        if kind.name == "BOOL":
            data = bytes(byte % 2 for byte in data)
        outputs.append(Tensor(name, kind.name, shape, data, draw(PARAMETERS)))
    return InferenceResponse(outputs, draw(PARAMETERS)), counts


def encoded(response: InferenceResponse, id: str = "7", **names: Any) -> bytes:
    given = {"model_name": "wine", "model_version": None, **names}
    return encode_response(response, id=id, **given)[0]


@given(answers(), st.text(max_size=5), st.none() | NAMES)
def test_each_part_reads_as_its_rows_alone(answer: Any, id: str, version: str | None) -> None:
    response, counts = answer
    for part in parts(response, counts):
        alone = InferenceResponse(part.outputs, part.parameters)
        try:
            expected = encoded(alone, id, model_version=version)
        except BadModelOutput as error:
            with pytest.raises(BadModelOutput, match=error.message):
                encoded(part, id, model_version=version)
        else:
            assert encoded(part, id, model_version=version) == expected


def test_a_part_is_as_large_as_its_rows() -> None:
    response = InferenceResponse([Tensor("y", "FP64", [3, 2], bytes(48))])
    assert [part.nbytes for part in parts(response, [2, 1])] == [32, 16]


def test_parts_of_text_are_cut_at_once() -> None:
    response = InferenceResponse([Tensor("y", "BYTES", [3], pack_bytes([b"a", b"b,", b"c"]))])
    first, second = parts(response, [1, 2])
    assert not isinstance(first, Part)
    assert b'"data":["b,","c"]' in encoded(second)


def test_two_names_of_one_model_are_not_confused() -> None:
    response = InferenceResponse([Tensor("y", "FP64", [2], struct.pack("2d", 1.5, 2.5))])
    first, second = parts(response, [1, 1])
    assert b'"model_name":"a"' in encoded(first, model_name="a")
    assert b'"model_name":"b"' in encoded(second, model_name="b")


def test_a_large_answer_is_encoded_part_by_part() -> None:
    size = LARGEST_SHARED // 8 + 8
    values = np.arange(2.0 * size)
    response = InferenceResponse([Tensor("y", "FP64", [2, size], values.tobytes())])
    first, _ = parts(response, [1, 1])
    assert isinstance(first, Part)
    assert encoded(first).endswith(b"%.1f]}]}" % (size - 1))
    assert not first.answer.made
