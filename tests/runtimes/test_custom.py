from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from headrace.codecs.array import array_of, tensor_of
from headrace.errors import InvalidInput, LoadFailed
from headrace.model import Model
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Tensor, pack_bytes
from headrace.runtimes import create
from headrace.settings import ModelSettings


def model(predict, **settings):
    cls = type("Mine", (Model,), {"predict": predict})
    return cls(ModelSettings("m", "x:Mine", **settings))


def texts(name, *values):
    return Tensor(name, "BYTES", [len(values)], pack_bytes([v.encode() for v in values]))


def test_an_array_of_a_type_is_annotated_as_in_numpy():
    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return x

    assert [(each.name, each.datatype) for each in model(predict).metadata().inputs] == [
        ("x", "FP32")
    ]


def takes(hint):
    def predict(self, x) -> dict:
        return {"type": type(x).__name__, "value": x}

    predict.__annotations__["x"] = hint
    return model(predict)


@pytest.mark.parametrize(
    ("hint", "tensor", "kind"),
    [
        pytest.param(np.ndarray, tensor_of("x", np.zeros(2)), "ndarray", id="ndarray"),
        pytest.param(list[str], texts("x", "a"), "list", id="list of str"),
        pytest.param(list[bytes], texts("x", "a"), "list", id="list of bytes"),
        pytest.param(list[float], tensor_of("x", np.zeros(2)), "list", id="list of float"),
        pytest.param(pd.DataFrame, tensor_of("x", np.zeros(2)), "DataFrame", id="DataFrame"),
        pytest.param(str, texts("x", "a"), "str", id="str"),
        pytest.param(int, tensor_of("x", np.array([1])), "int", id="int"),
        pytest.param(float, tensor_of("x", np.array([1])), "float", id="float"),
        pytest.param(bool, tensor_of("x", np.array([True])), "bool", id="bool"),
        pytest.param(dict, tensor_of("x", np.zeros(2)), "dict", id="dict"),
        pytest.param(list[dt.datetime], texts("x", "2020-01-01"), "list", id="list of times"),
    ],
)
def test_the_annotation_chooses_what_the_input_becomes(hint, tensor, kind):
    response = takes(hint).infer(InferenceRequest([tensor]))
    assert f'"type":"{kind}"'.encode() in bytes(response.outputs[0].data)


def test_a_method_taking_the_request_gets_it():
    def predict(self, request: InferenceRequest) -> InferenceResponse:
        return InferenceResponse(request.inputs, {"content_type": "np"})

    tensor = tensor_of("x", np.zeros(1))
    assert model(predict).infer(InferenceRequest([tensor])).outputs == [tensor]


def test_inputs_find_their_parameters_by_name():
    def predict(self, a: np.ndarray, b: np.ndarray):
        return a - b

    inputs = [tensor_of("b", np.array([1.0])), tensor_of("a", np.array([3.0]))]
    (answer,) = model(predict).infer(InferenceRequest(inputs)).outputs
    assert array_of(answer).tolist() == [2.0]


def test_an_array_may_be_changed_in_place():
    def predict(self, x: np.ndarray):
        x += 1
        return x

    (answer,) = model(predict).infer(InferenceRequest([tensor_of("x", np.zeros(1))])).outputs
    assert array_of(answer).tolist() == [1.0]


def test_a_missing_input_is_named_with_those_that_came():
    def predict(self, a: np.ndarray, b: np.ndarray):
        return a

    with pytest.raises(InvalidInput, match="missing input 'b', got 'a'"):
        model(predict).infer(InferenceRequest([tensor_of("a", np.zeros(1))]))


def test_a_coroutine_is_awaited():
    async def predict(self, x: np.ndarray):
        await asyncio.sleep(0)
        return x

    response = asyncio.run(model(predict).infer(InferenceRequest([tensor_of("x", np.zeros(1))])))
    assert response.outputs[0].shape == [1]


def halves(self, x: np.ndarray):
    return {"first": x[:1], "last": x[1:]}


def test_only_the_wanted_outputs_are_returned_in_their_order():
    x = tensor_of("x", np.array([1.0, 2.0]))

    for wanted in (["last"], ["last", "first"]):
        response = model(halves).infer(InferenceRequest([x], outputs=wanted))
        assert [tensor.name for tensor in response.outputs] == wanted


