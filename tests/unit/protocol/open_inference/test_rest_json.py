from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from headrace.errors import BadModelOutput, InvalidInput
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.open_inference.rest_binary import ALL_OUTPUTS
from headrace.protocol.open_inference.rest_json import decode_request, encode_response
from headrace.protocol.tensor import Tensor, pack_bytes

X = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.5, 2]}


def body(**members: Any) -> bytes:
    return json.dumps({"inputs": [X], **members}).encode()


def with_input(**members: Any) -> bytes:
    return json.dumps({"inputs": [{**X, **members}]}).encode()


def answer(*outputs: Tensor, **options: Any) -> dict[str, Any]:
    parameters = options.pop("parameters", None)
    settings = {"model_name": "m", "model_version": "1", "id": "a", **options}
    text, length = encode_response(InferenceResponse(list(outputs), parameters), **settings)
    assert length is None
    return json.loads(text)  # type: ignore[no-any-return]


def test_a_request_becomes_tensors() -> None:
    decoded = decode_request(body())
    request = decoded.request
    tensor = request.inputs[0]
    assert (tensor.name, tensor.datatype, tensor.shape) == ("x", "FP64", [1, 2])
    assert tensor.data == struct.pack("<2d", 1.5, 2.0)
    assert (request.id, request.parameters, request.outputs) == ("", None, None)
    assert not decoded.binary_outputs


def test_unknown_keys_are_ignored() -> None:
    assert decode_request(body(surprise={"a": [1]})).request.inputs[0].name == "x"


@pytest.mark.parametrize("outputs", [None, []])
def test_no_requested_outputs_means_all(outputs: Any) -> None:
    assert decode_request(body(outputs=outputs)).request.outputs is None


def test_requested_outputs_are_named_in_order() -> None:
    outputs = [{"name": "z"}, {"name": "y", "parameters": {"classification": 3}}]
    assert decode_request(body(outputs=outputs)).request.outputs == ["z", "y"]


@pytest.mark.parametrize("value", ["np", 3, 1.5, True, None, ["a", 1], {"k": [2]}], ids=repr)
def test_parameters_hold_any_json_value(value: Any) -> None:
    request = decode_request(body(parameters={"p": value})).request
    assert request.parameters == {"p": value}
    tensor = decode_request(with_input(parameters={"p": value})).request.inputs[0]
    assert tensor.parameters == {"p": value}


@pytest.mark.parametrize("parameters", [{}, None])
def test_empty_parameters_are_none(parameters: Any) -> None:
    assert decode_request(body(parameters=parameters)).request.parameters is None
    assert decode_request(with_input(parameters=parameters)).request.inputs[0].parameters is None


@pytest.mark.parametrize("value", [["np"], {"np": 1}, 5, True], ids=repr)
def test_a_content_type_is_a_string(value: Any) -> None:
    parameters = {"content_type": value}
    with pytest.raises(InvalidInput, match="^request: parameter content_type must be a string$"):
        decode_request(body(parameters=parameters))
    with pytest.raises(InvalidInput, match="^input 'x': parameter content_type must be a string$"):
        decode_request(with_input(parameters=parameters))


def test_a_content_type_is_not_longer_than_a_name() -> None:
    assert decode_request(body(parameters={"content_type": "my.codec"})).request.parameters
    with pytest.raises(InvalidInput, match="content_type has 257 characters, at most 256 allowed"):
        decode_request(body(parameters={"content_type": "n" * 257}))


def test_transport_parameters_are_not_passed_on() -> None:
    request = decode_request(body(parameters={"binary_data_output": True, "k": 1})).request
    assert request.parameters == {"k": 1}


@pytest.mark.parametrize("text", [b"", b"{", b"{]", b"\xff\xfe", b'{"inputs":[}', b"nul"], ids=repr)
def test_text_that_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(
        InvalidInput, match="^the request body is (empty|not valid JSON: |not valid UTF-8 at byte)"
    ):
        decode_request(text)


