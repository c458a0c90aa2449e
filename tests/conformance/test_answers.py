"""An answer is the same over every transport."""

from __future__ import annotations

import math
import struct

import pytest

from conformance.transports import Refused, Tensor
from support.asking import ask

pytestmark = pytest.mark.e2e

EXTREMES = [
    Tensor("x", "BOOL", [3], [True, False, True]),
    *[Tensor("x", f"UINT{n}", [2], [0, 2**n - 1]) for n in (8, 16, 32, 64)],
    *[Tensor("x", f"INT{n}", [2], [-(2 ** (n - 1)), 2 ** (n - 1) - 1]) for n in (8, 16, 32, 64)],
    Tensor("x", "FP32", [4], [0.5, -3.4028234663852886e38, -0.0, 1.401298464324817e-45]),
    Tensor("x", "FP64", [4], [0.1, 1.7976931348623157e308, -0.0, 5e-324]),
    Tensor("x", "BYTES", [3], [b"mill", b"", "M\u00fchle \u2713".encode()]),
]
# Transports that carry every byte and every number.
RAW = ["REST binary", "gRPC raw", "gRPC typed", "native gRPC raw", "native gRPC typed"]
SHAPES = [[6], [2, 3], [3, 2, 1], [1, 1, 6]]


@pytest.mark.parametrize("tensor", EXTREMES, ids=[t.datatype for t in EXTREMES])
def test_the_extremes_of_a_datatype_come_back_the_same(tensor, transport):
    (output,) = transport.infer("echo", [tensor]).outputs

    assert output == tensor
    # Minus zero equals zero, but is not the same.
    assert repr(output.values) == repr(tensor.values)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_shape_comes_back_the_same(shape, transport):
    tensor = Tensor("x", "INT32", shape, [1, 2, 3, 4, 5, 6])

    assert transport.infer("echo", [tensor]).outputs == [tensor]


@pytest.mark.parametrize("datatype", ["BOOL", "INT8", "UINT64", "FP32", "FP64", "BYTES"])
@pytest.mark.parametrize("shape", [[0], [0, 3], [2, 0]], ids=str)
def test_a_tensor_without_elements_comes_back_the_same(shape, datatype, transport):
    tensor = Tensor("x", datatype, shape, [])

    assert transport.infer("echo", [tensor]).outputs == [tensor]


def test_a_scalar_comes_back_the_same(transport):
    tensor = Tensor("x", "FP64", [], [2.5])

    assert transport.infer("echo", [tensor]).outputs == [tensor]


@pytest.mark.parametrize("datatype", ["FP64", "FP32", "INT32", "UINT8", "BOOL"])
def test_many_elements_come_back_the_same(datatype, transport):
    values = [n % 2 == 0 for n in range(5000)] if datatype == "BOOL" else [*range(200)] * 25
    tensor = Tensor("x", datatype, [50, 100], values)

    assert transport.infer("echo", [tensor]).outputs == [tensor]


@pytest.mark.parametrize("name", ["REST JSON", "REST binary", "gRPC raw", "native gRPC raw"])
def test_half_precision_comes_back_the_same(name, transports):
    tensor = Tensor("x", "FP16", [3], [0.5, -65504.0, 2.0**-24])

    assert transports[name].infer("echo", [tensor]).outputs == [tensor]


@pytest.mark.parametrize("name", ["gRPC typed", "native gRPC typed"])
def test_half_precision_has_no_typed_contents(name, transports):
    tensor = Tensor("x", "FP16", [1], [0.5])

    with pytest.raises(Refused) as refused:
        transports[name].infer("echo", [tensor])

    assert refused.value.kind == "invalid_argument"
    assert refused.value.message.startswith("input 'x': FP16 has no typed contents")


@pytest.mark.parametrize("name", RAW)
def test_nan_keeps_its_bits_where_it_can_be_written(name, transports):
    tensor = Tensor("x", "FP64", [3], [math.nan, math.inf, -math.inf])

    (output,) = transports[name].infer("echo", [tensor]).outputs

    assert struct.pack("<3d", *output.values) == struct.pack("<3d", *tensor.values)


