"""Whatever of a request has another type than an MLflow model takes, the refusal says what.

One model for each way in which MLflow describes an input, and each way of not fitting.
"""

# Without `annotations` of the future: MLflow reads the hints of methods in functions.
import datetime as dt
import json
import re
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from headrace.testing import TestClient

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")

from mlflow.models import ModelSignature  # noqa: E402
from mlflow.types.schema import (  # noqa: E402
    ColSpec,
    DataType,
    ParamSchema,
    ParamSpec,
    Schema,
    TensorSpec,
)

TIME = "2024-05-07T01:02:03"
# A right value of each scalar type, and wrong ones.
SCALARS: dict[str, tuple[Any, list[Any]]] = {
    "boolean": (True, ["true", 2, 0.5, None, [True], {"a": True}]),
    "integer": (1, ["one", 1.5, 2**31, True, None, [1], {}]),
    "long": (1, ["one", "1.5", 1.5, 2**63, True, None, [1], {}]),
    "float": (1.5, ["high", 1e300, True, [1.5], {}]),
    "double": (1.5, ["high", True, [1.5], {}]),
    "string": ("a", [5, 1.5, True]),
    "binary": ("YQ==", ["?", 5, ["YQ=="]]),
    "datetime": (TIME, ["soon", 5, True, [TIME]]),
}
TENSORS = {
    "small": (TensorSpec(np.dtype("int8"), (-1, 2)), [[1, 2], [3, 4]]),
    "single": (TensorSpec(np.dtype("float32"), (-1, 2)), [[1.5, 2], [3, 4]]),
    "flag": (TensorSpec(np.dtype("bool"), (-1, 2)), [[True, False], [True, True]]),
    "text": (TensorSpec(np.dtype("str"), (-1, 2)), [["a", "b"], ["c", "d"]]),
}
WRONG_ELEMENTS = {
    "small": ["x", 1.5, 300, True, None, {}],
    "single": ["x", 1e300, True, {}],
    "flag": ["x", 2, None, {}],
    "text": [5, True, None, {}],
}
PARAMS = {
    "count": (DataType.long, 1, ["x", 1.5, True, [1], {}]),
    "rate": (DataType.double, 1.5, ["x", True, [1.5], {}]),
    "exact": (DataType.boolean, True, ["x", 1, []]),
    "word": (DataType.string, "a", [5, True, []]),
    "since": (DataType.datetime, np.datetime64(TIME), ["soon", 5, []]),
}


class Person(BaseModel):
    name: str
    age: int


HINTS = {
    "numbers": (list[float], [1.5, "x"], "element 1: expected a number, got text"),
    "whole": (list[int], [1, 1.5], "element 1: expected a whole number, got a number"),
    "flags": (list[bool], [True, "x"], "element 1: expected true or false, got text"),
    "files": (list[bytes], ["YQ==", 5], "element 1: expected base64, got a number"),
    "times": (
        list[dt.datetime],
        [TIME, "soon"],
        "element 1: expected a time in ISO 8601, got other text",
    ),
    "lists": (
        list[list[float]],
        [[1.5], [1.5, "x"]],
        "element 1, element 1: expected a number, got",
    ),
    "maps": (
        list[dict[str, float]],
        [{}, {"a": "x"}],
        "element 1, key 'a': expected a number, got",
    ),
    "deep": (
        list[dict[str, list[int]]],
        [{}, {"a": [1, 1.5]}],
        "element 1, key 'a', element 1: expected a whole number, got a number",
    ),
    "people": (list[Person], [{"name": "Ada", "age": "old"}], "element 0: age: "),
}


