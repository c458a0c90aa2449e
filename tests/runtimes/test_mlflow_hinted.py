"""What a model with a type hint gets for its elements: over both protocols, what MLflow gives."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from headrace.errors import InvalidInput
from headrace.protocol.mlflow import scoring
from headrace.protocol.mlflow.signature import Signature
from headrace.protocol.open_inference import rest_json
from headrace.runtimes import create
from headrace.settings import ModelSettings

mlflow = pytest.importorskip("mlflow")
pydantic = pytest.importorskip("pydantic")
server = pytest.importorskip("mlflow.pyfunc.scoring_server")
pytestmark = pytest.mark.filterwarnings("ignore")


class Person(pydantic.BaseModel):
    age: int
    name: str = ""
    born: datetime | None = None


CASES = [
    (name, values)
    for name in ("anything", "a union")
    for values in ([1, "a"], ["a", "b"], [1, 2], [])
] + [
    ("anything", values)
    for values in ([[1, 2], [3]], [[["a"]]], [{"a": [1, None]}], [None, True, 0.5])
]
HINTS = {"anything": list[Any], "a union": list[int | str]}
STRICT_HINTS = {
    "times": list[datetime],
    "people": list[Person],
    "numbers by name": list[dict[str, list[float]]],
    "numbers": list[float],
}
REFUSED = [
    ("people", [{"age": 3}, {"age": "old", "name": 5}], "element 1: age: Input should be a valid"),
    ("people", [{"age": 3}, {"age": "1"}], "element 1: age: "),
    ("people", [{"age": 3}, {}], "element 1: age: Field required"),
    # MLflow lets pydantic convert nothing.
    ("people", [{"age": "3"}], "element 0: age: Input should be a valid"),
    ("people", [{"age": 3, "born": "2024-05-07T00:00:00"}], "element 0: born: Input should be"),
    ("people", ["Ada"], "element 0: expected Person, got text"),
    ("people", 5, "expected a list, got a number"),
    ("times", ["2024-05-07T01:02:03", "x"], "element 1: expected a time in ISO 8601, got other"),
    ("times", [5], "element 0: expected a time in ISO 8601, got a number"),
    ("numbers by name", [{"a": [1]}, {"a": [1, "b"]}], "element 1: expected a number, got text"),
    ("numbers by name", [{"a": [1]}, 7], "element 1: expected an object, got a number"),
]


def saved(folder, hint):
    def predict(self, model_input, params=None):
        return repr(model_input)

    # MLflow reads the hint when the class is made.
    predict.__annotations__["model_input"] = hint
    seen = type("Seen", (mlflow.pyfunc.PythonModel,), {"predict": predict})()
    mlflow.pyfunc.save_model(str(folder), python_model=seen, pip_requirements=["numpy"])
    runtime = create(ModelSettings("m", "mlflow", uri=str(folder)))
    runtime.load()
    return runtime, mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("hinted")
    return {name: saved(root / name, hint) for name, hint in {**HINTS, **STRICT_HINTS}.items()}


def seen(runtime, inputs):
    """What the model sees of a request over `/v2`."""
    request = rest_json.decode_request(json.dumps({"inputs": inputs}).encode()).request
    request = Signature.parse(runtime.metadata().signature).conform(request)
    body, _ = rest_json.encode_response(
        runtime.infer(request), model_name="m", model_version=None, id=""
    )
    return json.loads(body)["outputs"][0]["data"][0]


@pytest.mark.parametrize(("name", "values"), CASES)
def test_elements_of_any_type_arrive_as_from_mlflow(name, values, models):
    runtime, model = models[name]
    body = json.dumps({"inputs": values})
    signature = Signature.parse(runtime.metadata().signature)
    request = scoring.decode(body.encode(), "application/json", signature).request

    ours = scoring.encode(runtime.infer(request))
    theirs = server.invocations(
        body, "application/json", model, model.metadata.get_input_schema()
    ).response
    assert json.loads(ours) == json.loads(theirs) == {"predictions": repr(values)}


@pytest.mark.parametrize(("name", "values"), CASES)
@pytest.mark.parametrize("is_described", [True, False], ids=["[N, 1]", "[N]"])
def test_json_elements_of_the_described_shape_are_not_wrapped(name, values, is_described, models):
    runtime, _ = models[name]
    (described,) = runtime.metadata().inputs
    tensor = {
        "name": described.name,
        "datatype": described.datatype,
        "shape": [len(values), 1] if is_described else [len(values)],
        "data": [json.dumps(value) for value in values],
    }

    assert seen(runtime, [tensor]) == repr(values)


@pytest.mark.parametrize("shape", [[2], [2, 1]], ids=str)
@pytest.mark.parametrize("name", HINTS)
def test_numbers_are_elements_in_either_shape_of_a_column(name, shape, models):
    tensor = {"name": "x", "datatype": "INT64", "shape": shape, "data": [1, 2]}

    assert seen(models[name][0], [tensor]) == "[1, 2]"


def test_rows_of_numbers_are_lists_for_a_model_that_takes_anything(models):
    tensor = {"name": "x", "datatype": "INT64", "shape": [2, 2], "data": [1, 2, 3, 4]}

    assert seen(models["anything"][0], [tensor]) == "[[1, 2], [3, 4]]"


@pytest.mark.parametrize(("name", "values", "reason"), REFUSED)
def test_a_refusal_says_which_element_and_field_does_not_match_the_hint(
    models, name, values, reason
):
    runtime, _ = models[name]
    body = json.dumps({"inputs": values}).encode()
    signature = Signature.parse(runtime.metadata().signature)

    with pytest.raises(InvalidInput) as refused:
        runtime.infer(scoring.decode(body, "application/json", signature).request)

    assert reason in str(refused.value)
    assert "old" not in str(refused.value)
    assert "then" not in str(refused.value)


@pytest.mark.parametrize("value", [10**20, -(2**60), 2**53 + 1, 5, 10**100])
def test_an_integer_in_json_is_the_nearest_float_for_a_hint_of_floats(models, value):
    runtime, _ = models["numbers"]
    signature = Signature.parse(runtime.metadata().signature)
    body = json.dumps({"inputs": [value]}).encode()
    answer = runtime.infer(scoring.decode(body, "application/json", signature).request)
    element = {"name": "x", "datatype": "FP64", "shape": [1], "data": [value]}

    assert json.loads(scoring.encode(answer))["predictions"] == repr([float(value)])
    assert seen(runtime, [element]) == repr([float(value)])


def test_an_integer_with_a_type_is_exact_or_refused_for_a_hint_of_floats(models):
    runtime, _ = models["numbers"]
    tensor = {"name": "x", "datatype": "INT64", "shape": [2], "data": [2**60, 3]}
    assert seen(runtime, [tensor]) == repr([float(2**60), 3.0])

    with pytest.raises(InvalidInput, match="element 1: expected a number, got a number"):
        seen(runtime, [{**tensor, "data": [3, 2**53 + 1]}])