def test_a_key_of_an_input_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(InvalidInput, match="^the request body is not valid UTF-8 at byte"):
        decode_request(body().replace(b'"data"', b'"\xff": 1, "data"'))


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "01", "1null", "0x1"])
def test_literals_that_are_not_json_are_refused(literal: str) -> None:
    with pytest.raises(InvalidInput, match="not valid JSON"):
        decode_request(body().replace(b"1.5", literal.encode()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[]", "the request body: expected object, got array"),
        (b"3", "the request body: expected object, got integer"),
        (b"{}", "inputs is missing"),
        (b'{"dataframe_split": {}}', "inputs is missing; 'dataframe_split' is for .*/invocations"),
        (b'{"inputs":[]}', "inputs is empty"),
        (b'{"inputs":{}}', "inputs: expected array, got object"),
        (b'{"inputs":[1]}', r"inputs\[0\]: expected object, got integer"),
        (b'{"inputs":[{}]}', r"inputs\[0\]\.name is missing"),
        (body(id=3), "id: expected string, got integer"),
        (body(parameters=[]), "parameters: expected object, got array"),
        (body(outputs=[{}]), r"outputs\[0\]\.name is missing"),
        (body(outputs=["y"]), r"outputs\[0\]: expected object, got string"),
        (with_input(name=None), r"inputs\[0\]\.name: expected string, got null"),
        (with_input(datatype=1), r"inputs\[0\]\.datatype: expected string, got integer"),
        (with_input(datatype="FP8"), "input 'x': unknown datatype 'FP8'"),
        (with_input(shape=2), r"inputs\[0\]\.shape: expected array, got integer"),
        (with_input(data=None), "input 'x': data must be an array"),
    ],
)
def test_a_wrong_form_is_named_by_its_path(text: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{message}"):
        decode_request(text)


@pytest.mark.parametrize("member", ["name", "shape", "datatype", "data"])
def test_a_missing_member_is_named(member: str) -> None:
    text = json.dumps({"inputs": [{key: X[key] for key in X if key != member}]}).encode()
    with pytest.raises(InvalidInput, match=f"{member} is missing$"):
        decode_request(text)


@pytest.mark.parametrize(
    "dim", ["true", "1.5", '"3"', "null", "1e30", "9" * 5000], ids=lambda dim: dim[:5]
)
def test_a_dimension_that_is_not_an_integer_is_refused(dim: str) -> None:
    text = body().replace(b"[1, 2]", f"[1, {dim}]".encode())
    with pytest.raises(InvalidInput, match=r"^inputs\[0\]\.shape\[1\]: (expected integer|number)"):
        decode_request(text)


@pytest.mark.parametrize(
    "shape",
    [[-1, 2], [2**31], [10**30], [1] * 33],
    ids=["negative", "large", "enormous", "rank"],
)
def test_a_dimension_out_of_range_is_refused(shape: list[int]) -> None:
    with pytest.raises(InvalidInput, match="^input 'x': shape"):
        decode_request(with_input(shape=shape))


def test_a_huge_claimed_shape_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(InvalidInput, match="input 'x': shape .* elements, data has 2"):
        decode_request(with_input(shape=[2**31 - 1] * 32))


# Their product would take ten minutes.
@pytest.mark.timeout(30)
def test_very_many_dimensions_are_not_multiplied_before_they_are_refused() -> None:
    text = with_input(shape=[2**31 - 1] * 1_000_000)
    with pytest.raises(InvalidInput, match="1000000 dimensions"):
        decode_request(text)


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        DEEP,
        '{"inputs":' + DEEP,
        '{"x":' + DEEP,
        '{"x":' + '{"a":' * 100_000,
        '{"parameters":{"a":' + DEEP,
        '{"parameters":{"a":' + '{"a":' * 100_000,
        '{"inputs":[{"data":' + DEEP,
        '{"inputs":[{"parameters":{"a":' + DEEP,
    ],
    ids=lambda text: text[:24],
)
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="nested too deeply|expected"):
        decode_request(text.encode())


@pytest.mark.parametrize(("depth", "legal"), [(62, True), (64, False), (500, False)])
def test_parameters_nest_up_to_a_limit(depth: int, legal: bool) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    if legal:
        assert decode_request(body(parameters={"p": value})).request.parameters == {"p": value}
        return
    with pytest.raises(InvalidInput, match="request: parameters are nested more than 64 deep"):
        decode_request(body(parameters={"p": value}))
    with pytest.raises(InvalidInput, match="input 'x': parameters are nested"):
        decode_request(with_input(parameters={"p": value}))


def test_duplicate_input_names_are_refused() -> None:
    with pytest.raises(InvalidInput, match="inputs names 'x' more than once"):
        decode_request(body(inputs=[X, X]))


def test_duplicate_output_names_are_refused() -> None:
    with pytest.raises(InvalidInput, match="outputs names 'y' more than once"):
        decode_request(body(outputs=[{"name": "y"}, {"name": "y"}]))


@pytest.mark.parametrize("id", ["", "a", "é" * 256, "a b/c"], ids=["empty", "one", "long", "mixed"])
def test_an_id_is_kept(id: str) -> None:
    assert decode_request(body(id=id)).request.id == id


@pytest.mark.parametrize("id", ["a" * 257, "a\nb", "\0", "\x7f", "\u2028"], ids=repr)
def test_a_bad_id_is_refused(id: str) -> None:
    with pytest.raises(InvalidInput, match="^id has"):
        decode_request(body(id=id))