@pytest.mark.parametrize("name", RAW)
def test_bytes_that_are_not_text_come_back_the_same(name, transports):
    tensor = Tensor("x", "BYTES", [2], [b"\x00\xff\xfe", b"\x80"])

    assert transports[name].infer("echo", [tensor]).outputs == [tensor]


def test_several_tensors_keep_their_order_and_names(transport):
    tensors = [
        Tensor("b", "FP64", [2], [1.0, 2.0]),
        Tensor("a", "BYTES", [1], [b"mill"]),
        Tensor("c", "BOOL", [1, 1], [True]),
    ]

    assert transport.infer("echo", tensors).outputs == tensors


def test_an_array_is_computed_the_same_as_by_invocations(transport, announced):
    values = [0.1, 1 / 3, -1e300]
    body = {"inputs": {"x": values}}

    (output,) = transport.infer("double", [Tensor("x", "FP64", [3], values)]).outputs
    scored = ask(announced["http"], "POST", "/v2/models/double/invocations", body)

    assert output.values == [value * 2 for value in values]
    assert scored.json["predictions"] == output.values


def test_a_masked_float_is_nan_or_null(transport):
    (output,) = transport.infer("masked", [Tensor("x", "FP64", [1], [1.0])], outputs=["f"]).outputs

    assert (output.datatype, output.shape) == ("FP64", [2])
    assert output.values[0] == 1.5
    assert output.values[1] is None or math.isnan(output.values[1])


def test_a_masked_integer_is_null_in_json(transports):
    asked = [Tensor("x", "FP64", [1], [1.0])]
    (output,) = transports["REST JSON"].infer("masked", asked, outputs=["n"]).outputs

    assert (output.datatype, output.values) == ("INT64", [1, None])


@pytest.mark.parametrize("name", RAW)
def test_a_masked_integer_is_refused_where_it_cannot_be_null(name, transports):
    with pytest.raises(Refused, match="output 'n' has 1 missing values") as refused:
        transports[name].infer("masked", [Tensor("x", "FP64", [1], [1.0])], outputs=["n"])

    assert "bad_model_output" in refused.value.kinds


def test_the_wanted_outputs_are_named(transport):
    tensor = Tensor("x", "FP64", [1], [1.0])

    answer = transport.infer("double", [tensor], outputs=["output-1"])

    assert [output.name for output in answer.outputs] == ["output-1"]


def test_parameters_reach_the_model_and_come_back(transport):
    given = {"flag": True, "int": -7, "large": 2**64 - 1, "float": 0.1, "whole": 2.0, "text": "ü"}
    tensor = Tensor("x", "FP64", [1], [1.0], {"unit": "m", "n": 3, "exact": False})

    answer = transport.infer("echo", [tensor], parameters=given)

    assert answer.parameters == given
    assert {name: type(value) for name, value in answer.parameters.items()} == {
        name: type(value) for name, value in given.items()
    }
    assert answer.outputs[0].parameters == tensor.parameters


def test_the_answer_names_the_model_and_the_id(transport):
    answer = transport.infer("echo", [Tensor("x", "FP64", [1], [1.0])], id="abc")

    assert (answer.id, answer.model_name, answer.model_version) == ("abc", "echo", "3")


def test_a_model_can_be_asked_for_by_its_version(transport):
    answer = transport.infer("echo", [Tensor("x", "FP64", [1], [1.0])], version="3")

    assert answer.model_version == "3"


def test_the_request_id_is_returned_and_used_as_the_id(transport):
    answer = transport.infer("echo", [Tensor("x", "FP64", [1], [1.0])], request_id="trace-7")

    assert (answer.request_id, answer.id) == ("trace-7", "trace-7")


def test_a_request_without_an_id_gets_one_of_its_own(transport):
    tensor = Tensor("x", "FP64", [1], [1.0])

    first, second = (transport.infer("echo", [tensor]) for _ in range(2))

    assert first.request_id
    assert first.request_id == first.id != second.id
