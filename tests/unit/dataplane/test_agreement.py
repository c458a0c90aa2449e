"""When two versions of a model have given the same answer."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from headrace.codecs.array import tensor_of
from headrace.dataplane.agreement import difference
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.tensor import Tensor, pack_bytes


def answer(**outputs: Any) -> InferenceResponse:
    return InferenceResponse(
        [tensor_of(name, np.asarray(value)) for name, value in outputs.items()]
    )


def in_json(*values: Any) -> InferenceResponse:
    """An answer as models give that return what only JSON can hold."""
    data = pack_bytes([json.dumps(value).encode() for value in values])
    return InferenceResponse([Tensor("y", "BYTES", [len(values)], data, {"content_type": "json"})])


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (1.0, 1.0009),
        (1e6, 1e6 + 900),
        (0.0, -0.0009),
        (math.nan, math.nan),
        (math.inf, math.inf),
        (np.float32(0.5), np.float64(0.5004)),
        (2, 2.0004),
    ],
    ids=str,
)
def test_numbers_within_the_tolerance_agree(expected: Any, found: Any) -> None:
    assert difference(answer(y=[expected]), answer(y=[found]), 1e-3) == ""
    if not math.isinf(expected) and not math.isnan(expected):
        plain = float(expected), float(found)
        assert difference(in_json(plain[0]), in_json(plain[1]), 1e-3) == ""


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (1.0, 1.0011),
        (1e6, 1e6 + 1100),
        (0.0, 0.0011),
        (1.0, math.nan),
        (math.nan, 1.0),
        (math.inf, 1.0),
        (1.0, math.inf),
        (math.inf, -math.inf),
    ],
    ids=str,
)
def test_other_numbers_differ(expected: float, found: float) -> None:
    assert difference(answer(y=[expected]), answer(y=[found]), 1e-3) == (
        "output 'y' differs in 1 of 1 elements"
    )


def test_whole_numbers_are_labels_and_must_be_equal() -> None:
    assert difference(answer(y=[100, 7]), answer(y=[101, 7]), 0.1) == (
        "output 'y' differs in 1 of 2 elements"
    )
    assert difference(in_json(100), in_json(101), 0.1) != ""
    assert difference(answer(y=[True]), answer(y=[False]), 0.1) != ""
    assert difference(answer(y=np.array([7], "i4")), answer(y=np.array([7], "i8")), 0.0) == ""


def test_texts_must_be_equal() -> None:
    assert difference(answer(y=["red", "blue"]), answer(y=["red", "blue"]), 0.1) == ""
    assert difference(answer(y=["1.0", "blue"]), answer(y=["1.001", "blue"]), 0.1) == (
        "output 'y' differs in 1 of 2 elements"
    )


def test_outputs_are_matched_by_name_and_a_new_one_is_no_difference() -> None:
    one, other = answer(a=[1.0], b=[2.0]), answer(c=[3.0], b=[2.0], a=[1.0])
    assert difference(one, other, 0.0) == ""
    assert difference(other, one, 0.0) == "output 'c' is missing"


def test_shapes_and_kinds_of_datatype_must_be_equal() -> None:
    assert difference(answer(y=[[1.0]]), answer(y=[1.0]), 1.0) == (
        "output 'y' has shape [1], not [1, 1]"
    )
    assert difference(answer(y=[1.0]), answer(y=["1.0"]), 1.0) == (
        "output 'y' has datatype BYTES, not FP64"
    )


@pytest.mark.parametrize(
    ("expected", "found", "agrees"),
    [
        ({"a": [1.0, "x"], "b": None}, {"b": None, "a": [1.0004, "x"]}, True),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, False),
        ({"a": 1.0}, {"b": 1.0}, False),
        ([1.0], [1.0, 1.0], False),
        ([1.0], {"0": 1.0}, False),
        (True, 1, False),
        (1, 1.0, True),
        (1.0, "1.0", False),
        (1.0, None, False),
        ("x", "y", False),
    ],
)
def test_json_is_compared_by_its_values(expected: Any, found: Any, agrees: bool) -> None:
    assert (difference(in_json(expected), in_json(found), 1e-3) == "") is agrees


def test_json_of_any_depth_is_compared() -> None:
    deep = "[" * 900 + "%s" + "]" * 900
    pack = [pack_bytes([(deep % number).encode()]) for number in ("1.0", "1.0001", "2.0")]
    answers = [
        InferenceResponse([Tensor("y", "BYTES", [1], data)], {"content_type": "json"})
        for data in pack
    ]
    assert difference(answers[0], answers[1], 1e-3) == ""
    assert difference(answers[0], answers[2], 1e-3) == "output 'y' differs in 1 of 1 elements"


def test_text_that_is_not_json_differs_where_it_is_not_the_same() -> None:
    broken = [
        InferenceResponse([Tensor("y", "BYTES", [1], pack_bytes([text]), {"content_type": "json"})])
        for text in (b"{1", b"{2")
    ]
    assert difference(broken[0], broken[0], 0.0) == ""
    assert difference(broken[0], broken[1], 0.0) != ""


def test_half_precision_numbers_are_compared_as_numbers() -> None:
    # 1.0 and the next number after it, which is 1/128 apart.
    one, next_one = (
        InferenceResponse([Tensor("y", "BF16", [1], bits.to_bytes(2, "little"))])
        for bits in (0x3F80, 0x3F81)
    )
    assert difference(one, next_one, 0.01) == ""
    assert difference(one, next_one, 0.001) != ""


def test_an_answer_without_elements_agrees_with_another_one() -> None:
    empty: list[float] = []
    assert difference(answer(y=empty), answer(y=empty), 0.0) == ""
