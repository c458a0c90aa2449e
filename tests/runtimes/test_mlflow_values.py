"""What MLflow models get for missing times, Python objects and params, and what they may answer."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from headrace.errors import InvalidInput
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow import scoring
from headrace.protocol.mlflow.scoring_answer import PREDICTIONS
from headrace.protocol.mlflow.signature import Signature
from headrace.protocol.tensor import Tensor, pack_bytes
from headrace.runtimes import create
from headrace.settings import ModelSettings

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")

JSON, CSV = "application/json", "text/csv"


class Times(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [f"{model_input['t'].dtype}: {time}" for time in model_input["t"]]


class Params(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return repr(params)


class Hinted(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str], params=None):
        return model_input


class Scalar(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return np.int64(3)


def serve(folder, model, example=None, flavor=mlflow.pyfunc):
    signature = None if example is None else mlflow.models.infer_signature(example)
    options = {"signature": signature, "pip_requirements": ["numpy"]}
    if flavor is mlflow.sklearn:
        options["serialization_format"] = "cloudpickle"
    if flavor is mlflow.pyfunc:
        flavor.save_model(str(folder / "m"), python_model=model, **options)
    else:
        flavor.save_model(model, str(folder / "m"), **options)
    runtime = create(ModelSettings("m", "mlflow", uri=str(folder / "m")))
    runtime.load()
    return runtime


def predictions(runtime, body, media=JSON):
    """What `/invocations` answers to the body."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    raw = runtime.metadata().signature
    decoded = scoring.decode(body, media, Signature.parse(raw) if raw else None)
    key = PREDICTIONS if decoded.wrapped else None
    answer = json.loads(scoring.encode(runtime.infer(decoded.request), key))
    return answer["predictions"] if decoded.wrapped else answer


TIME = pd.DataFrame({"t": pd.to_datetime(["2020-01-02"])})
SEEN = ["datetime64[ns]: 2020-01-02 00:00:00", "datetime64[ns]: NaT"]


@pytest.mark.parametrize(
    ("body", "media"),
    [
        pytest.param({"dataframe_records": [{"t": "2020-01-02"}, {"t": None}]}, JSON, id="null"),
        pytest.param(b't\n2020-01-02\n""\n', CSV, id="CSV"),
    ],
)
def test_a_missing_time_is_nat_among_times(body, media, tmp_path):
    assert predictions(serve(tmp_path, Times(), TIME), body, media) == SEEN


def test_a_number_is_not_a_time_next_to_a_missing_one(tmp_path):
    runtime = serve(tmp_path, Times(), TIME)
    cells = Tensor("t", "BYTES", [2], pack_bytes([b"5", b"null"]), {"content_type": "pd_json"})
    with pytest.raises(InvalidInput, match="'t', row .: expected an ISO 8601 time"):
        runtime.infer(InferenceRequest([cells]))


OBJECTS = np.array([["a", 1], ["b", 2], ["a", 2]], dtype=object)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    tree = DecisionTreeClassifier(random_state=0)
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), tree)
    model.fit(OBJECTS, ["first", "second", "third"])
    return serve(tmp_path_factory.mktemp("encoder"), model, OBJECTS, mlflow.sklearn)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"inputs": OBJECTS.tolist()}, id="inputs"),
        pytest.param({"instances": OBJECTS.tolist()}, id="instances"),
        pytest.param({"dataframe_split": {"data": OBJECTS.tolist()}}, id="table"),
    ],
)
def test_an_array_of_objects_holds_text_and_numbers(body, encoder):
    assert predictions(encoder, body) == ["first", "second", "third"]


def test_numbers_stay_objects_for_such_a_model(tmp_path):
    class Shown(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return f"{model_input.dtype} {model_input.tolist()}"

    runtime = serve(tmp_path, Shown(), OBJECTS)
    assert predictions(runtime, {"inputs": [[1, 2]]}) == "object [[1, 2]]"


def test_an_array_of_objects_takes_a_numeric_tensor(encoder):
    signature = Signature.parse(encoder.metadata().signature)
    tensor = Tensor("input-0", "INT64", [1, 2], np.array([1, 2]).tobytes())
    (answer,) = encoder.infer(signature.conform(InferenceRequest([tensor]))).outputs
    assert answer.shape == [1]


def test_params_no_schema_declares_do_not_reach_a_native_model(tmp_path):
    rows = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]})
    model = xgboost.XGBClassifier(n_estimators=2, min_child_weight=0).fit(rows, [0, 0, 1, 1])
    runtime = serve(tmp_path, model, rows, mlflow.xgboost)
    body = {"inputs": {"a": [0, 3]}, "params": {"output_margin": True}}
    assert predictions(runtime, body) == [0, 1]


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        pytest.param({"messages": []}, "{}", id="chat"),
        pytest.param({"inputs": [1]}, "None", id="inputs"),
    ],
)
def test_a_model_without_params_sees_what_mlflow_gives(body, seen, tmp_path):
    answer = predictions(serve(tmp_path, Params()), body)
    assert answer == seen


def test_a_value_that_is_not_a_list_is_the_callers_fault_for_a_type_hint(tmp_path):
    runtime = serve(tmp_path, Hinted())
    with pytest.raises(InvalidInput, match="expected a list, got an object"):
        predictions(runtime, {"inputs": {"a": 1}})


def test_a_scalar_of_numpy_is_answered_as_a_scalar(tmp_path):
    assert predictions(serve(tmp_path, Scalar()), {"inputs": [1]}) == 3


def test_a_scalar_for_an_object_names_the_column(tmp_path):
    runtime = serve(tmp_path, Params(), [{"who": {"age": 3}}])
    with pytest.raises(InvalidInput, match="column 'who', row 0: expected an object"):
        predictions(runtime, {"dataframe_records": [{"who": 5}]})


def test_a_missing_boolean_in_csv_is_reported_as_missing(tmp_path):
    runtime = serve(tmp_path, Params(), pd.DataFrame({"f": [True], "n": [1.0]}))
    missing = r"column 'f', row 1: expected true or false \(boolean\), got null"
    with pytest.raises(InvalidInput, match=missing):
        predictions(runtime, b"f,n\nTrue,1\n,2\n", CSV)