def test_an_output_that_the_model_lacks_is_refused_by_name():
    request = InferenceRequest([tensor_of("x", np.zeros(2))], outputs=["middle"])

    with pytest.raises(InvalidInput, match="'middle' is not available.* has 'first', 'last'"):
        model(halves).infer(request)


def scaled(self, x: np.ndarray, factor: float = 1.0, label: str | None = None):
    return x * factor


def test_request_parameters_fill_parameters_with_defaults():
    request = InferenceRequest([tensor_of("x", np.ones(1))], {"factor": 3, "content_type": "np"})
    assert array_of(model(scaled).infer(request).outputs[0]).tolist() == [3.0]


def counted(self, n: int, weight: float, times: int = 1):
    return np.array([n * weight * times])


def test_a_whole_number_is_the_same_value_as_an_integer_and_as_a_float():
    tensors = [tensor_of("n", np.array([5.0])), tensor_of("weight", np.array([2]))]
    request = InferenceRequest(tensors, {"times": 3.0})

    assert array_of(model(counted).infer(request).outputs[0]).tolist() == [30.0]


@pytest.mark.parametrize(
    ("n", "weight", "message"),
    [
        (1.5, 2.0, "input 'n': expected datatype INT64, got FP64 that does not convert without"),
        (float("nan"), 2.0, "input 'n': expected datatype INT64, got FP64 that does not"),
        (1, 2**53 + 1, "input 'weight': expected datatype FP64, got INT64 that does not convert"),
    ],
)
def test_a_number_that_would_change_is_refused_for_a_scalar(n, weight, message):
    tensors = [tensor_of("n", np.array([n])), tensor_of("weight", np.array([weight]))]
    with pytest.raises(InvalidInput, match=message):
        model(counted).infer(InferenceRequest(tensors))


def test_a_request_parameter_of_another_type_is_refused():
    request = InferenceRequest([tensor_of("x", np.ones(1))], {"factor": "big"})
    with pytest.raises(InvalidInput, match="parameter 'factor': expected a number, got text"):
        model(scaled).infer(request)


def test_free_keywords_get_the_remaining_parameters():
    def predict(self, x: np.ndarray, **options: Any) -> dict:
        return dict(options)

    request = InferenceRequest([tensor_of("x", np.ones(1))], {"k": 1, "headers": {}})
    assert bytes(model(predict).infer(request).outputs[0].data)[4:] == b'{"k":1}'


def test_metadata_comes_from_the_annotations():
    def predict(self, texts: list[str], factor: float = 1.0) -> np.ndarray: ...

    metadata = model(predict).metadata()
    assert [(t.name, t.datatype, t.shape) for t in metadata.inputs] == [
        ("texts", "BYTES", [-1]),
        ("factor", "FP64", [1]),
    ]
    assert metadata.inputs[1].parameters == {"required": False}
    assert metadata.outputs[0].name == "output-1"


def test_declared_outputs_name_the_answer():
    row = {"name": "mood", "datatype": "FP64", "shape": [-1]}
    made = model(scaled, outputs=[row])
    assert made.metadata().outputs[0].name == "mood"
    answer = made.infer(InferenceRequest([tensor_of("x", np.ones(1))]))
    assert answer.outputs[0].name == "mood"


def test_a_type_without_a_codec_fails_the_load():
    with pytest.raises(LoadFailed, match="parameter 'x' has a type that no codec supports"):
        takes(object.__class__).metadata()


@pytest.mark.parametrize(
    ("implementation", "reason"),
    [
        pytest.param("nowhere:Mine", "there is no module 'nowhere'", id="module"),
        pytest.param("mine:Other", "module 'mine' has no class 'Other'", id="class"),
        pytest.param("mine:NUMBER", "is not a subclass of Model", id="not a class"),
        pytest.param("broken:Mine", "its module raised ZeroDivisionError", id="broken"),
        pytest.param("word", "is neither a runtime", id="word"),
    ],
)
def test_an_implementation_that_cannot_be_made_says_why(implementation, reason, tmp_path):
    (tmp_path / "mine.py").write_text("NUMBER = 1")
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(LoadFailed, match=reason):
        create(ModelSettings("m", implementation, folder=str(tmp_path)))


def test_two_models_may_have_a_module_of_the_same_name(tmp_path):
    made = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "serving_model.py").write_text(
            f"from headrace.model import Model\nclass Mine(Model):\n    platform = '{name}'\n"
        )
        made.append(create(ModelSettings("m", "serving_model:Mine", folder=str(folder))))
    assert [model.platform for model in made] == ["first", "second"]
