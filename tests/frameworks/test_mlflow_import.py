"""Importing MLflow models: what is kept, how they are loaded and served, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import headrace
from headrace.codecs.array import array_of
from headrace.codecs.frame import tensors_of
from headrace.errors import InvalidInput, InvalidModel, LoadFailed, NotFound
from headrace.protocol.messages import InferenceRequest
from support.served_models import answer, ask, served, settings

pytestmark = pytest.mark.filterwarnings("ignore")

X = np.random.default_rng(0).random((40, 3))
Y = (X[:, 0] > 0.5).astype(int)
TABLE = pd.DataFrame(X, columns=["a", "b", "c"])
BOTH = {"predict": {"batchable": True}, "predict_proba": {"batchable": True}}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def classifier():
    return LogisticRegression().fit(TABLE, Y)


@pytest.fixture
def logged(tmp_path):
    """An MLflow folder with a signature, params and an input example."""
    signature = mlflow.models.infer_signature(TABLE, Y, {"threshold": 0.5})
    mlflow.sklearn.save_model(
        classifier(),
        str(tmp_path / "my_model"),
        signature=signature,
        input_example=TABLE.head(2),
        pip_requirements=["scikit-learn"],
    )
    return tmp_path / "my_model"


class Scaled(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input.sum(axis=1).to_numpy()

    def halved(self, model_input):
        return self.predict(None, model_input) / 2


def test_a_folder_is_copied_whole(logged):
    stored = headrace.mlflow.import_model("wine", logged)
    copy = Path(stored.path_of(headrace.mlflow.MLFLOW_MODEL_FOLDER))
    names = sorted(path.relative_to(logged) for path in logged.rglob("*"))
    assert sorted(path.relative_to(copy) for path in copy.rglob("*")) == names
    assert stored.info.module == "headrace.mlflow"
    assert stored.info.context["framework_name"] == "mlflow"


@pytest.mark.parametrize("form", ["path", "file", "relative"])
def test_a_folder_is_named_by_a_path_or_a_file_uri(form, logged, monkeypatch):
    monkeypatch.chdir(logged.parent)
    uri = {"path": str(logged), "file": logged.as_uri(), "relative": "./my_model"}[form]
    assert headrace.mlflow.import_model("wine", uri).info.options["flavors"] == [
        "python_function",
        "sklearn",
    ]


def test_what_mlmodel_says_of_the_model_is_in_its_record(logged):
    options = headrace.mlflow.import_model("wine", logged).info.options
    assert options["loader_module"] == "mlflow.sklearn"
    assert '"name": "a"' in options["signature"]["inputs"]
    assert "threshold" in options["signature"]["params"]
    assert options["input_example"] == "input_example.json"
    assert options["requirements"][-1] == "scikit-learn"
    assert options["mlflow_version"] == mlflow.__version__


def test_the_served_model_has_the_signature_the_params_and_the_tried_example(logged):
    runtime = served(headrace.mlflow.import_model("wine", logged))
    metadata = runtime.metadata()
    assert [row.name for row in metadata.inputs] == ["a", "b", "c"]
    assert "threshold" in str(metadata.signature["params"])
    assert metadata.row_independent
    response = runtime.infer(InferenceRequest(tensors_of(TABLE)))
    np.testing.assert_array_equal(array_of(response.outputs[0]), classifier().predict(TABLE))


def test_it_is_loaded_as_pyfunc_and_as_what_it_is_inside(logged):
    headrace.mlflow.import_model("wine", logged)
    pyfunc = headrace.mlflow.load_model("wine:latest")
    assert isinstance(pyfunc, mlflow.pyfunc.PyFuncModel)
    native = headrace.mlflow.load_model("wine:latest", native=True)
    assert isinstance(native, LogisticRegression)
    np.testing.assert_array_equal(pyfunc.predict(TABLE), native.predict(TABLE))
    by_store = headrace.mlflow.get("wine").load_model(native=True)
    np.testing.assert_array_equal(by_store.predict(TABLE), native.predict(TABLE))


def test_the_model_of_mlflow_says_what_mlmodel_says(logged):
    headrace.mlflow.import_model("wine", logged)
    found = headrace.mlflow.get_mlflow_model("wine")
    assert found.signature.inputs.input_names() == ["a", "b", "c"]


def test_several_methods_are_served_by_the_model_inside(logged):
    stored = headrace.mlflow.import_model("wine", logged, signatures=BOTH)
    runtime = served(stored)
    request = InferenceRequest(tensors_of(TABLE), None, ["predict_proba"])
    (output,) = runtime.infer(request).outputs
    assert output.name == "predict_proba"
    np.testing.assert_array_equal(array_of(output), classifier().predict_proba(TABLE))
    labels = runtime.infer(InferenceRequest(tensors_of(TABLE), None, ["predict"]))
    np.testing.assert_array_equal(array_of(labels.outputs[0]), classifier().predict(TABLE))


def test_several_methods_are_served_where_the_model_inside_is_not_of_scikit_learn(tmp_path):
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(TABLE, Y)
    mlflow.lightgbm.save_model(model, str(tmp_path / "m"), pip_requirements=["lightgbm"])
    runtime = served(headrace.mlflow.import_model("light", tmp_path / "m", signatures=BOTH))
    np.testing.assert_allclose(answer(runtime, X, "predict_proba"), model.predict_proba(X))


def test_a_method_of_a_python_model_is_served(tmp_path):
    mlflow.pyfunc.save_model(
        str(tmp_path / "m"), python_model=Scaled(), pip_requirements=["pandas"]
    )
    signatures = {"predict": {"batchable": True}, "halved": {"batchable": True}}
    stored = headrace.mlflow.import_model("sum", tmp_path / "m", signatures=signatures)
    assert isinstance(headrace.mlflow.load_model(stored, native=True), mlflow.pyfunc.PythonModel)
    runtime = served(stored)
    assert runtime.metadata().row_independent
    request = InferenceRequest(tensors_of(TABLE), {"content_type": "pd"}, ["halved"])
    (output,) = runtime.infer(request).outputs
    np.testing.assert_allclose(array_of(output), X.sum(axis=1) / 2)


def test_a_python_model_is_merged_only_if_its_signature_says_so(tmp_path):
    mlflow.pyfunc.save_model(
        str(tmp_path / "m"), python_model=Scaled(), pip_requirements=["pandas"]
    )
    plain = headrace.mlflow.import_model("plain", tmp_path / "m")
    assert not served(plain).metadata().row_independent
    assert settings(plain).extra == {}
    promised = {"predict": {"batchable": True}}
    merged = headrace.mlflow.import_model("merged", tmp_path / "m", signatures=promised)
    assert served(merged).metadata().row_independent


def test_a_promise_that_the_input_example_refutes_is_not_kept(tmp_path):
    class Ranks(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input["a"].rank().to_numpy()

    mlflow.pyfunc.save_model(
        str(tmp_path / "m"),
        python_model=Ranks(),
        input_example=TABLE.head(3),
        pip_requirements=["pandas"],
    )
    promised = {"predict": {"batchable": True}}
    stored = headrace.mlflow.import_model("ranks", tmp_path / "m", signatures=promised)
    assert not served(stored).metadata().row_independent


def test_a_method_that_the_model_inside_lacks_is_refused_and_leaves_nothing(logged):
    with pytest.raises(InvalidInput, match="signatures: the model has no method 'guess'"):
        headrace.mlflow.import_model("wine", logged, signatures={"guess": {}})
    with pytest.raises(NotFound):
        headrace.models.get("wine")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "is a link out of the folder"),
        (lambda path: path.symlink_to("/etc"), "is a link out of the folder"),
        (lambda path: path.symlink_to("../../secret"), "is a link out of the folder"),
        (lambda path: path.symlink_to(path.name), "is a link to something that is not a file"),
        (os.mkfifo, "is neither a file nor a folder"),
    ],
    ids=["a file", "a folder", "a sibling", "itself", "a pipe"],
)
def test_a_folder_that_leads_out_of_itself_is_refused_and_leaves_nothing(logged, home, make, words):
    (logged.parent / "secret").write_text("secret")
    make(logged / "link")

    with pytest.raises((InvalidInput, InvalidModel), match=words):
        headrace.mlflow.import_model("wine", logged)
    assert headrace.models.list() == []
    assert list((home / "models/.staging").iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"[a]",
        b"flavors: " + b"[" * 10_000,
        b"flavors: !!python/object/apply:os.system ['touch evil']",
        b"#" * 20_000_000,
    ],
    ids=["not text", "a list", "deep", "code", "large"],
)
def test_a_hostile_mlmodel_is_refused_and_leaves_nothing(logged, home, content, monkeypatch):
    monkeypatch.chdir(logged)
    (logged / "MLmodel").write_bytes(content)

    with pytest.raises(InvalidModel, match="MLmodel|not an MLflow model|flavor"):
        headrace.mlflow.import_model("wine", logged, signatures=BOTH)
    assert headrace.models.list() == []
    assert not (logged / "evil").exists()


def test_a_folder_without_mlmodel_is_not_an_mlflow_model(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidModel) as caught:
        headrace.mlflow.import_model("m", tmp_path / "empty")
    assert caught.value.message.endswith("/empty' is not an MLflow model: no MLmodel file is there")


def test_a_model_that_python_cannot_load_is_refused_with_its_flavors(tmp_path):
    (tmp_path / "MLmodel").write_text("flavors: {crate: {version: 1}, mleap: {}}\n")
    with pytest.raises(InvalidModel, match="has no python_function flavor.*: crate, mleap"):
        headrace.mlflow.import_model("m", tmp_path)


def test_an_empty_uri_is_refused():
    with pytest.raises(InvalidInput, match="model_uri is empty"):
        headrace.mlflow.import_model("m", "")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(LoadFailed, match="there is no folder './missing'"):
        headrace.mlflow.import_model("m", "./missing")


def test_a_scheme_that_mlflow_does_not_know_is_named_with_those_it_knows(home):
    with pytest.raises(LoadFailed) as caught:
        headrace.mlflow.import_model("m", "gopher://host/model")
    assert caught.value.message.startswith(
        "MLflow cannot fetch 'gopher://host/model': there is no scheme 'gopher'; MLflow knows "
    )
    assert list((home / "downloads").iterdir()) == []


def test_a_model_of_another_module_is_not_found(logged):
    headrace.mlflow.import_model("wine:v1", logged)
    with pytest.raises(NotFound, match="saved with headrace.mlflow, not headrace.sklearn"):
        headrace.sklearn.load_model("wine:v1")


def test_a_model_that_was_loaded_natively_can_be_saved_by_its_own_module(logged):
    loaded = mlflow.sklearn.load_model(str(logged))
    stored = headrace.sklearn.save_model("iris_clf", loaded, signatures=BOTH)
    np.testing.assert_allclose(
        answer(served(stored), X, "predict_proba"), classifier().predict_proba(TABLE)
    )
    assert len(ask(served(stored), X, "predict", "predict_proba").outputs) == 2
