"""The request that a model's metadata describes is answered, whatever types the model takes."""

# Without `annotations` of the future: MLflow reads the hints of methods in functions.
import datetime as dt
import json
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from headrace.testing import TestClient
from support.from_metadata import body_of

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")

TABLE = pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0], "city": ["Ulm", "Bonn", "Ulm", "Bonn"]})
LABELS = [0, 1, 0, 1]


class Person(BaseModel):
    name: str
    age: int


class Seen(mlflow.pyfunc.PythonModel):
    """Answers how many rows it got."""

    def predict(self, context, model_input, params=None):
        return [len(model_input)]


def hinted(hint: Any) -> Any:
    """A model that takes a list of this type, and answers the types of its elements."""

    class Hinted(mlflow.pyfunc.PythonModel):
        def predict(self, model_input: hint, params=None):
            return [type(each).__name__ for each in model_input]

    return Hinted()


HINTS = {
    "text": (list[str], "str"),
    "floats": (list[float], "float"),
    "integers": (list[int], "int"),
    "flags": (list[bool], "bool"),
    "times": (list[dt.datetime], "datetime"),
    "files": (list[bytes], "bytes"),
    "objects": (list[dict[str, float]], "dict"),
    "people": (list[Person], "Person"),
    "lists": (list[list[float]], "list"),
    "maps": (list[dict[str, dt.datetime]], "dict"),
}
# What the elements hold inside is the one thing that the metadata does not say.
JSON = {
    "objects": b'{"a": 1}',
    "people": b'{"name": "Ada", "age": 36.0}',
    "lists": b"[1, 2.5]",
    "maps": b'{"a": "2024-05-07T01:02:03"}',
}
EVERY_TYPE = pd.DataFrame(
    {
        "flag": [True],
        "small": np.array([1], np.int32),
        "large": [1],
        "single": np.array([1.5], np.float32),
        "double": [1.5],
        "text": ["a"],
        "file": [b"a"],
        "day": pd.to_datetime(["2024-05-07"]),
    }
)


def save_python(path: str, example: Any) -> None:
    signature = mlflow.models.infer_signature(example)
    mlflow.pyfunc.save_model(
        path, python_model=Seen(), signature=signature, pip_requirements=["mlflow"]
    )


def save_pipeline(folder: Any) -> None:
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]))
    joblib.dump(
        make_pipeline(columns, LogisticRegression()).fit(TABLE, LABELS), folder / "model.joblib"
    )


def save_numeric(folder: Any) -> None:
    columns = make_column_transformer((StandardScaler(), ["size"]), remainder="passthrough")
    table = TABLE.assign(city=LABELS)
    model = make_pipeline(columns, LogisticRegression()).fit(table, LABELS)
    joblib.dump(model, folder / "model.joblib")


def save_text(folder: Any) -> None:
    """A lone column of text, by name."""
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    joblib.dump(model.fit(TABLE[["city"]], LABELS), folder / "model.joblib")


def save_lightgbm(folder: Any) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    table = TABLE.astype({"city": "category"})
    options = {"n_estimators": 2, "min_data_in_leaf": 1, "min_data_in_bin": 1, "verbose": -1}
    model = lightgbm.LGBMClassifier(**options).fit(table, LABELS)
    model.booster_.save_model(folder / "model.bst")


NATIVE = {
    "pipeline": ("sklearn", save_pipeline),
    "by-name": ("sklearn", save_numeric),
    "lone-text": ("sklearn", save_text),
    "categories": ("lightgbm", save_lightgbm),
}
SIGNED = {
    "columns": EVERY_TYPE,
    "matrix": np.zeros((1, 3), np.float32),
    "tensors": {"a": np.zeros((1, 2, 3), np.int64), "b": np.array(["x"])},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, example in SIGNED.items():
        save_python(str(root / name), example)
    for name, (hint, _) in HINTS.items():
        mlflow.pyfunc.save_model(
            str(root / name), python_model=hinted(hint), pip_requirements=["mlflow"]
        )
    for name, (_, save) in NATIVE.items():
        (root / name).mkdir()
        save(root / name)
    for name in (*SIGNED, *HINTS, *NATIVE):
        runtime = NATIVE[name][0] if name in NATIVE else "mlflow"
        settings = {"name": name, "implementation": runtime}
        (root / name / "model-settings.json").write_text(json.dumps(settings))
    with TestClient(root, env_manager="local") as server:
        yield server


def answer(server, name):
    """The answer to two rows of what the metadata says."""
    metadata = server.get(f"/v2/models/{name}").json()
    elements = {"pd_json": JSON[name]} if name in JSON else {}
    body = body_of(metadata["inputs"], 2, **elements)
    return server.post(f"/v2/models/{name}/infer", json=body)


@pytest.mark.parametrize("name", [*SIGNED, *NATIVE])
def test_the_request_that_the_metadata_describes_is_answered(name, server):
    found = answer(server, name)
    assert found.status_code == 200, found.text


@pytest.mark.parametrize("name", HINTS)
def test_the_request_that_a_type_hint_describes_gives_the_model_its_type(name, server):
    found = answer(server, name)
    assert found.status_code == 200, found.text
    assert found.json()["outputs"][0]["data"] == [HINTS[name][1]] * 2


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("times", ["2024-05-07T01:02:03", "2024-05-07"]),
        ("files", ["YQ==", "YQ==\n"]),
        ("maps", [{"a": "2024-05-07T01:02:03"}] * 2),
        ("floats", [1, 2.5]),
        ("integers", [5.0, 6]),
        ("objects", [{"a": 1}, {"a": 2.5}]),
        ("lists", [[1, 2], [3.5]]),
        ("people", [{"name": "Ada", "age": 36.0}] * 2),
    ],
)
def test_a_type_hint_takes_what_loses_nothing_on_invocations(name, values, server):
    found = server.post(f"/v2/models/{name}/invocations", json={"inputs": values})
    assert (found.status_code, found.json()) == (200, {"predictions": [HINTS[name][1]] * 2})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("floats", ["x"]),
        ("integers", [1.5]),
        ("times", ["soon"]),
        ("people", [{"name": "Ada"}]),
        ("objects", [{"a": "x"}]),
    ],
)
def test_a_type_hint_refuses_other_values(name, values, server):
    found = server.post(f"/v2/models/{name}/invocations", json={"inputs": values})
    assert found.status_code == 400
