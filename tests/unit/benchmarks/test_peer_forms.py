"""Each form of a request is what its server reads, and its answers are read right."""

from __future__ import annotations

import json

import numpy as np
import pytest
from benchmarks.peers import answers, forms

from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.rest_json import decode_request

ROW = np.array([[1.5, 2.0]])
MATRIX = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


def test_a_tensor_is_read_as_the_rows_it_holds():
    request = decode_request(forms.tensor("wine").encode(MATRIX).body).request

    assert np.frombuffer(request.inputs[0].data, np.float32).tolist() == [1, 2, 3, 4]


def test_a_binary_tensor_is_read_as_the_rows_it_holds():
    message = forms.binary("pixels").encode(MATRIX)
    length = int(message.headers["Inference-Header-Content-Length"])
    request = decode_request(message.body, length).request

    assert np.frombuffer(request.inputs[0].data, np.float32).tolist() == [1, 2, 3, 4]


def test_a_binary_answer_is_read_behind_its_header():
    answer = b'{"outputs":[]}' + np.array([1.5, -2.0]).tobytes()

    assert forms.binary("pixels").decode(answer) == [1.5, -2.0]


def test_each_column_has_a_tensor_of_its_own():
    body = json.loads(forms.columns("wine", ["a", "b"]).encode(ROW).body)

    assert [(each["name"], each["data"]) for each in body["inputs"]] == [("a", [1.5]), ("b", [2.0])]


@pytest.mark.parametrize("is_raw", [True, False])
def test_predictions_of_a_grpc_answer_are_read_in_both_forms(is_raw):
    answer = pb.ModelInferResponse()
    output = answer.outputs.add(name="predict", datatype="FP64", shape=[1])
    if is_raw:
        answer.raw_output_contents.append(np.array([2.5]).tobytes())
    else:
        output.contents.fp64_contents.append(2.5)

    assert forms.grpc("wine").decode(answer.SerializeToString()) == [2.5]


def test_what_wrk_looks_for_is_in_the_answer():
    answer = b'{"outputs":[{"data":[5.577155103761037]}]}'

    assert forms.tensor("wine").part([5.577155103761038]) in answer


@pytest.mark.parametrize(
    ("got", "agree"),
    [([1.0, 2.0], True), ([[1.0], [2.0]], True), ([1.0], False), ([1.0, 2.1], False)],
)
def test_predictions_agree_only_if_all_do(got, agree):
    assert answers.agree(got, [1.0, 2.0]) is agree
