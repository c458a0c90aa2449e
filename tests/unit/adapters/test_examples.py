"""Examples of requests, for the documentation."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from headrace.adapters import examples
from headrace.protocol.messages import ModelMetadata, TensorMetadata
from headrace.protocol.mlflow import scoring
from headrace.protocol.mlflow.signature import Signature
from headrace.serving.served_model import ServedModel
from headrace.settings import ModelSettings


def served(inputs: list[dict[str, Any]] | None, example: Any = None) -> ServedModel:
    """A model with the signature of these inputs."""
    raw = None if inputs is None else {"inputs": json.dumps(inputs)}
    signature = None if raw is None else Signature.parse(raw)
    given = [] if signature is None else signature.input_metadata()
    text = "" if example is None else json.dumps(example)
    metadata = ModelMetadata(inputs=given, signature=raw, example=text)
    model = ServedModel(ModelSettings("m", "fake:Fake"), key="m", model_metadata=metadata)
    model.signature = model.scoring_signature = signature
    return model


COLUMNS = [{"name": "a", "type": "double"}, {"name": "b", "type": "string"}]


def test_the_values_of_a_logged_example_are_in_every_protocols_example() -> None:
    logged = {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, "x"], [2.5, "y"]]}}
    model = served(COLUMNS, logged)
    infer = cast(dict[str, Any], examples.infer_body(model))

    assert examples.scoring_body(model) == logged
    assert [each["data"] for each in infer["inputs"]] == [[1.5], ["x"]]
    assert examples.predict_body(model) == {"instances": [{"a": 1.5, "b": "x"}]}
    assert examples.scoring_csv(model) == "a,b\n1.5,x\n"


def test_a_model_without_an_example_gets_values_of_the_types_that_it_declares() -> None:
    kinds = ("boolean", "long", "float", "binary", "datetime", "string")
    model = served([{"name": kind, "type": kind} for kind in kinds])
    body = json.dumps(examples.scoring_body(model)).encode()

    assert scoring.decode(body, "application/json", model.scoring_signature).request.inputs


def test_nested_types_have_the_members_that_they_require() -> None:
    members = {"x": {"type": "long"}, "y": {"type": "string", "required": False}}
    object_ = {"type": "object", "properties": members}
    model = served([{"name": "o", "type": "array", "items": object_}])
    infer = cast(dict[str, Any], examples.infer_body(model))

    assert infer["inputs"][0]["data"] == ['[{"x":0}]']


def test_a_tensor_has_all_of_its_elements_or_no_example() -> None:
    small, large = (
        served([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, *shape]}}])
        for shape in ([28, 28], [224, 224, 3])
    )
    infer = cast(dict[str, Any], examples.infer_body(small))

    assert infer["inputs"][0]["shape"] == [1, 28, 28]
    assert len(infer["inputs"][0]["data"]) == 784
    assert [
        examples.infer_body(large),
        examples.scoring_body(large),
        examples.predict_body(large),
    ] == [None, None, None]


@pytest.mark.parametrize(
    "example",
    [
        *([], 1, {}, {"inputs": []}, {"dataframe_split": {}}, {"x": {}}),
        {"dataframe_split": {"columns": ["a"], "data": [1]}},
        {"dataframe_split": {"columns": None, "data": [[1]]}},
        {"dataframe_split": {"columns": ["a"], "data": {"a": 1}}},
    ],
)
def test_a_strange_logged_example_does_no_harm(example: Any) -> None:
    for model in (served(COLUMNS, example), served(None, example)):
        examples.infer_body(model)
        examples.predict_body(model)
        examples.scoring_csv(model)


def test_json_elements_of_a_model_without_a_signature_are_json() -> None:
    given = TensorMetadata("x", "BYTES", [-1, 2], {"content_type": "pd_json"})
    model = served(None)
    model.model_metadata.inputs.append(given)
    infer = cast(dict[str, Any], examples.infer_body(model))

    assert infer["inputs"][0]["data"] == ["{}", "{}"]
