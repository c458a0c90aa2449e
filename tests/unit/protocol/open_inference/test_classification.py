"""Outputs as their highest elements in text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.errors import InvalidInput
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import InferenceResponse, ModelMetadata, TensorMetadata
from headrace.protocol.open_inference.classification import classify, read_counts
from headrace.protocol.tensor import Tensor, pack_bytes, unpack_bytes


def classified(
    values: Any, datatype: str, shape: list[int], count: int, labels: Any = None
) -> tuple[list[int], list[str]]:
    data = np.array(values, DATATYPES[datatype].numpy).tobytes()
    parameters = {} if labels is None else {"labels": labels}
    metadata = ModelMetadata(outputs=[TensorMetadata("y", datatype, shape, parameters)])
    response = InferenceResponse([Tensor("y", datatype, shape, data)])
    (output,) = classify(response, {"y": count}, metadata).outputs
    size = int(np.prod(output.shape))
    return list(output.shape), [text.decode() for text in unpack_bytes(output.data, size)]


@pytest.mark.parametrize(
    ("datatype", "values", "expected"),
    [
        ("UINT8", [0, 255, 7], ["255:1", "7:2", "0:0"]),
        ("INT64", [-(2**63), 2**63 - 1, 2**53 + 1],
         ["9223372036854775807:1", "9007199254740993:2", "-9223372036854775808:0"]),
        ("UINT64", [2**64 - 1, 0, 1], ["18446744073709551615:0", "1:2", "0:1"]),
        ("FP16", [0.1, 2, -65504], ["2.0:1", "0.1:0", "-6.55e+04:2"]),
        ("FP32", [0.1, 1e-9, 3e38], ["3e+38:2", "0.1:0", "1e-09:1"]),
        ("FP64", [0.1, 1 / 3, 5e-324], ["0.3333333333333333:1", "0.1:0", "5e-324:2"]),
        ("BF16", [0x3FC0, 0xC000, 0x4000], ["2.0:2", "1.5:0", "-2.0:1"]),
    ],
)  # fmt: skip
def test_a_value_is_written_so_that_it_reads_back_the_same(
    datatype: str, values: Any, expected: list[str]
) -> None:
    assert classified(values, datatype, [1, 3], 3) == ([1, 3], expected)


def test_equal_values_are_in_the_order_of_their_indices() -> None:
    assert classified([1, 3, 3, 1], "INT8", [4], 4)[1] == ["3:1", "3:2", "1:0", "1:3"]


def test_nan_is_below_every_number() -> None:
    values = [np.nan, -np.inf, 1.0]

    assert classified(values, "FP64", [3], 3)[1] == ["1.0:2", "nan:0", "-inf:1"]


def test_all_dimensions_after_the_first_are_classes() -> None:
    shape, texts = classified(range(12), "INT32", [2, 2, 3], 1)

    assert (shape, texts) == ([2, 1], ["5:5", "11:5"])


@pytest.mark.parametrize(("shape", "expected"), [([0, 3], [0, 2]), ([0], [0]), ([2, 0], [2, 0])])
def test_an_output_without_elements_has_no_classes(shape: list[int], expected: list[int]) -> None:
    assert classified([], "FP64", shape, 2) == (expected, [])


def test_a_scalar_is_the_only_class() -> None:
    assert classified([2.5], "FP64", [], 3) == ([1], ["2.5:0"])


def test_a_class_beyond_the_labels_has_none() -> None:
    assert classified([1, 9, 5], "INT8", [3], 3, ["a", "b"])[1] == ["9:1:b", "5:2", "1:0:a"]


def test_outputs_that_are_not_asked_for_stay_as_they_are() -> None:
    other = Tensor("other", "BYTES", [1], pack_bytes([b"a"]))
    numbers = Tensor("y", "INT8", [1], b"\1")

    answer = classify(InferenceResponse([other, numbers], {"n": 1}), {"y": 1}, ModelMetadata())

    assert (answer.outputs[0], answer.outputs[1].datatype) == (other, "BYTES")
    assert answer.parameters == {"n": 1}


@pytest.mark.parametrize("datatype", ["BYTES", "BOOL"])
def test_what_is_no_number_has_no_order(datatype: str) -> None:
    response = InferenceResponse([Tensor("y", datatype, [0], b"")])

    with pytest.raises(InvalidInput, match=f"'y': .* needs numbers, the model answers {datatype}"):
        classify(response, {"y": 1}, ModelMetadata())


def test_no_classes_are_wanted_of_outputs_that_say_nothing_or_zero() -> None:
    asked = [("a", None), ("b", {"binary_data": True}), ("c", {"classification": 0})]

    assert read_counts([*asked, ("d", {"classification": 3})]) == {"d": 3}
