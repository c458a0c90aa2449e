from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import InvalidInput
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import InferenceResponse, TensorMetadata
from headrace.protocol.open_inference.rest_binary import RestRequest, decode_raw
from headrace.protocol.open_inference.rest_json import decode_request, encode_response
from headrace.protocol.tensor import pack_bytes

PAIR = struct.pack("<2d", 1.5, 2.5)


def binary(size: Any, datatype: str = "FP64", shape: Any = (2,), **more: Any) -> dict[str, Any]:
    parameters = {"binary_data_size": size}
    return {
        "name": "x", "datatype": datatype, "shape": list(shape), "parameters": parameters, **more
    }  # fmt: skip


def decode(inputs: list[dict[str, Any]], raw: bytes, **more: Any) -> RestRequest:
    head = json.dumps({"inputs": inputs, **more}).encode()
    return decode_request(head + raw, len(head))


def test_raw_tensors_follow_in_input_order() -> None:
    second = {**binary(3, "BOOL", (3,)), "name": "z"}
    inline = {"name": "y", "datatype": "INT8", "shape": [1], "data": [7]}
    decoded = decode([binary(16), inline, second], PAIR + b"\1\0\1").request.inputs
    assert [bytes(tensor.data) for tensor in decoded] == [PAIR, b"\7", b"\1\0\1"]


def test_raw_tensors_are_views_of_the_body() -> None:
    assert isinstance(decode([binary(16)], PAIR).request.inputs[0].data, memoryview)


def test_the_size_parameter_is_not_passed_on() -> None:
    plain = binary(16)
    kept = {**binary(16), "name": "y"}
    kept["parameters"] = {**kept["parameters"], "content_type": "np"}
    inputs = decode([plain, kept], PAIR + PAIR).request.inputs
    assert [tensor.parameters for tensor in inputs] == [None, {"content_type": "np"}]


@pytest.mark.parametrize("size", [-1, True, 16.0, "16", None, [16]], ids=repr)
def test_an_invalid_size_is_refused(size: Any) -> None:
    with pytest.raises(InvalidInput, match="'x': parameter binary_data_size must be an integer"):
        decode([binary(size)], PAIR)


@pytest.mark.parametrize("size", [17, 10**30], ids=["one-more", "huge"])
def test_a_size_beyond_the_body_is_refused(size: int) -> None:
    with pytest.raises(InvalidInput, match="'x': binary_data_size asks for .* 16 left"):
        decode([binary(size)], PAIR)


def test_bytes_left_over_are_refused() -> None:
    with pytest.raises(InvalidInput, match="1 bytes of binary tensor data follow the last input"):
        decode([binary(16)], PAIR + b"\0")


def test_a_size_that_does_not_fit_the_shape_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'x': byte size mismatch.*needs 24 bytes, got 16"):
        decode([binary(16, shape=(3,))], PAIR)


def test_data_along_with_a_size_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'x': expected either data or binary_data_size"):
        decode([binary(16, data=[1.5, 2.5])], PAIR)


def test_a_size_without_the_header_is_refused() -> None:
    body = json.dumps({"inputs": [binary(16)]}).encode()
    with pytest.raises(InvalidInput, match="'x': binary_data_size needs the header"):
        decode_request(body)


@pytest.mark.parametrize("length", [-1, 3, 10**12])
def test_a_header_length_outside_the_body_is_refused(length: int) -> None:
    with pytest.raises(InvalidInput, match="Inference-Header-Content-Length must be from 0"):
        decode_request(b"{}", length)


def test_a_bool_byte_of_two_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'x', row .: expected the byte 0 or 1"):
        decode([binary(2, "BOOL")], b"\1\2")


def test_a_wrong_bytes_length_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'x'.*reaches past the end"):
        decode([binary(6, "BYTES", (1,))], b"\xff\0\0\0ab")


@pytest.mark.parametrize("shape", [(-1, 2), (2**31,), (1,) * 33], ids=["negative", "huge", "rank"])
def test_a_bad_shape_of_a_binary_tensor_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="'x': shape"):
        decode([binary(16, shape=shape)], PAIR)


