from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from headrace.errors import BadModelOutput
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.mlflow.scoring import encode
from headrace.protocol.tensor import Tensor, pack_bytes


def doubles(name: str, values: list, shape: list[int] | None = None) -> Tensor:
    return Tensor(name, "FP64", shape or [len(values)], np.array(values, "<f8").tobytes())


def texts(
    name: str, values: list[str], kind: str = "str", shape: list[int] | None = None
) -> Tensor:
    data = pack_bytes([value.encode() for value in values])
    return Tensor(name, "BYTES", shape or [len(values)], data, {"content_type": kind})


def answer(*outputs: Tensor, kind: str = "np") -> object:
    body = encode(InferenceResponse(list(outputs), {"content_type": kind}))
    return json.loads(body, parse_constant=pytest.fail)["predictions"]


def test_vector_is_a_list():
    assert encode(InferenceResponse([doubles("output-1", [5.5])])) == b'{"predictions":[5.5]}'


def test_unwrapped_answer_stands_alone():
    assert encode(InferenceResponse([doubles("output-1", [5.5])]), None) == b"[5.5]"


def test_matrix_is_nested():
    assert answer(doubles("x", [1, 2, 3, 4], [2, 2])) == [[1, 2], [3, 4]]


def test_nan_and_infinity_become_null():
    assert answer(doubles("x", [float("nan"), float("inf"), 1])) == [None, None, 1]


def test_float32_keeps_the_digits_mlflow_writes():
    item = Tensor("x", "FP32", [1], np.array([0.1], "<f4").tobytes())
    assert answer(item) == [0.10000000149011612]


def test_half_precision_and_bfloat_widen():
    assert answer(Tensor("x", "FP16", [1], np.array([0.5], "<f2").tobytes())) == [0.5]
    assert answer(Tensor("x", "BF16", [1], struct.pack("<H", 0x3FC0))) == [1.5]


def test_unaligned_data_is_read_correctly():
    data = memoryview(b"\0" + np.array([1.5, 2.5], "<f8").tobytes())[1:]
    assert answer(Tensor("x", "FP64", [2], data)) == [1.5, 2.5]


def test_several_outputs_are_an_object():
    assert answer(doubles("a", [1]), doubles("b", [2])) == {"a": [1], "b": [2]}


def test_dict_answer_of_one_output_is_an_object():
    assert answer(doubles("a", [1]), kind="dict") == {"a": [1]}


def test_table_is_a_list_of_records():
    rows = answer(doubles("a", [1, float("nan")]), texts("b", ["x", "y"]), kind="pd")
    assert rows == [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]


def test_table_column_of_width_one_is_flat():
    assert answer(doubles("a", [1, 2], [2, 1]), kind="pd") == [{"a": 1}, {"a": 2}]


def test_texts_are_strings():
    assert answer(texts("x", ["Käse", "b"]), kind="str") == ["Käse", "b"]
    assert answer(texts("x", list("abcd"), shape=[2, 2])) == [["a", "b"], ["c", "d"]]


def test_json_answer_is_spliced():
    assert answer(texts("x", ['{"a": [1]}'], "json", [1]), kind="json") == {"a": [1]}


def test_json_cells_are_spliced():
    assert answer(texts("a", ["[1]", "null"], "pd_json"), kind="pd") == [{"a": [1]}, {"a": None}]


def test_scalar_answer_is_a_number():
    assert answer(Tensor("x", "FP64", [], struct.pack("<d", 2.5))) == 2.5


def test_bytes_that_are_not_text_are_the_models_fault():
    with pytest.raises(BadModelOutput, match="output 'x' holds bytes that are not UTF-8"):
        answer(Tensor("x", "BYTES", [1], pack_bytes([b"\xff"])))


def test_columns_of_different_lengths_are_the_models_fault():
    with pytest.raises(BadModelOutput, match="differ in their number of rows"):
        answer(doubles("a", [1]), doubles("b", [1, 2]), kind="pd")


def test_answer_without_outputs_is_the_models_fault():
    with pytest.raises(BadModelOutput, match="no outputs"):
        answer()


def test_table_without_columns_is_an_empty_list():
    assert answer(kind="pd") == []
