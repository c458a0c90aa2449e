"""The types of MLServer's API behave like the models they stand for."""

from __future__ import annotations

import subprocess
import sys
import typing
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.compat.mlserver import types
from headrace.compat.mlserver.codecs import Base64Codec, DatetimeCodec, NumpyCodec, StringCodec
from headrace.compat.mlserver.codecs.base import matches


def an_input(**more):
    return types.RequestInput(
        **{"name": "x", "shape": (2,), "datatype": "FP32", "data": [1, 2], **more}
    )


def test_dicts_become_objects_all_the_way_down():
    request = types.InferenceRequest(
        inputs=[
            {"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"a": 1}, "data": ["v"]}
        ]
    )

    assert request.inputs[0].parameters.a == 1
    assert request.inputs[0].data.__root__ == ["v"]
    assert (request.id, request.outputs) == (None, None)


def test_a_dump_leaves_out_what_was_not_given():
    dumped = types.InferenceRequest(inputs=[an_input()], id="7").model_dump()

    assert dumped == {
        "id": "7",
        "inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}],
    }


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        pytest.param({"parameters": {"_decoded", "x"}}, ["a", "b", "y"], id="fields"),
        pytest.param({"parameters": {"x": True, "y": ...}}, ["a", "b"], id="all of a field"),
        pytest.param({"inputs": {"__all__": {"parameters": {"a"}}}}, ["b", "x", "y"], id="items"),
        pytest.param({"inputs": {0: {"parameters"}}}, ["b", "x", "y"], id="one item"),
        pytest.param({"inputs": {0}}, ["b", "x", "y"], id="a whole item"),
        pytest.param({"inputs"}, ["x", "y"], id="a whole field"),
    ],
)
def test_a_dump_leaves_out_what_is_named_within(chosen, left):
    inputs = [an_input(parameters={name: 1}) for name in "ab"]
    request = types.InferenceRequest(inputs=inputs, parameters={"x": 1, "y": 2})

    dumped = request.model_dump(exclude=chosen)

    found = [name for item in dumped.get("inputs", []) for name in item.get("parameters", {})]
    assert [*found, *dumped["parameters"]] == left


def test_a_dump_holds_only_what_is_named_within():
    request = types.InferenceRequest(inputs=[an_input(), an_input(name="y")], id="7")

    assert request.model_dump(include={"inputs": {"__all__": {"name"}}}) == {
        "inputs": [{"name": "x"}, {"name": "y"}]
    }
    assert request.model_dump(include={"inputs": {1: {"name"}}}) == {"inputs": [{"name": "y"}]}


def test_a_dump_makes_an_equal_object():
    request = types.InferenceRequest(inputs=[an_input(parameters={"content_type": "np"})])

    assert types.InferenceRequest(**request.model_dump()) == request
    assert types.InferenceRequest.model_validate_json(request.model_dump_json()) == request


def test_assigned_dicts_and_lists_become_objects():
    item = an_input()
    item.parameters = {"content_type": "str"}
    item.data = [3]

    assert item.parameters.content_type == "str"
    assert item.data == types.TensorData([3])


def test_parameters_take_any_name_and_hide_no_method():
    parameters = types.Parameters(content_type="np", model_dump=1, _secret=2)
    parameters.mine = 3

    assert parameters.mine == 3
    assert not hasattr(parameters, "other")
    assert not hasattr(parameters, "_secret")
    assert parameters.model_dump()["model_dump"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"datatype": "FP31"}, id="datatype"),
        pytest.param({"shape": "ab"}, id="shape"),
        pytest.param({"name": 1}, id="name"),
    ],
)
def test_a_value_of_another_type_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        an_input(**wrong)


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match="inputs"):
        types.InferenceRequest()


def test_copies_do_not_share_fields():
    item = an_input()
    other = item.model_copy(update={"name": "y"})

    assert (item.name, other.name) == ("x", "y")


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        pytest.param(StringCodec, ["a", "é"], id="str"),
        pytest.param(Base64Codec, [b"\xff\x00"], id="base64"),
        pytest.param(DatetimeCodec, ["2020-01-02T03:04:05"], id="datetime"),
    ],
)
def test_a_list_survives_its_codec(codec, value):
    item = codec.encode_input("x", value, use_bytes=False)

    assert item.shape == [len(value), 1]
    decoded = codec.decode_input(item)
    assert [getattr(v, "isoformat", lambda v=v: v)() for v in decoded] == value


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint64", "bool"])
def test_an_array_survives_its_codec(dtype):
    value = np.array([[0, 1], [1, 1]], dtype)

    decoded = NumpyCodec.decode_input(NumpyCodec.encode_input("x", value))

    assert decoded.dtype == value.dtype
    assert decoded.tolist() == value.tolist()


def test_an_array_of_text_is_encoded_as_bytes():
    value = np.array([["a", "bc"]])

    encoded = NumpyCodec.encode_output("x", value)
    assert list(encoded.data) == [b"a", b"bc"]
    assert NumpyCodec.decode_output(encoded).tolist() == [[b"a", b"bc"]]


def test_changed_data_replaces_the_tensor():
    item = NumpyCodec.encode_input("x", np.array([1.0, 2.0]))
    item.data.root[0] = 9.0

    assert NumpyCodec.decode_input(item).ravel().tolist() == [9.0, 2.0]


def test_annotations_match_however_they_are_written():
    assert matches(typing.List[str], list[str])  # noqa: UP006
    assert matches(NDArray[np.float64], np.ndarray)
    assert not matches(list[str], list[bytes])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python has no `type` statement")
def test_an_alias_is_the_type_that_it_stands_for():
    names: dict[str, Any] = {}
    exec(
        "type Texts = list[str]\ntype Rows[T] = np.ndarray[Any, np.dtype[T]]",
        {"Any": Any, "np": np},
        names,
    )

    assert matches(names["Texts"], list[str])
    assert matches(names["Rows"], np.ndarray)


def test_an_installed_mlserver_is_preferred(tmp_path):
    (tmp_path / "mlserver.py").write_text("REAL = True")
    program = (
        "from headrace.compat import alias; alias.offer(); import mlserver; print(mlserver.REAL)"
    )

    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert result.stdout == "True\n", result.stderr


def test_classes_exist_once_under_both_names():
    program = (
        "from headrace.compat import alias; alias.offer(); alias.offer()\n"
        "import mlserver.codecs.string, mlserver.types\n"
        "from headrace.compat.mlserver import types, codecs\n"
        "print(mlserver.types.Parameters is types.Parameters,"
        " mlserver.codecs.string.StringCodec is codecs.StringCodec)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )

    assert result.stdout == "True True\n", result.stderr
