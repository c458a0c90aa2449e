"""The request that a model's metadata describes is answered, whatever types the model takes."""

# Without `annotations` of the future: MLflow reads the hints of methods in functions.
import datetime as dt
import json
import sys
from typing import Any

import cloudpickle
import httpx
import joblib
import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import headrace
from conformance.transports import NUMPY, TRANSPORTS, Tensor
from support.from_metadata import body_of
from support.serving import serving

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")

TABLE = pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0], "city": ["Ulm", "Bonn", "Ulm", "Bonn"]})
LABELS = [0, 1, 0, 1]


# The server is another process, which cannot import this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


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
NESTED = [{"tags": ["a"], "who": {"age": 3, "since": 1.5}, "score": 2.5}]
SIGNED = {
    "nested": NESTED,
    "columns": EVERY_TYPE,
    "matrix": np.zeros((1, 3), np.float32),
    "tensors": {"a": np.zeros((1, 2, 3), np.int64), "b": np.array(["x"])},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
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
    return root


@pytest.fixture(scope="module")
def started(folder):
    with serving(folder, "--env-manager", "local") as server:
        yield server


@pytest.fixture(scope="module")
def server(started):
    with httpx.Client(base_url=started.http, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def transports(started):
    """Every transport of one server, by name."""
    kinds = [name for name in TRANSPORTS if not name.startswith("native") and "TLS" not in name]
    made = {name: TRANSPORTS[name](started.announced) for name in kinds}
    yield made
    for transport in made.values():
        transport.close()


WAYS = ["REST JSON", "REST binary", "gRPC typed", "gRPC raw"]


def answer(transport, name):
    """The answer to two rows of what the metadata says, over one transport alone."""
    inputs = transport.metadata(name)["inputs"]
    tensors = [
        Tensor(each["name"], each["datatype"], described["shape"], _sent(each, described["data"]))
        for each, described in zip(inputs, body_of(inputs)["inputs"], strict=True)
    ]
    return transport.infer(name, tensors).outputs


def _sent(each, values):
    return [value.encode() for value in values] if each["datatype"] == "BYTES" else values


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*SIGNED, *NATIVE])
def test_the_request_that_the_metadata_describes_is_answered(name, way, transports):
    assert answer(transports[way], name)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HINTS)
def test_the_request_that_a_type_hint_describes_gives_the_model_its_type(name, way, transports):
    (output,) = answer(transports[way], name)
    assert output.values == [HINTS[name][1].encode()] * 2


def _array(each, tensor):
    """The Python values that an input described by metadata is made of."""
    data, datatype = tensor["data"], each["datatype"]
    if each.get("parameters", {}).get("content_type") == "pd_json":
        data = [json.loads(value) for value in data]
    array = np.empty(len(data), object if datatype == "BYTES" else NUMPY[datatype])
    array[:] = data
    return array.reshape(tensor["shape"])


@pytest.mark.parametrize("name", [*SIGNED, *NATIVE, *HINTS])
def test_the_client_sends_what_the_metadata_describes(name, started):
    with headrace.Client(started.http) as client:
        inputs = client.model_metadata(name)["inputs"]
        described = body_of(inputs)["inputs"]
        pairs = zip(inputs, described, strict=True)
        arrays = {each["name"]: _array(each, tensor) for each, tensor in pairs}
        assert client.infer(name, arrays).outputs


@pytest.mark.parametrize("name", [*SIGNED, *NATIVE, *HINTS])
def test_the_request_that_the_documentation_shows_is_answered(name, server):
    path = f"/v2/models/{name}/infer"
    shown = server.get("/openapi.json").json()["paths"][path]["post"]
    example = shown["requestBody"]["content"]["application/json"]["example"]
    found = server.post(path, json=example)
    assert found.status_code == 200, found.text


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
