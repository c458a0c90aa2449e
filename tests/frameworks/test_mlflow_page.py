"""The MLflow page of VtsServing's documentation, snippet by snippet, with scikit-learn.

Each runs as `import headrace` and as `import vtsserving`. Its command line is ours. PyTorch's part
is in `test_mlflow_page_torch.py`, and `s3://` in `test_mlflow_s3.py`.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression, LogisticRegression

import headrace
from headrace.compat import alias
from support.served_models import answer, served, settings
from support.wheels import make_wheel, offline, wheelhouse

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]

X = np.array([[1, 1], [1, 2], [2, 2], [2, 3]], dtype=float)
Y = X @ [1.0, 2.0] + 3
TABLE = pd.DataFrame(X, columns=["a", "b"])
BATCHED = {"predict": {"batchable": True}}


@pytest.fixture(params=["headrace", "vtsserving"])
def vts(request, monkeypatch):
    """The module, imported by either name."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    alias.offer()
    yield importlib.import_module(request.param)
    for name in [name for name in sys.modules if name.partition(".")[0] == "vtsserving"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, tracking):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def regression():
    return LinearRegression().fit(X, Y)


def check(vts, stored):
    np.testing.assert_allclose(vts.mlflow.load_model(str(stored.tag)).predict(X), Y)


def command_line(text, folder):
    """What a command of the page prints, under the name that our command line has."""
    program = folder / "bin/vtsserving"
    program.parent.mkdir(exist_ok=True)
    main = "import sys; from headrace.cli.main import main; sys.exit(main())"
    program.write_text(f"#!{sys.executable}\n{main}\n")
    program.chmod(0o755)
    path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-ec", text],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_a_saved_model_by_a_relative_path(vts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mlflow.sklearn.save_model(regression(), "./my_model", pip_requirements=["numpy"])
    check(vts, vts.mlflow.import_model("my_sklearn_model", model_uri="./my_model"))


def test_import_inside_a_run_and_list_the_versions(vts, tmp_path):
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            regression(), artifact_path="sklearn-model", pip_requirements=["numpy"]
        )
        model_uri = mlflow.get_artifact_uri("sklearn-model")
        vts_model = vts.mlflow.import_model("mlflow_sklearn", model_uri, signatures=BATCHED)
    again = vts.mlflow.import_model("mlflow_sklearn", model_uri)
    check(vts, vts_model)
    assert served(vts_model).metadata().row_independent
    assert settings(vts_model).extra["batchable"]
    listed = command_line("vtsserving models list mlflow_sklearn", tmp_path)
    assert [line.split()[0] for line in listed.splitlines()[1:]] == [
        str(vts_model.tag),
        str(again.tag),
    ]