@pytest.mark.parametrize(
    "text",
    [body(), body().replace(b'"x"', b'"\xff"'), body().replace(b'"x"', rb'"\ud800"')],
    ids=["cut", "bytes", "surrogate"],
)
def test_no_message_mentions_the_decoder(text: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_request(text[:-1] if text == body() else text)
    assert not {"msgspec", "simdjson", "$", "`"} & set(str(caught.value).replace(" ", "\n").split())
    assert "`" not in str(caught.value)
    assert "$" not in str(caught.value)


def test_a_long_name_is_shortened_and_escaped() -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_request(with_input(name="n\n" * 1000, data=["1", 2]))
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_a_megabyte_of_nested_numbers_decodes_exactly() -> None:
    data = np.random.default_rng(0).normal(size=(100, 50))
    text = with_input(shape=[100, 50], data=data.tolist())
    assert bytes(decode_request(text).request.inputs[0].data) == data.tobytes()


def test_an_answer_has_the_members_of_the_protocol() -> None:
    tensor = Tensor("y", "FP64", [1, 2], struct.pack("<2d", 1.5, 2), {"content_type": "np"})
    assert answer(tensor, parameters={"content_type": "np"}) == {
        "model_name": "m",
        "model_version": "1",
        "id": "a",
        "parameters": {"content_type": "np"},
        "outputs": [
            {
                "name": "y",
                "shape": [1, 2],
                "datatype": "FP64",
                "parameters": {"content_type": "np"},
                "data": [1.5, 2.0],
            }
        ],
    }


def test_a_missing_version_is_omitted() -> None:
    assert list(answer(model_version=None)) == ["model_name", "id", "outputs"]


@pytest.mark.parametrize("count", [1, 1000], ids=["small", "large"])
@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_numbers_that_json_lacks_are_null(datatype: str, count: int) -> None:
    code = "f4" if datatype == "FP32" else "f8"
    raw = np.array([np.nan, np.inf, -np.inf, 0.1] * count, "<" + code).tobytes()
    data = answer(Tensor("y", datatype, [4 * count], raw))["outputs"][0]["data"]
    assert data == [None, None, None, 0.1] * count


@pytest.mark.parametrize(
    ("datatype", "raw", "values"),
    [
        ("BOOL", b"\1\0", [True, False]),
        ("UINT64", struct.pack("<2Q", 2**64 - 1, 0), [2**64 - 1, 0]),
        ("INT8", b"\xff\1", [-1, 1]),
        ("BYTES", pack_bytes(["é".encode(), b""]), ["é", ""]),
    ],
    ids=["BOOL", "UINT64", "INT8", "BYTES"],
)
def test_outputs_of_each_family_encode(datatype: str, raw: bytes, values: list[Any]) -> None:
    assert answer(Tensor("y", datatype, [2], raw))["outputs"][0]["data"] == values


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "BOOL", "BYTES"])
def test_an_empty_output_encodes(datatype: str) -> None:
    assert answer(Tensor("y", datatype, [0, 3], b""))["outputs"][0]["data"] == []


def test_an_output_at_an_odd_address_encodes() -> None:
    raw = memoryview(b"\0" + np.arange(100.0).tobytes())[1:]
    assert answer(Tensor("y", "FP64", [100], raw))["outputs"][0]["data"] == list(range(100))


def test_binary_outputs_follow_the_json() -> None:
    y = Tensor("y", "INT16", [2], b"\1\0\2\0", {"k": 1})
    z = Tensor("z", "INT8", [1], b"\3")
    text, length = encode_response(
        InferenceResponse([y, z]), model_name="m", model_version=None, id="", binary_outputs={"y"}
    )
    outputs = json.loads(text[:length])["outputs"]
    assert text[length:] == b"\1\0\2\0"
    assert outputs[0]["parameters"] == {"k": 1, "binary_data_size": 4}
    assert "data" not in outputs[0]
    assert outputs[1]["data"] == [3]
    assert y.parameters == {"k": 1}


def test_nan_travels_exactly_as_binary() -> None:
    raw = np.array([np.nan, np.inf]).tobytes()
    text, length = encode_response(
        InferenceResponse([Tensor("y", "FP64", [2], raw)]),
        model_name="m", model_version=None, id="", binary_outputs=ALL_OUTPUTS,
    )  # fmt: skip
    assert text[length:] == raw


@pytest.mark.parametrize("value", [{1, 2}, 2**70, "\ud800"], ids=["set", "huge", "surrogate"])
def test_a_parameter_without_a_json_form_is_a_bad_output(value: Any) -> None:
    with pytest.raises(BadModelOutput, match="JSON cannot carry"):
        answer(parameters={"p": value})
