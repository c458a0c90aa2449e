"""MLServer's examples give the length of a lone text as its shape, and may omit the array."""

from __future__ import annotations

import json

import pytest

from headrace.errors import InvalidInput
from headrace.protocol.open_inference import grpc_messages, rest_json
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.tensor import unpack_bytes


def over_rest(shape, data, datatype="BYTES"):
    item = {"name": "x", "shape": shape, "datatype": datatype, "data": data}
    (tensor,) = rest_json.decode_request(json.dumps({"inputs": [item]}).encode()).request.inputs
    return list(tensor.shape), unpack_bytes(tensor.data, 1)


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        pytest.param([5], ["grün!"], id="characters"),
        pytest.param([6], ["grün!"], id="bytes"),
        pytest.param([5], "grün!", id="no array"),
        pytest.param([1, 1], "grün!", id="no array, one element"),
        pytest.param([11], "grün!", id="no array, the length of another text"),
    ],
)
def test_over_rest_it_is_one_element(shape, data):
    assert over_rest(shape, data) == ([1], ["grün!".encode()])


@pytest.mark.parametrize(
    ("shape", "data", "datatype"),
    [
        pytest.param([4], ["grün!"], "BYTES", id="another length"),
        pytest.param([5, 1], ["grün!"], "BYTES", id="two dimensions"),
        pytest.param([2], ["ab", "cd", "ef"], "BYTES", id="several texts"),
        pytest.param([2, 9], "grün!", "BYTES", id="no array, another shape"),
        pytest.param([2], "12", "INT8", id="numbers as text"),
        pytest.param([2], {"a": "bc"}, "BYTES", id="an object"),
    ],
)
def test_over_rest_anything_else_is_refused(shape, data, datatype):
    with pytest.raises(InvalidInput, match="data"):
        over_rest(shape, data, datatype)


def test_a_text_outside_an_array_says_what_is_wrong_with_its_shape():
    with pytest.raises(InvalidInput, match=r"single text.*shape \[2, 9\] needs 18"):
        over_rest([2, 9], "grün!")


def over_grpc(*elements, shape):
    message = pb.ModelInferRequest()
    item = message.inputs.add(name="x", datatype="BYTES", shape=shape)
    item.contents.bytes_contents.extend(elements)
    return grpc_messages.decode_request(message)


def test_over_grpc_it_is_one_element():
    (tensor,) = over_grpc("grün!".encode(), shape=[6]).request.inputs

    assert (tensor.shape, unpack_bytes(tensor.data, 1)) == ([1], ["grün!".encode()])


def test_over_grpc_another_length_is_refused():
    with pytest.raises(InvalidInput, match="needs 5 elements, data has 1"):
        over_grpc(b"four", shape=[5])
