"""Input that a framework refuses is the caller's mistake; what else it raises is a failure."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from headrace.codecs.array import tensor_of
from headrace.codecs.frame import tensors_of
from headrace.errors import HeadraceError, InvalidInput
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.signature import PAYLOAD, SCORING
from headrace.protocol.tensor import Tensor, pack_bytes
from headrace.runtimes import create, refusal
from headrace.settings import ModelSettings

# Frameworks warn of much before they refuse it.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

FRAME = pd.DataFrame(np.random.default_rng(0).random((20, 3)), columns=["a", "b", "c"])
Y = (FRAME["a"] > 0.5).astype(int)
MATRIX = FRAME.to_numpy()


def mlflow_model(flavor, model, folder):
    module = pytest.importorskip(f"mlflow.{flavor}")
    path = str(folder / "saved")
    module.save_model(model, path, pip_requirements=[])
    runtime = create(ModelSettings("m", "mlflow", uri=path, folder=path))
    runtime.load()
    return runtime


def of_matrix(folder):
    return mlflow_model("sklearn", LogisticRegression().fit(MATRIX, Y), folder)


def of_table(folder):
    return mlflow_model("sklearn", LogisticRegression().fit(FRAME, Y), folder)


def xgboost_estimator(folder):
    xgboost = pytest.importorskip("xgboost")
    return mlflow_model("xgboost", xgboost.XGBClassifier(n_estimators=2).fit(FRAME, Y), folder)


def xgboost_booster(folder):
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.train({}, xgboost.DMatrix(FRAME, Y), 2)
    return mlflow_model("xgboost", model, folder)


def lightgbm_estimator(folder):
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(FRAME, Y)
    return mlflow_model("lightgbm", model, folder)


def lightgbm_booster(folder):
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(FRAME, Y)
    return mlflow_model("lightgbm", model.booster_, folder)


WITHOUT_SIGNATURE = [
    *(of_matrix, of_table, xgboost_estimator, xgboost_booster),
    *(lightgbm_estimator, lightgbm_booster),
]


@pytest.fixture(scope="module", params=WITHOUT_SIGNATURE, ids=lambda way: way.__name__)
def runtime(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("model"))


def scoring(body):
    payload = Tensor(PAYLOAD, "BYTES", [1], pack_bytes([json.dumps(body).encode()]))
    return InferenceRequest([payload], {"content_type": SCORING})


def split(*rows, columns=("a", "b", "c")):
    return scoring({"dataframe_split": {"columns": list(columns), "data": list(rows)}})


def refusal_of(runtime, request):
    with pytest.raises(InvalidInput) as refused:
        runtime.infer(request)
    return str(refused.value)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (scoring({"inputs": [[1.0, 2.0]]}), "the model takes 3 features, got 2"),
        (InferenceRequest([tensor_of("x", MATRIX[:, :2])]), "the model takes 3 features, got 2"),
        (scoring({"inputs": [1.0, 2.0, 3.0]}), "shape [-1, 3], got shape [3]"),
        (scoring({"inputs": [[[1.0, 2.0, 3.0]]]}), "shape [-1, 3], got shape [1, 1, 3]"),
        (scoring({"inputs": 5}), "shape [-1, 3], got shape []"),
        (scoring({"inputs": {"a": [1.0]}}), "got an object with 'a' (FP64 of shape [1])"),
        (scoring({"inputs": [{"a": 1.0}]}), "got a list with an object"),
    ],
)
def test_a_wrong_shape_is_refused_with_the_number_of_features(runtime, request_, expected):
    assert expected in refusal_of(runtime, request_)


@pytest.mark.parametrize("cell", ["twelve", [1.0, 2.0], {"value": 1.0}])
def test_a_cell_that_is_no_number_is_refused_with_its_row_and_column(runtime, cell):
    words = {str: "text", list: "a list", dict: "an object"}
    assert refusal_of(runtime, split([1.0, 2.0, 3.0], [1.0, cell, 3.0])) == (
        f"column 'b', row 1: expected a number, got {words[type(cell)]}"
    )


@pytest.mark.parametrize("others", [None, pd.NA, "text"])
def test_arrays_in_the_cells_of_a_table_are_refused_with_their_place(others):
    table = FRAME.head(2).astype({"b": object})
    table["b"] = pd.Series([np.array([1.0, 2.0]), others], dtype=object)
    with pytest.raises(InvalidInput) as caught:
        refusal.call(LogisticRegression().fit(FRAME, Y).predict, table)

    assert "column 'b', row 0: expected a number, got a list" in caught.value.message


def test_a_table_with_too_few_columns_is_refused_with_what_the_model_takes(runtime):
    said = refusal_of(runtime, split([1.0, 2.0], columns=("a", "b")))

    assert said in (
        "the model takes 3 features, got 2",
        "the model takes the columns 'a', 'b', 'c' in this order, got 'a', 'b'",
    )


def test_no_refusal_repeats_a_value(runtime):
    for body in (["secret", "secret", "secret"], [[["secret"]]], [["secret", 2.0, 3.0]]):
        assert "secret" not in refusal_of(runtime, scoring({"inputs": body}))


def test_text_among_numbers_in_a_matrix_is_refused_with_its_place(tmp_path):
    request = scoring({"inputs": [[1.0, 2.0, 3.0], [1.0, 2.0, "x"]]})

    assert refusal_of(of_matrix(tmp_path), request) == (
        "column 2, row 1: expected a number, got text"
    )


def test_infinity_is_refused_with_its_place(tmp_path):
    rows = MATRIX.copy()
    rows[3, 1] = np.inf

    assert refusal_of(of_matrix(tmp_path), InferenceRequest([tensor_of("x", rows)])).startswith(
        "row 3, column 1 holds NaN (null) or infinity"
    )


def test_an_unknown_category_of_an_encoder_is_refused_with_its_place(tmp_path):
    table = FRAME.assign(c=["red", "blue"] * 10)
    encoder = ColumnTransformer([("c", OneHotEncoder(), ["c"])], remainder="passthrough")
    model = make_pipeline(encoder, LinearRegression()).fit(table, Y)
    request = split([1.0, 2.0, "red"], [1.0, 2.0, "pink"])

    assert refusal_of(mlflow_model("sklearn", model, tmp_path), request) == (
        "column 'c', row 1 holds a category that the model does not know"
    )


def test_a_pipeline_that_wants_a_table_says_so(tmp_path):
    table = FRAME.assign(c=["red", "blue"] * 10)
    encoder = ColumnTransformer([("c", OneHotEncoder(), ["c"])], remainder="passthrough")
    model = make_pipeline(encoder, LinearRegression()).fit(table, Y)
    request = InferenceRequest([tensor_of("x", MATRIX)])

    assert refusal_of(mlflow_model("sklearn", model, tmp_path), request) == (
        "the model takes a table with the columns 'a', 'b', 'c', got FP64 of shape [20, 3]"
    )


def test_the_native_runtime_refuses_as_mlflows_flavor_does(tmp_path):
    import joblib

    joblib.dump(LogisticRegression().fit(FRAME, Y), tmp_path / "model.joblib")
    settings = ModelSettings("m", "sklearn", uri=str(tmp_path), folder=str(tmp_path))
    runtime = create(settings)
    runtime.load()
    texts = InferenceRequest(tensors_of(FRAME.assign(b="x")), {"content_type": "pd"})

    assert refusal_of(runtime, texts) == "column 'b', row 0: expected a number, got text"
    cube = InferenceRequest([tensor_of("x", MATRIX[:4].reshape(2, 2, 3))])
    assert refusal_of(runtime, cube).endswith("shape [-1, 3], got shape [2, 2, 3]")


@pytest.mark.parametrize(
    ("body", "got"),
    [
        ([[1.0, 2.0]], "FP32 of shape [1, 2]"),
        ([1.0, 2.0, 3.0], "FP32 of shape [3]"),
        ([["a", "b", "c"]], "text of shape [1, 3]"),
        ([[1.0, "b", {}]], "a number and an object and text of shape [1, 3]"),
    ],
)
def test_a_graph_says_which_type_and_shape_it_expected(body, got, tmp_path):
    convert = pytest.importorskip("skl2onnx").to_onnx
    graph = convert(LinearRegression().fit(MATRIX, Y), MATRIX[:1].astype("float32"))
    runtime = mlflow_model("onnx", graph, tmp_path)
    said = refusal_of(runtime, scoring({"inputs": body}))

    assert said == f"input 'X': expected FP32 of shape [-1, 3], got {got}"


def fails(table):
    raise ValueError("the model's own failure")


class Calls(BaseEstimator, TransformerMixin):
    """A user's step that asks another model wrongly."""

    def fit(self, table, y):
        self.model_ = LinearRegression().fit(table, y)
        return self

    def transform(self, table):
        return self.model_.predict(table.iloc[:, :1])


@pytest.mark.parametrize("step", [FunctionTransformer(fails), Calls()])
def test_what_a_users_step_raises_is_the_models_failure(step):
    model = step.fit(FRAME, Y)
    with pytest.raises(ValueError, match="own failure|feature names") as failed:
        refusal.call(model.transform, FRAME)

    assert not isinstance(failed.value, HeadraceError)


def test_a_model_that_was_never_fitted_is_a_failure():
    with pytest.raises(ValueError, match="not fitted") as failed:
        refusal.call(LinearRegression().predict, FRAME)

    assert not isinstance(failed.value, HeadraceError)
