"""Models saved by the framework modules: read back, served, and refused."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import onnx
import onnxruntime
import pytest
import xgboost
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import headrace
from headrace.errors import InvalidInput, InvalidModel, NotFound
from support.served_models import answer, served, settings

X = np.random.default_rng(0).random((40, 3))
Y = (X[:, 0] > 0.5).astype(int)
BOTH = {"predict": {"batchable": True}, "predict_proba": {"batchable": True}}
TINY = {"n_estimators": 4, "max_depth": 2}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))


def doubled(value):
    return value * 2


def classifier():
    return LogisticRegression().fit(X, Y)


def files(stored):
    return {path.name for path in Path(stored.path).iterdir()}


def graph():
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> doubling (float[N, 3] x) => (float[N, 3] y) '
        "{ y = Add(x, x) }"
    )


def test_the_modules_are_there_after_importing_headrace_alone():
    program = (
        "import headrace, sys; assert headrace.sklearn.save_model and headrace.mlflow.get; "
        "print(*{'sklearn', 'mlflow', 'pandas'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (found.returncode, found.stdout.strip()) == (0, ""), found.stderr


def test_a_scikit_learn_model_comes_back_equal_from_a_file_that_runs_no_code():
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    stored = headrace.sklearn.save_model("iris", model)
    assert "model.skops" in files(stored)
    loaded = headrace.sklearn.load_model("iris:latest")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_what_skops_cannot_hold_is_pickled():
    model = make_pipeline(FunctionTransformer(lambda x: x + 1), LogisticRegression()).fit(X, Y)
    stored = headrace.sklearn.save_model("own", model)
    assert "model.pkl" in files(stored)
    np.testing.assert_array_equal(headrace.sklearn.load_model(stored).predict(X), model.predict(X))
    np.testing.assert_array_equal(answer(served(stored), X), model.predict(X))


def test_types_that_skops_does_not_know_are_trusted_as_recorded():
    model = lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(X, Y)
    stored = headrace.sklearn.save_model("labels", model)
    assert "lightgbm.sklearn.LGBMClassifier" in stored.info.options["skops_trusted_types"]
    np.testing.assert_array_equal(answer(served(stored), X), model.predict(X))


def test_a_saved_model_is_served_by_every_method_of_its_signatures():
    model = classifier()
    runtime = served(headrace.sklearn.save_model("iris", model, signatures=BOTH))
    np.testing.assert_array_equal(answer(runtime, X), model.predict(X))
    np.testing.assert_array_equal(answer(runtime, X, "predict_proba"), model.predict_proba(X))


def test_a_method_that_the_runtime_does_not_offer_by_itself_is_served_when_a_signature_names_it():
    model = KMeans(2, n_init=1, random_state=0).fit(X)
    stored = headrace.sklearn.save_model(
        "groups", model, signatures={"fit_predict": {}, "transform": {}}
    )
    assert settings(stored).extra["predict_fn"] == "fit_predict"
    np.testing.assert_allclose(answer(served(stored), X, "transform"), model.transform(X))


def test_without_signatures_the_runtime_decides_whether_to_merge_requests():
    stored = headrace.sklearn.save_model("iris", classifier())
    assert not stored.info.signatures["predict"].batchable
    found = settings(stored)
    assert (found.max_batch_size, found.extra.get("batchable")) == (None, None)


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        pytest.param({"batchable": False}, (1, None), id="not batchable"),
        pytest.param({"batchable": True}, (None, True), id="batchable"),
        pytest.param({"batchable": True, "batch_dim": 1}, (1, None), id="along columns"),
        pytest.param({"batchable": True, "batch_dim": (0, 1)}, (1, None), id="answers in columns"),
    ],
)
def test_a_signature_decides_whether_the_server_merges_requests(signature, expected):
    stored = headrace.sklearn.save_model("iris", classifier(), signatures={"predict": signature})
    found = settings(stored)
    assert (found.max_batch_size, found.extra.get("batchable")) == expected


def test_one_method_that_must_not_be_merged_keeps_the_others_apart_too():
    mixed = {"predict": {"batchable": True}, "predict_proba": {"batchable": False}}
    stored = headrace.sklearn.save_model("iris", classifier(), signatures=mixed)
    assert settings(stored).max_batch_size == 1


def test_labels_metadata_and_custom_objects_are_kept_and_the_framework_recorded():
    kept = {
        "labels": {"team": "growth"},
        "metadata": {"auc": 0.9},
        "custom_objects": {"double": doubled},
    }
    headrace.sklearn.save_model("iris:v1", classifier(), **kept)
    stored = headrace.sklearn.get("iris:v1")
    assert stored.info.labels == {"team": "growth"}
    assert stored.info.metadata == {"auc": 0.9}
    assert stored.custom_objects["double"](2) == 4
    assert stored.info.module == "headrace.sklearn"
    assert stored.info.context["framework_name"] == "sklearn"
    assert set(stored.info.context["framework_versions"]) == {"scikit-learn"}


def test_the_code_of_external_modules_is_kept_with_the_model(tmp_path, monkeypatch):
    (tmp_path / "addition.py").write_text("def add(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import addition

    headrace.picklable_model.save_model("plus", addition.add, external_modules=[addition])
    program = "import headrace; print(headrace.picklable_model.load_model('plus')(1))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd="/")
    assert found.stdout.strip() == "2", found.stderr


@pytest.mark.parametrize("booster", [True, False])
def test_an_xgboost_model_is_saved_as_ubjson_and_keeps_its_class(booster):
    model = xgboost.XGBClassifier(**TINY).fit(X, Y)
    saved = model.get_booster() if booster else model
    stored = headrace.xgboost.save_model("trees", saved)
    assert "model.ubj" in files(stored)
    loaded = headrace.xgboost.load_model(stored)
    assert type(loaded) is type(saved)
    value = xgboost.DMatrix(X) if booster else X
    np.testing.assert_array_equal(loaded.predict(value), saved.predict(value))
    np.testing.assert_array_equal(answer(served(stored), X), saved.predict(value))


def test_further_methods_of_an_xgboost_model_are_served():
    model = xgboost.XGBClassifier(**TINY).fit(X, Y)
    signatures = {**BOTH, "apply": {"batchable": True}}
    runtime = served(headrace.xgboost.save_model("trees", model, signatures=signatures))
    np.testing.assert_array_equal(answer(runtime, X, "apply"), model.apply(X))
    np.testing.assert_array_equal(answer(runtime, X, "predict_proba"), model.predict_proba(X))


def test_a_lightgbm_model_is_saved_as_the_text_of_its_booster():
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(X, Y)
    stored = headrace.lightgbm.save_model("light", model, signatures=BOTH)
    assert Path(stored.path_of("model.txt")).read_text().startswith("tree")
    loaded = headrace.lightgbm.load_model("light")
    np.testing.assert_array_equal(loaded.predict(X), model.booster_.predict(X))
    runtime = served(stored)
    np.testing.assert_array_equal(answer(runtime, X), model.booster_.predict(X))
    np.testing.assert_allclose(answer(runtime, X, "predict_proba"), model.predict_proba(X))


def test_an_onnx_graph_comes_back_as_a_session_and_is_served():
    stored = headrace.onnx.save_model("doubling", graph(), signatures={"run": {"batchable": True}})
    assert "model.onnx" in files(stored)
    session = headrace.onnx.load_model(stored)
    assert isinstance(session, onnxruntime.InferenceSession)
    rows = X.astype(np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": rows})[0], rows * 2)
    np.testing.assert_array_equal(answer(served(stored), rows), rows * 2)


class Greeter:
    def __call__(self, value):
        return value + 1

    def greet(self, names):
        return [f"hello {name}" for name in names]


def test_any_object_is_served_by_the_methods_that_its_signatures_name():
    signatures = {"__call__": {"batchable": True}, "greet": {"batchable": True}}
    stored = headrace.picklable_model.save_model("any", Greeter(), signatures=signatures)
    assert headrace.picklable_model.load_model("any")(1) == 2
    runtime = served(stored)
    assert runtime.metadata().row_independent
    np.testing.assert_array_equal(answer(runtime, X), X + 1)
    names = np.array(["Ada", "Grace"], dtype=object)
    assert answer(runtime, names, "greet").tolist() == ["hello Ada", "hello Grace"]
    with pytest.raises(InvalidInput, match="'farewell' is not available, this model has"):
        answer(runtime, X, "farewell")


def test_a_model_of_another_module_is_not_found_and_the_message_names_the_right_one():
    headrace.sklearn.save_model("iris:v1", classifier())
    message = (
        "model 'iris:v1' was saved with headrace.sklearn, not headrace.xgboost: "
        "headrace.sklearn.get and headrace.sklearn.load_model read it"
    )
    for ask in (headrace.xgboost.get, headrace.xgboost.load_model):
        with pytest.raises(NotFound) as caught:
            ask("iris:v1")
        assert caught.value.message == message


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("sklearn", "an estimator or pipeline of scikit-learn"),
        ("xgboost", "a Booster or an estimator of XGBoost"),
        ("lightgbm", "a Booster or an estimator of LightGBM"),
        ("onnx", "an onnx.ModelProto"),
    ],
)
def test_an_object_of_another_kind_is_refused(module, expected):
    with pytest.raises(TypeError) as caught:
        getattr(headrace, module).save_model("m", "text")
    assert str(caught.value) == f"headrace.{module}.save_model takes {expected}, got builtins.str"


@pytest.mark.parametrize(
    ("save", "message"),
    [
        pytest.param(
            lambda: headrace.sklearn.save_model("m", classifier(), signatures={"guess": {}}),
            "signatures: the model has no method 'guess'",
            id="unknown method",
        ),
        pytest.param(
            lambda: headrace.onnx.save_model("m", graph(), signatures={"predict": {}}),
            "signatures: headrace.onnx serves 'run', not 'predict'",
            id="not a method of onnx",
        ),
        pytest.param(
            lambda: headrace.sklearn.save_model("m", classifier(), signatures={"predict_prob": {}}),
            "signatures: the model has no method 'predict_prob'; did you mean 'predict_proba'?",
            id="mistyped method",
        ),
        pytest.param(
            lambda: headrace.sklearn.save_model(
                "m", classifier(), signatures={"predict": {"batchabel": True}}
            ),
            "signatures.predict: there is no 'batchabel', only batchable and batch_dim",
            id="mistyped key",
        ),
        pytest.param(
            lambda: headrace.sklearn.save_model("m", classifier(), signatures=["predict"]),
            "signatures: expected a dict, got list",
            id="a list",
        ),
        pytest.param(
            lambda: headrace.picklable_model.save_model("m", threading.Lock().acquire),
            "the model cannot be pickled: cannot pickle '_thread.lock' object",
            id="lock",
        ),
        pytest.param(
            lambda: headrace.picklable_model.save_model("m", doubled, external_modules=["os"]),
            "external_modules: expected imported modules, got str",
            id="name of a module",
        ),
        pytest.param(
            lambda: headrace.picklable_model.save_model("m", "text"),
            "signatures: the model has no method '__call__'",
            id="not callable",
        ),
    ],
)
def test_what_cannot_be_served_or_kept_is_refused_and_leaves_nothing(save, message, tmp_path):
    with pytest.raises(InvalidInput) as caught:
        save()
    assert caught.value.message == message
    with pytest.raises(NotFound):
        headrace.models.get("m")
    assert not list(tmp_path.glob("models/.staging/*"))


def test_a_mistyped_argument_is_refused_by_name():
    with pytest.raises(
        TypeError, match=r"headrace.sklearn: there is no argument 'label'; .*labels"
    ):
        headrace.sklearn.save_model("m", classifier(), label={})


def test_a_model_whose_file_is_gone_is_refused_by_name():
    stored = headrace.xgboost.save_model("trees:v1", xgboost.XGBClassifier(**TINY).fit(X, Y))
    Path(stored.path_of("model.ubj")).unlink()
    with pytest.raises(InvalidModel, match=r"model 'trees:v1' has none of 'model.ubj'"):
        headrace.xgboost.settings_of(stored)


def test_a_file_that_was_changed_in_the_store_is_not_loaded():
    stored = headrace.xgboost.save_model("trees", xgboost.XGBClassifier(**TINY).fit(X, Y))
    path = Path(stored.path_of("model.ubj"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InvalidModel, match="model.ubj"):
        headrace.xgboost.load_model("trees")


BENTOML = """\
name: iris
version: v1
module: bentoml.{module}
labels: {{}}
options: {{}}
metadata: {{}}
context: {{framework_name: {module}, framework_versions: {{}}, bentoml_version: 1.0.25}}
signatures: {{predict: {{batchable: true, batch_dim: [0, 0]}}}}
api_version: v1
creation_time: '2023-12-01T10:45:15.419719+00:00'
"""


@pytest.mark.parametrize(
    ("module", "file", "make", "write"),
    [
        ("sklearn", "saved_model.pkl", classifier, joblib.dump),
        (
            "xgboost",
            "saved_model.ubj",
            lambda: xgboost.XGBClassifier(**TINY).fit(X, Y),
            lambda model, path: model.save_model(path),
        ),
        (
            "lightgbm",
            "saved_model.ubj",
            lambda: lightgbm.LGBMRegressor(n_estimators=2, verbose=-1).fit(X, Y).booster_,
            lambda model, path: model.save_model(path),
        ),
    ],
    ids=["sklearn", "xgboost", "lightgbm"],
)
def test_a_model_folder_of_bentoml_is_loaded_and_served(module, file, make, write, tmp_path):
    folder, model = tmp_path / "bentoml", make()
    folder.mkdir()
    (folder / "model.yaml").write_text(BENTOML.format(module=module))
    write(model, str(folder / file))
    stored = headrace.models.import_model(folder)
    np.testing.assert_array_equal(stored.load_model().predict(X), model.predict(X))
    np.testing.assert_array_equal(answer(served(stored), X), model.predict(X))
    assert settings(stored).extra["batchable"]