@pytest.mark.parametrize("form", ["{root}/models/local", "../models/local"])
def test_model_uri_is_an_absolute_or_a_relative_path(vts, form, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    mlflow.sklearn.save_model(regression(), "../models/local", pip_requirements=["numpy"])
    check(vts, vts.mlflow.import_model("m", form.format(root=tmp_path)))


@pytest.mark.parametrize(
    "form", ["runs:/{0.run_id}/model", "models:/{0.name}/1", "models:/{0.name}/Staging"]
)
def test_model_uri_is_a_run_a_version_or_a_stage(vts, form, registered):
    stored = vts.mlflow.import_model("my_mlflow_model", form.format(registered))
    check(vts, stored)
    assert stored.info.options["model_id"] == registered.model_id


def test_load_the_original_flavor(vts, registered):
    vts.mlflow.import_model("mlflow_sklearn", f"models:/{registered.name}/1")
    vts_model = vts.mlflow.get("mlflow_sklearn:latest")
    mlflow_model_path = vts_model.path_of(vts.mlflow.MLFLOW_MODEL_FOLDER)
    loaded = mlflow.sklearn.load_model(mlflow_model_path)
    assert isinstance(loaded, LinearRegression)
    np.testing.assert_allclose(loaded.predict(X), Y)


def test_load_the_pyfunc_flavor(vts, registered):
    vts.mlflow.import_model("mlflow_sklearn", f"models:/{registered.name}/1")
    pyfunc_model = vts.mlflow.load_model("mlflow_sklearn:latest")
    assert isinstance(pyfunc_model, mlflow.pyfunc.PyFuncModel)
    np.testing.assert_allclose(pyfunc_model.predict(X), Y)


@pytest.mark.parametrize(
    ("given", "has_columns"),
    [
        pytest.param(TABLE, True, id="DataFrame"),
        pytest.param(X, False, id="ndarray"),
        pytest.param(X.tolist(), False, id="list"),
        pytest.param({"a": X[:, 0], "b": X[:, 1]}, True, id="dict of arrays"),
        pytest.param(X.astype(np.float32), True, id="ndarray for columns"),
    ],
)
def test_try_the_runner_with_each_of_its_input_types(vts, given, has_columns, tmp_path):
    signature = infer_signature(TABLE, Y) if has_columns else None
    model = LinearRegression().fit(TABLE if has_columns else X, Y)
    mlflow.sklearn.save_model(
        model, str(tmp_path / "m"), signature=signature, pip_requirements=["numpy"]
    )
    vts.mlflow.import_model("mlflow_sklearn", str(tmp_path / "m"))
    runner = vts.mlflow.get("mlflow_sklearn:latest").to_runner()
    runner.init_local()
    np.testing.assert_allclose(runner.predict.run(given), Y)


def test_save_the_model_directly_for_several_methods(vts):
    clf = LogisticRegression().fit(X, Y > 8)
    with mlflow.start_run():
        mlflow.sklearn.log_model(clf, "model", pip_requirements=["numpy"])
    both = {"predict": {"batchable": True}, "predict_proba": {"batchable": True}}
    stored = vts.sklearn.save_model("iris_clf", clf, signatures=both)
    assert answer(served(stored), X).tolist() == clf.predict(X).tolist()
    np.testing.assert_allclose(answer(served(stored), X, "predict_proba"), clf.predict_proba(X))
    runner = stored.to_runner()
    runner.init_local(quiet=True)
    np.testing.assert_allclose(runner.predict_proba.run(X), clf.predict_proba(X))


def test_load_the_original_flavor_and_save_it_directly(vts, registered):
    loaded_model = mlflow.sklearn.load_model(f"models:/{registered.name}/1")
    vts.sklearn.save_model("iris_clf", loaded_model)
    np.testing.assert_allclose(vts.sklearn.load_model("iris_clf:latest").predict(X), Y)


def test_several_methods_need_not_be_a_limit_of_imported_models(vts, tmp_path):
    clf = LogisticRegression().fit(X, Y > 8)
    mlflow.sklearn.save_model(clf, str(tmp_path / "m"), pip_requirements=["numpy"])
    both = {"predict": {"batchable": True}, "predict_proba": {"batchable": True}}
    stored = vts.mlflow.import_model("clf", str(tmp_path / "m"), signatures=both)
    np.testing.assert_allclose(answer(served(stored), X, "predict_proba"), clf.predict_proba(X))
    assert stored.to_runner().predict_proba.batchable


def test_workflow_by_the_uri_that_log_model_returns(vts):
    with mlflow.start_run():
        logged_model = mlflow.sklearn.log_model(regression(), "model", pip_requirements=["numpy"])
        assert mlflow.active_run().info.run_id == logged_model.run_id
    vts_model = vts.mlflow.import_model("logistic_regression_model", logged_model.model_uri)
    check(vts, vts_model)
    assert f"{vts_model}" == f'Model(tag="{vts_model.tag}")'


def test_workflow_by_the_last_active_run_after_autolog(vts):
    mlflow.sklearn.autolog(log_input_examples=True)
    try:
        model = LinearRegression()
        model.fit(X, Y)
        run_id = mlflow.last_active_run().info.run_id
    finally:
        mlflow.sklearn.autolog(disable=True)
    artifact_path = "model"
    model_uri = f"runs:/{run_id}/{artifact_path}"
    vts_model = vts.mlflow.import_model("logistic_regression_model", model_uri)
    check(vts, vts_model)
    assert vts_model.info.options["run_id"] == run_id
    assert vts_model.info.options["input_example"]


def test_attach_tags_metrics_and_params_of_a_run(vts, registered):
    run = mlflow.get_run(registered.run_id)
    model_uri = f"{run.info.artifact_uri}/model"
    stored = vts.mlflow.import_model(
        "my_mlflow_model",
        model_uri,
        labels=run.data.tags,
        metadata={"metrics": run.data.metrics, "params": run.data.params},
    )
    check(vts, stored)
    info = vts.models.get("my_mlflow_model").info
    assert info.labels["team"] == "growth"
    assert info.metadata == {"metrics": {"rmse": 0.1}, "params": {"alpha": "0.5"}}


SERVICE = """\
import {name}
runner = {name}.mlflow.get("my_mlflow_model:latest").to_runner()
svc = {name}.Service("my_mlflow_model", runners=[runner])
@svc.api(input={name}.io.NumpyNdarray(), output={name}.io.NumpyNdarray())
def predict(input_arr):
    return runner.predict.run(input_arr)
"""
REQUIREMENTS = """\
service: "service:svc"
python:
    requirements_txt: ${name}_MLFLOW_MODEL_PATH/mlflow_model/requirements.txt
    lock_packages: False
"""
CONDA = """\
service: "service:svc"
conda:
    environment_yml: ${name}_MLFLOW_MODEL_PATH/mlflow_model/conda.yaml
"""
NAMES = [("headrace", "headrace.yaml"), ("vtsserving", "vtsfile.yaml")]


def built(name, file, build_file, folder):
    """The requirements in a bundle of the model `my_mlflow_model`, and those locked, if any."""
    folder.mkdir()
    (folder / "service.py").write_text(SERVICE.format(name=name))
    variable = name.upper()
    (folder / file).write_text(build_file.format(name=variable))
    said = command_line(
        f"export {variable}_MLFLOW_MODEL_PATH="
        "$(vtsserving models get my_mlflow_model:latest -o path)\nvtsserving build",
        folder,
    )
    assert "Successfully built" in said
    bundle = headrace.bundles.get("my_mlflow_model:latest")
    model = headrace.models.get("my_mlflow_model")
    assert [row["tag"] for row in bundle.info.models] == [str(model.tag)]
    place = Path(bundle.path, "env/python")
    own, *lines = (place / "requirements.txt").read_text().splitlines()[1:]
    assert own.startswith("headrace")
    lock = place / "requirements.lock.txt"
    return lines, lock.read_text() if lock.exists() else None


@pytest.mark.parametrize(("name", "file"), NAMES)
def test_use_the_requirements_of_the_mlflow_model(name, file, tmp_path):
    pinned = ["numpy", "scikit-learn==1.4.2"]
    mlflow.sklearn.save_model(regression(), str(tmp_path / "m"), pip_requirements=pinned)
    headrace.mlflow.import_model("my_mlflow_model", str(tmp_path / "m"))

    lines, lock = built(name, file, REQUIREMENTS, tmp_path / "project")

    assert lines == [f"mlflow=={mlflow.__version__}", *pinned]
    assert lock is None


@pytest.mark.parametrize(("name", "file"), NAMES)
def test_use_the_conda_environment_of_the_mlflow_model(name, file, tmp_path, monkeypatch):
    wheels = wheelhouse(tmp_path / "wheels", "headrace", "numpy")
    # MLflow adds itself. Nothing is installed here, and its own requirements are many.
    make_wheel(wheels, "mlflow", mlflow.__version__)
    for variable, value in offline(wheels).items():
        monkeypatch.setenv(variable, value)
    python = "python={}.{}".format(*sys.version_info)
    conda = {"channels": ["conda-forge"], "dependencies": [python, "pip", {"pip": ["numpy>=1.26"]}]}
    mlflow.sklearn.save_model(regression(), str(tmp_path / "m"), conda_env=conda)
    headrace.mlflow.import_model("my_mlflow_model", str(tmp_path / "m"))

    lines, lock = built(name, file, CONDA, tmp_path / "project")

    assert lines == [f"mlflow=={mlflow.__version__}", "numpy>=1.26"]
    assert f"numpy=={np.__version__}" in lock
