from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import ElasticNet, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from headrace.codecs.array import array_of, tensor_of
from headrace.codecs.frame import tensors_of
from headrace.errors import InvalidInput, LoadFailed
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.signature import Signature
from headrace.runtimes import create
from headrace.settings import ModelSettings

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")

WINE = Path(__file__).parents[2] / "examples/data/wine-quality-red.csv"


@pytest.fixture(scope="module")
def wine():
    return pd.read_csv(WINE).astype(float).drop(columns="quality")


def save(folder, model, example=None, flavor="sklearn", **options):
    save_model = importlib.import_module(f"mlflow.{flavor}").save_model
    if example is not None:
        options["signature"] = mlflow.models.infer_signature(example)
    requirements = {"pip_requirements": ["numpy"], **options}
    if flavor == "pyfunc":
        save_model(str(folder), **requirements)
    else:
        save_model(model, str(folder), **requirements)
    return folder


def serve(folder):
    runtime = create(ModelSettings("m", "mlflow", uri=str(folder)))
    runtime.load()
    return runtime


def ask(runtime, frame, **parameters):
    raw = runtime.metadata().signature
    request = InferenceRequest(tensors_of(frame), {"content_type": "pd", **parameters})
    return runtime.infer(Signature.parse(raw).conform(request) if raw else request)


def only(response):
    (tensor,) = response.outputs
    return array_of(tensor)


@pytest.fixture(scope="module")
def elastic(wine):
    model = ElasticNet(alpha=0.5, l1_ratio=0.5, random_state=42)
    return model.fit(wine, pd.read_csv(WINE)["quality"])


@pytest.mark.parametrize("form", ["skops", "cloudpickle", "pickle"])
@pytest.mark.parametrize("signed", [True, False], ids=["signature", "no signature"])
def test_wine_answers_are_pyfuncs_to_the_bit(form, signed, elastic, wine, tmp_path):
    example = wine if signed else None
    folder = save(tmp_path / "m", elastic, example, serialization_format=form)
    answer = only(ask(serve(folder), wine))
    assert answer.tobytes() == mlflow.pyfunc.load_model(str(folder)).predict(wine).tobytes()
    assert answer.tobytes() == elastic.predict(wine).tobytes()


def test_an_output_that_the_model_lacks_is_refused_by_name(elastic, wine, tmp_path):
    runtime = serve(save(tmp_path / "m", elastic, wine))
    inputs = [tensor_of(name, wine[name].to_numpy()) for name in wine]

    with pytest.raises(InvalidInput, match="output 'colour' is not available"):
        runtime.infer(InferenceRequest(inputs, outputs=["colour"]))


def test_predict_fn_of_the_model_is_used(tmp_path):
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]})
    model = LogisticRegression().fit(frame, [0, 0, 1, 1])
    folder = save(tmp_path / "m", model, frame, pyfunc_predict_fn="predict_proba")
    np.testing.assert_array_equal(only(ask(serve(folder), frame)), model.predict_proba(frame))


@pytest.mark.parametrize("kind", ["booster", "classifier"])
def test_xgboost_answers_are_pyfuncs_to_the_bit(kind, wine, tmp_path):
    xgboost = pytest.importorskip("xgboost")
    labels = (wine["alcohol"] > 10).astype(int)
    if kind == "booster":
        model = xgboost.train({}, xgboost.DMatrix(wine, label=labels), num_boost_round=3)
    else:
        model = xgboost.XGBClassifier(n_estimators=3).fit(wine, labels)
    folder = save(tmp_path / "m", model, wine, flavor="xgboost")
    runtime = serve(folder)
    expected = mlflow.pyfunc.load_model(str(folder)).predict(wine)
    assert only(ask(runtime, wine)).tobytes() == expected.tobytes()
    assert runtime.row_independent


class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        table = [model_input.to_dict("list"), list(model_input.dtypes), list(model_input.columns)]
        return [repr(table) + repr(params)]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"t": pd.to_datetime(["2020-01-01T01:02:03.000000004"])}),
        pd.DataFrame({"s": ["a"], "n": [1.5], "i": np.array([1], np.int32)}),
        pd.DataFrame({"b": [True], "x": [b"\xff"]}),
        pd.DataFrame([[1.0, 2.0]]),
    ],
    ids=["datetime", "mixed", "boolean and binary", "numbered columns"],
)
def test_the_model_sees_what_pyfunc_shows_it(frame, tmp_path):
    folder = save(tmp_path / "m", None, frame, "pyfunc", python_model=Echo())
    expected = mlflow.pyfunc.load_model(str(folder)).predict(frame)
    runtime = serve(folder)
    assert only(ask(runtime, frame)).tolist() == expected
    assert not runtime.row_independent


