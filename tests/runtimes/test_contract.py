"""What every runtime promises, checked for each of them by the same tests."""

from __future__ import annotations

import gc
import inspect
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from headrace.codecs.array import array_of, tensor_of
from headrace.errors import InvalidInput, LoadFailed, MissingDependency
from headrace.protocol.messages import InferenceRequest
from headrace.runtimes import create
from headrace.settings import ModelSettings
from support.contract import HEAVY, LIGHT, Case, X, Y, rows
from support.from_metadata import request_of

# Warnings of the heavy frameworks about their own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pyspark"),
    pytest.mark.filterwarnings("ignore::FutureWarning:pyspark"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("default:::transformers"),
]


def columns(array):
    tensors = [tensor_of(name, np.ascontiguousarray(array[:, i])) for i, name in enumerate("ab")]
    return InferenceRequest(tensors, {"content_type": "pd"})


CATBOOST = pytest.param("catboost", marks=pytest.mark.runtimes)
MAKERS = [*LIGHT, *(pytest.param(make, marks=pytest.mark.runtimes) for make in HEAVY)]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    made: Case = request.param(tmp_path)
    made.model.load()
    return made


def answers(case, array):
    return [case.read(output) for output in case.model.infer(case.request(array)).outputs]


def test_the_answer_is_the_models_own(case):
    found = answers(case, X)
    assert len(found) == len(case.expected)
    for output, expected in zip(found, case.expected, strict=True):
        np.testing.assert_allclose(output, expected, rtol=case.rtol)


def test_a_batch_answers_as_its_rows_do(case):
    single = [answers(case, X[i : i + 1]) for i in range(len(X))]
    for output, *alone in zip(answers(case, X), *single, strict=True):
        np.testing.assert_allclose(np.concatenate(alone), output, rtol=max(case.rtol, 1e-12))


def test_metadata_is_plain_data_from_the_model_itself(case):
    metadata = case.model.metadata()
    assert metadata.from_dict(metadata.to_dict()) == metadata
    assert [(t.name, t.datatype, t.shape) for t in metadata.inputs] == case.inputs


def test_the_request_that_the_metadata_describes_is_answered(case):
    if not case.inputs:
        pytest.skip("the model does not know its inputs")
    assert case.model.infer(request_of(case.model.metadata().inputs)).outputs


def test_wrong_input_names_what_is_wrong(case):
    with pytest.raises(InvalidInput, match=case.complaint):
        case.model.infer(case.wrong)


def test_unloading_needs_no_request_before_it(case):
    assert not inspect.isawaitable(case.model.unload())


def test_unloading_frees_the_model(case):
    def alive():
        gc.collect()
        return sum(type(value) is case.kind for value in gc.get_objects())

    case.model.unload()
    # Other tests in this process may keep models.
    others = alive()
    case.model.load()
    answers(case, X)
    assert alive() > others
    case.model.unload()
    assert alive() == others


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
    ("name", "framework", "extra"),
    [
        ("sklearn", "joblib", "sklearn"),
        ("sklearn", "sklearn", "sklearn"),
        ("xgboost", "xgboost", "xgboost"),
        ("lightgbm", "lightgbm", "lightgbm"),
        ("catboost", "catboost", "catboost"),
        ("onnx", "onnxruntime", "onnx"),
        ("mlflow", "mlflow", "mlflow"),
        ("pytorch", "torch", "torch"),
        ("keras", "keras", "keras"),
        ("tensorflow", "tensorflow", "tensorflow"),
        ("huggingface", "torch", "huggingface"),
        ("spark", "pyspark", "spark"),
    ],
)
def test_a_missing_framework_is_named_with_the_command_that_installs_it(
    name, framework, extra, tmp_path, monkeypatch
):
    class Absent:
        def find_spec(self, module, path=None, target=None):
            if module.partition(".")[0] == framework:
                raise ModuleNotFoundError(f"No module named '{framework}'", name=framework)

    (tmp_path / "model.joblib").write_bytes(b"")
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.x}}")
    for module in list(sys.modules):
        if module.partition(".")[0] == framework:
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(MissingDependency, match=rf"pip install 'headrace\[{extra}\]'"):
        create(ModelSettings("m", name, uri=str(tmp_path))).load()