class Seen(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [1.0]


def hinted(hint: Any) -> Any:
    class Hinted(mlflow.pyfunc.PythonModel):
        def predict(self, model_input: hint, params=None):
            return [1.0 for _ in model_input]

    return Hinted()


def save(folder, name, model, signature=None):
    mlflow.pyfunc.save_model(
        str(folder / name), python_model=model, signature=signature, pip_requirements=["mlflow"]
    )
    settings = {"name": name, "implementation": "mlflow"}
    (folder / name / "model-settings.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    columns = [ColSpec(DataType[kind], kind, required=False) for kind in SCALARS]
    save(root, "columns", Seen(), ModelSignature(Schema(columns)))
    for name, (spec, _) in TENSORS.items():
        named = TensorSpec(spec.type, spec.shape, name)
        save(root, name, Seen(), ModelSignature(Schema([named])))
    params = ParamSchema(
        [ParamSpec(name, kind, value) for name, (kind, value, _) in PARAMS.items()]
    )
    one = Schema([ColSpec(DataType.double, "x")])
    save(root, "params", Seen(), ModelSignature(one, params=params))
    for name, (hint, _, _) in HINTS.items():
        save(root, name, hinted(hint))
    with TestClient(root, env_manager="local") as server:
        yield server


SAYS = re.compile(r"expected .+, got .+")


def refused(server, model, body, route="invocations"):
    """The message of a refusal, which has a reason."""
    answer = server.post(f"/v2/models/{model}/{route}", json=body)
    assert answer.status_code == 400, answer.text
    said = answer.json()["message" if route == "invocations" else "error"]
    assert SAYS.search(said), said
    return said


WRONG_CELLS = [(kind, wrong) for kind, (_, values) in SCALARS.items() for wrong in values]


@pytest.mark.parametrize("form", ["dataframe_records", "inputs", "dataframe_split"])
@pytest.mark.parametrize(("kind", "wrong"), WRONG_CELLS, ids=str)
def test_a_cell_of_another_type_is_refused_with_its_column_and_row(kind, wrong, form, server):
    right = SCALARS[kind][0]
    body: Any = {form: [{kind: right}, {kind: wrong}]}
    if form == "dataframe_split":
        body = {form: {"columns": [kind], "data": [[right], [wrong]]}}
    assert f"'{kind}', row 1: expected" in refused(server, "columns", body)


WRONG_TENSORS = [(name, wrong) for name, values in WRONG_ELEMENTS.items() for wrong in values]


@pytest.mark.parametrize("route", ["invocations", "infer"])
@pytest.mark.parametrize(("name", "wrong"), WRONG_TENSORS, ids=str)
def test_an_element_of_another_type_is_refused_with_its_row_and_column(name, wrong, route, server):
    (spec, right) = TENSORS[name]
    data = [right[0], [right[1][0], wrong]]
    body: Any = {"inputs": {name: data}}
    if route == "infer":
        datatype = {"small": "INT8", "single": "FP32", "flag": "BOOL", "text": "BYTES"}[name]
        body = {"inputs": [{"name": name, "datatype": datatype, "shape": [2, 2], "data": data}]}
    assert f"'{name}', row 1, column 1: expected" in refused(server, name, body, route)


def test_a_tensor_of_another_shape_says_both(server):
    said = refused(server, "small", {"inputs": {"small": [[1, 2, 3]]}})
    assert said == "input 'small': expected shape [-1, 2] (-1 is free), got [1, 3]"


WRONG_PARAMS = [(name, wrong) for name, (_, _, values) in PARAMS.items() for wrong in values]


@pytest.mark.parametrize(("name", "wrong"), WRONG_PARAMS, ids=str)
def test_a_param_of_another_type_is_refused_by_name(name, wrong, server):
    body = {"inputs": {"x": [1.5]}, "params": {name: wrong}}
    assert refused(server, "params", body).startswith(f"param '{name}': expected")


@pytest.mark.parametrize("name", HINTS)
def test_what_does_not_match_a_type_hint_is_refused_with_its_place(name, server):
    _, values, says = HINTS[name]
    answer = server.post(f"/v2/models/{name}/invocations", json={"inputs": values})
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["message"]