def test_params_reach_the_model_with_defaults_filled_in(tmp_path):
    frame = pd.DataFrame({"a": [1.0]})
    signature = mlflow.models.infer_signature(frame, params={"top": 3, "mode": "x"})
    folder = save(tmp_path / "m", None, None, "pyfunc", python_model=Echo(), signature=signature)
    expected = mlflow.pyfunc.load_model(str(folder)).predict(frame, {"top": 5})
    assert only(ask(serve(folder), frame, top=5)).tolist() == expected


def test_text_and_flags_reach_a_native_pipeline(tmp_path):
    frame = pd.DataFrame({"s": ["a", "b", "a"], "b": [True, False, True]})
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, [0, 1, 0])
    folder = save(tmp_path / "m", model, frame)
    runtime = serve(folder)
    expected = mlflow.pyfunc.load_model(str(folder)).predict(frame)
    assert only(ask(runtime, frame)).tolist() == expected.tolist()


def test_an_unnamed_tensor_signature_gives_the_model_an_array(elastic, tmp_path):
    matrix = np.zeros((2, 11))
    model = ElasticNet().fit(matrix, [0, 1])
    runtime = serve(save(tmp_path / "m", model, matrix))
    request = InferenceRequest([tensor_of("anything", matrix)])
    conformed = Signature.parse(runtime.metadata().signature).conform(request)
    assert only(runtime.infer(conformed)).tolist() == model.predict(matrix).tolist()
    assert runtime.metadata().parameters == {"content_type": "np"}


def test_metadata_is_the_signature(elastic, wine, tmp_path):
    metadata = serve(save(tmp_path / "m", elastic, wine)).metadata()
    assert [tensor.name for tensor in metadata.inputs] == list(wine.columns)
    assert metadata.parameters == {"content_type": "pd"}
    assert metadata.row_independent


MLMODEL_1 = """\
artifact_path: model
flavors:
  python_function:
    data: model.pkl
    env: conda.yaml
    loader_module: mlflow.sklearn
    python_version: 3.7.6
  sklearn:
    pickled_model: model.pkl
    serialization_format: cloudpickle
    sklearn_version: 0.20.2
run_id: abc
utc_time_created: '2020-10-05 00:00:00'
"""

MLMODEL_2 = """\
artifact_path: model
flavors:
  python_function:
    env: {conda: conda.yaml, virtualenv: python_env.yaml}
    loader_module: mlflow.sklearn
    model_path: model.pkl
    predict_fn: predict
    python_version: 3.10.0
  sklearn: {code: null, pickled_model: model.pkl, serialization_format: cloudpickle}
mlflow_version: 2.9.2
model_uuid: 0123456789abcdef0123456789abcdef
signature:
  inputs: '[{"type": "double", "name": "a", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]'
  params: null
"""


@pytest.mark.parametrize("text", [MLMODEL_1, MLMODEL_2], ids=["1.x", "2.x"])
def test_folders_of_older_mlflow_load(text, tmp_path):
    import cloudpickle

    frame = pd.DataFrame({"a": [0.0, 1.0]})
    model = ElasticNet().fit(frame, [0, 1])
    (tmp_path / "model.pkl").write_bytes(cloudpickle.dumps(model))
    (tmp_path / "MLmodel").write_text(text)
    assert only(ask(serve(tmp_path), frame)).tolist() == model.predict(frame).tolist()


def test_a_model_file_outside_the_folder_is_refused(tmp_path):
    (tmp_path / "MLmodel").write_text(MLMODEL_2.replace("model_path: model", "model_path: ../x"))
    with pytest.raises(LoadFailed, match="not in the model's folder"):
        serve(tmp_path)


def test_mlflows_switch_against_pickles_is_honoured(elastic, tmp_path, monkeypatch):
    folder = save(tmp_path / "m", elastic, serialization_format="pickle")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    with pytest.raises(LoadFailed, match="MLFLOW_ALLOW_PICKLE_DESERIALIZATION forbids"):
        serve(folder)


def test_code_logged_with_the_model_is_importable(tmp_path):
    (tmp_path / "wine_code.py").write_text("def double(table):\n    return table * 2\n")
    folder = save(
        tmp_path / "m",
        ElasticNet().fit([[0.0], [1.0]], [0, 1]),
        code_paths=[str(tmp_path / "wine_code.py")],
        serialization_format="pickle",
    )
    serve(folder)
    assert __import__("wine_code").__file__.startswith(str(folder))