@pytest.mark.parametrize(
    ("request_parameter", "output_parameter", "wanted"),
    [
        (None, None, False),
        (True, None, True),
        (False, None, False),
        (None, True, True),
        (False, True, True),
        (True, False, False),
    ],
)
def test_an_output_parameter_overrides_the_request(
    request_parameter: bool | None, output_parameter: bool | None, wanted: bool
) -> None:
    head: dict[str, Any] = {"outputs": [{"name": "y"}]}
    if request_parameter is not None:
        head["parameters"] = {"binary_data_output": request_parameter}
    if output_parameter is not None:
        head["outputs"][0]["parameters"] = {"binary_data": output_parameter}
    decoded = decode([binary(16)], PAIR, **head)
    assert ("y" in decoded.binary_outputs) is wanted
    assert ("other" in decoded.binary_outputs) is bool(request_parameter)
    assert decoded.request.parameters is None


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"parameters": {"binary_data_output": 1}}, "request: parameter binary_data_output"),
        (
            {"outputs": [{"name": "y", "parameters": {"binary_data": "yes"}}]},
            r"outputs\[0\]: parameter binary_data",
        ),
    ],
    ids=["request", "output"],
)
def test_a_binary_flag_must_be_a_boolean(more: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput, match=f"{where} must be true or false"):
        decode([binary(16)], PAIR, **more)


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BOOL"])
def test_binary_round_trips_bit_exactly(datatype: str) -> None:
    itemsize = DATATYPES[datatype].itemsize

    @settings(max_examples=25, deadline=None, database=None)
    @given(st.integers(0, 5), st.data())
    def check(count: int, data: st.DataObject) -> None:
        if itemsize:
            raw = data.draw(st.binary(min_size=count * itemsize, max_size=count * itemsize))
        else:
            raw = pack_bytes([data.draw(st.binary(max_size=5)) for _ in range(count)])
        tensor = decode([binary(len(raw), datatype, (count,))], raw).request.inputs[0]
        body, length = encode_response(
            InferenceResponse([tensor]),
            model_name="m", model_version=None, id="", binary_outputs={"x"},
        )  # fmt: skip
        assert body[length:] == raw

    check()


@pytest.mark.parametrize(
    ("datatype", "values"),
    [("FP64", [0.1, 1e300]), ("FP32", [0.1, 2.5]), ("INT16", [-3, 4]), ("BOOL", [True, False])],
    ids=["FP64", "FP32", "INT16", "BOOL"],
)
def test_json_and_binary_decode_to_the_same_tensor(datatype: str, values: list[Any]) -> None:
    raw = np.array(values, DATATYPES[datatype].numpy).tobytes()
    inline = {"name": "x", "datatype": datatype, "shape": [2], "data": values}
    from_json = decode_request(json.dumps({"inputs": [inline]}).encode()).request.inputs[0]
    from_raw = decode([binary(len(raw), datatype)], raw).request.inputs[0]
    assert bytes(from_json.data) == bytes(from_raw.data)
    assert from_json.shape == from_raw.shape


@pytest.mark.parametrize(
    ("declared", "shape"),
    [([2], [2]), ([-1], [2]), ([-1, 2], [1, 2]), ([-1, -1], [1, 2]), ([2, -1, 1], [2, 1, 1])],
    ids=repr,
)
def test_a_raw_body_determines_the_free_dimension(declared: list[int], shape: list[int]) -> None:
    decoded = decode_raw(PAIR, [TensorMetadata("x", "FP64", declared)])
    tensor = decoded.request.inputs[0]
    assert (tensor.shape, bytes(tensor.data)) == (shape, PAIR)
    assert "anything" in decoded.binary_outputs


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ([3], "byte size mismatch"),
        ([-1, 3], "byte size mismatch"),
        ([-1, 0], "byte size mismatch"),
        ([2, -1, -1], "cannot determine 2 free dimensions"),
        ([-1, -1, -1], "cannot determine 3 free dimensions"),
    ],
    ids=repr,
)
def test_a_raw_body_that_fits_no_shape_is_refused(declared: list[int], why: str) -> None:
    with pytest.raises(InvalidInput, match=f"'x': .*{why}"):
        decode_raw(PAIR, [TensorMetadata("x", "FP64", declared)])


def test_a_raw_body_of_bytes_is_one_element() -> None:
    decoded = decode_raw(b"abc", [TensorMetadata("x", "BYTES", [-1])])
    tensor = decoded.request.inputs[0]
    assert (tensor.shape, tensor.data) == ([1], b"\3\0\0\0abc")


@pytest.mark.parametrize("count", [0, 2])
def test_a_raw_body_needs_exactly_one_input(count: int) -> None:
    with pytest.raises(InvalidInput, match=f"exactly one input, this one has {count}"):
        decode_raw(PAIR, [TensorMetadata("x", "FP64", [2])] * count)
