"""What every runtime promises, asked of each of them by the same tests."""

from __future__ import annotations

import inspect
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from headrace.codecs.array import array_of, tensor_of
from headrace.errors import InvalidInput, LoadFailed, MissingDependency
from headrace.model import Model
from headrace.protocol.messages import InferenceRequest
from headrace.runtimes import create
from headrace.settings import ModelSettings

X = np.arange(12.0).reshape(6, 2) % 5
Y = X @ [2.0, -1.0]


class Case(NamedTuple):
    model: Model
    expected: np.ndarray
    wrong: InferenceRequest
    complaint: str


def rows(array):
    return InferenceRequest([tensor_of("x", array)])


def columns(array):
    tensors = [tensor_of(name, np.ascontiguousarray(array[:, i])) for i, name in enumerate("ab")]
    return InferenceRequest(tensors, {"content_type": "pd"})


def make_sklearn(folder: Path) -> Case:
    model = LinearRegression().fit(X, Y)
    joblib.dump(model, folder / "model.joblib")
    loaded = create(ModelSettings("m", "sklearn", uri=str(folder)))
    return Case(loaded, model.predict(X), rows(X[:, :1]), "takes 2 features, got 1")


def make_xgboost(folder: Path) -> Case:
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBRegressor(n_estimators=3).fit(X, Y)
    model.save_model(folder / "model.ubj")
    loaded = create(ModelSettings("m", "mlserver_xgboost.XGBoostModel", uri=str(folder)))
    return Case(loaded, model.predict(X), rows(X[:, :1]), "takes 2 features, got 1")


def make_lightgbm(folder: Path) -> Case:
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.train({"verbose": -1, "min_data_in_leaf": 1}, lightgbm.Dataset(X, Y), 3)
    model.save_model(folder / "model.bst")
    loaded = create(ModelSettings("m", "mlserver_lightgbm.LightGBMModel", uri=str(folder)))
    return Case(loaded, model.predict(X), rows(X[:, :1]), "takes 2 features, got 1")


def make_catboost(folder: Path) -> Case:
    catboost = pytest.importorskip("catboost")
    quiet = {"verbose": False, "allow_writing_files": False}
    model = catboost.CatBoostRegressor(iterations=3, **quiet).fit(X, Y)
    model.save_model(str(folder / "model.cbm"))
    loaded = create(ModelSettings("m", "mlserver_catboost.CatboostModel", uri=str(folder)))
    return Case(loaded, model.predict(X), rows(X[:, :1]), "takes 2 features, got 1")


def make_onnx(folder: Path) -> Case:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    graph = onnx.parser.parse_model(
        "<ir_version: 8, opset_import: ['' : 17]> g (double[N,2] x) => (double[N] y)\n"
        "<double[2] w = {2.0, -1.0}> { y = MatMul(x, w) }".replace("'", '"')
    )
    onnx.save(graph, folder / "model.onnx")
    loaded = create(ModelSettings("m", "mlserver_onnx.OnnxModel", uri=str(folder)))
    return Case(loaded, Y, rows(X[:, :1]), r"'x': expected shape \[-1, 2\], got \[6, 1\]")


def make_mlflow(folder: Path) -> Case:
    mlflow = pytest.importorskip("mlflow.sklearn")
    model = LinearRegression().fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.save_model(model, folder / "m", serialization_format="pickle")
    loaded = create(ModelSettings("m", "mlserver_mlflow.MLflowRuntime", uri=str(folder / "m")))
    return Case(
        loaded,
        model.predict(X),
        InferenceRequest([tensor_of("x", X)] * 2, {"content_type": "np"}),
        "takes exactly one input, got 2",
    )


def make_custom(folder: Path) -> Case:
    (folder / "my_model.py").write_text(
        "import numpy as np\nfrom headrace.model import Model\n"
        "class Mine(Model):\n"
        "    def predict(self, x: np.ndarray):\n"
        "        return x @ [2.0, -1.0]\n"
    )
    loaded = create(ModelSettings("m", "my_model.Mine", folder=str(folder)))
    return Case(loaded, Y, InferenceRequest([tensor_of("z", X)]), "input 'z' is unknown")


MAKERS = [make_sklearn, make_xgboost, make_lightgbm, make_onnx, make_mlflow, make_custom]
HEAVY = [pytest.param(make_catboost, marks=pytest.mark.runtimes)]
CATBOOST = pytest.param("catboost", marks=pytest.mark.runtimes)


@pytest.fixture(params=[*MAKERS, *HEAVY], ids=lambda make: make.__name__[5:])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    make: Callable[[Path], Case] = request.param
    made = make(tmp_path)
    made.model.load()
    return made


def test_the_answer_is_the_models_own(case):
    (output,) = case.model.infer(rows(X)).outputs
    np.testing.assert_array_equal(array_of(output), case.expected)


def test_a_batch_answers_as_its_rows_do(case):
    single = [array_of(case.model.infer(rows(X[i : i + 1])).outputs[0]) for i in range(len(X))]
    np.testing.assert_allclose(np.concatenate(single), case.expected, rtol=1e-12)


def test_metadata_is_plain_data(case):
    metadata = case.model.metadata()
    assert metadata.from_dict(metadata.to_dict()) == metadata


def test_wrong_input_names_what_is_wrong(case):
    with pytest.raises(InvalidInput, match=case.complaint):
        case.model.infer(case.wrong)


def test_unloading_needs_no_request_before_it(case):
    assert not inspect.isawaitable(case.model.unload())


@pytest.mark.parametrize("name", ["sklearn", "xgboost", "lightgbm", "onnx", CATBOOST, "mlflow"])
def test_a_folder_without_a_model_fails_to_load(name, tmp_path):
    model = create(ModelSettings("m", name, uri=str(tmp_path)))
    with pytest.raises(LoadFailed) as failure:
        model.load()
    assert str(tmp_path) not in failure.value.message


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("sklearn", "model.pkl"),
        ("xgboost", "model.json"),
        ("lightgbm", "model.txt"),
        pytest.param("catboost", "model.cbm", marks=pytest.mark.runtimes),
        ("onnx", "model.onnx"),
    ],
)
def test_a_broken_file_fails_to_load_in_one_sentence(name, file, tmp_path):
    (tmp_path / file).write_bytes(b"not a model")
    model = create(ModelSettings("m", name, uri=str(tmp_path)))
    with pytest.raises(LoadFailed, match="could not be read: \\w+ was raised"):
        model.load()


def test_a_table_and_a_matrix_answer_alike(tmp_path):
    frame = pd.DataFrame(X, columns=["a", "b"])
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(LinearRegression().fit(frame, Y)))
    model = create(ModelSettings("m", "sklearn", uri=str(tmp_path)))
    model.load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_matrix = array_of(model.infer(rows(X)).outputs[0])
    by_table = array_of(model.infer(columns(X)).outputs[0])
    np.testing.assert_allclose(by_table, by_matrix, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "framework"),
    [("lightgbm", "lightgbm"), ("catboost", "catboost"), ("onnx", "onnxruntime")],
)
def test_a_missing_framework_is_named_with_the_command_that_installs_it(
    name, framework, tmp_path, monkeypatch
):
    class Absent:
        def find_spec(self, module, path=None, target=None):
            if module == framework:
                raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    monkeypatch.delitem(sys.modules, framework, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(MissingDependency, match=rf"pip install 'headrace\[{name}\]'"):
        create(ModelSettings("m", name, uri=str(tmp_path))).load()
