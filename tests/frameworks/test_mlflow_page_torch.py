"""The snippets with PyTorch of the MLflow page of VtsServing's documentation."""

from __future__ import annotations

import inspect
import os
import sys

import mlflow
import numpy as np
import pytest

import headrace
from headrace.compat import alias
from support.asking import ask, request, tensor
from support.served_models import answer, served
from support.serving import serving

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(600),
]

IMAGES = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
BATCHED = {"predict": {"batchable": True}}
# What newer versions of MLflow write by default cannot be put into a mode by eval().
PICKLED = (
    {"serialization_format": "pickle"}
    if "serialization_format" in inspect.signature(mlflow.pytorch.log_model).parameters
    else {}
)
SERVICE = """\
import {name}
import mlflow
import torch

mnist_runner = {name}.mlflow.get("mlflow_pytorch_mnist:latest").to_runner()
svc = {name}.Service("mlflow_pytorch_mnist", runners=[mnist_runner])
input_spec = {name}.io.NumpyNdarray(
    dtype="float32", shape=[-1, 1, 28, 28], enforce_shape=True, enforce_dtype=True
)

@svc.api(input=input_spec, output={name}.io.NumpyNdarray())
def predict(input_arr):
    return mnist_runner.predict.run(input_arr)
"""


@pytest.fixture(scope="module")
def model():
    # Local, so that the pickle holds the class itself.
    class Digits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.line = torch.nn.Linear(784, 10)

        def forward(self, images):
            return self.line(images.flatten(1))

    torch.manual_seed(0)
    return Digits().eval()


@pytest.fixture(scope="module")
def expected(model):
    with torch.no_grad():
        return model(torch.from_numpy(IMAGES)).numpy()


@pytest.fixture(scope="module", params=["headrace", "vtsserving"])
def vts(request, model, tracking, tmp_path_factory):
    """The module, imported by either name, after the page's import inside of a run."""
    patch = pytest.MonkeyPatch()
    patch.setenv("HEADRACE_HOME", str(tmp_path_factory.mktemp("home")))
    patch.setattr(sys, "meta_path", list(sys.meta_path))
    alias.offer()
    vts = __import__(request.param)
    with mlflow.start_run():
        mlflow.pytorch.log_model(
            model, artifact_path="pytorch-model", pip_requirements=["torch"], **PICKLED
        )
        model_uri = mlflow.get_artifact_uri("pytorch-model")
        vts.mlflow.import_model("mlflow_pytorch_mnist", model_uri, signatures=BATCHED)
    yield vts
    for name in [name for name in sys.modules if name.partition(".")[0] == "vtsserving"]:
        del sys.modules[name]
    patch.undo()


def test_import_inside_a_run_with_a_batchable_signature(vts, expected):
    runtime = served(vts.mlflow.get("mlflow_pytorch_mnist"))
    np.testing.assert_allclose(answer(runtime, IMAGES), expected, rtol=1e-5)
    assert runtime.metadata().row_independent


def test_load_the_original_flavor(vts, expected):
    vts_model = vts.mlflow.get("mlflow_pytorch_mnist:latest")
    mlflow_model_path = vts_model.path_of(vts.mlflow.MLFLOW_MODEL_FOLDER)
    loaded_pytorch_model = mlflow.pytorch.load_model(mlflow_model_path)
    loaded_pytorch_model.to("cpu")
    loaded_pytorch_model.eval()
    with torch.no_grad():
        input_tensor = torch.from_numpy(IMAGES).to("cpu")
        predictions = loaded_pytorch_model(input_tensor)
    np.testing.assert_array_equal(predictions.numpy(), expected)
    native = vts.mlflow.load_model(vts_model, native=True)
    assert type(native).__name__ == "Digits"


def test_load_the_pyfunc_flavor(vts, expected):
    pyfunc_model: mlflow.pyfunc.PyFuncModel = vts.mlflow.load_model("mlflow_pytorch_mnist:latest")
    np.testing.assert_allclose(pyfunc_model.predict(IMAGES), expected, rtol=1e-5)


def test_try_the_runner(vts, expected):
    runner = vts.mlflow.get("mlflow_pytorch_mnist:latest").to_runner()
    runner.init_local()
    np.testing.assert_allclose(runner.predict.run(IMAGES), expected, rtol=1e-5)


@pytest.mark.e2e
def test_build_a_prediction_service(vts, expected, tmp_path):
    name = "headrace" if vts is headrace else "vtsserving"
    (tmp_path / "service.py").write_text(SERVICE.format(name=name))
    home = {"HEADRACE_HOME": os.environ["HEADRACE_HOME"]}
    with serving(f"{tmp_path}/service.py:svc", env=home) as server:
        found = ask(server.http, "POST", "/predict", IMAGES.tolist())
        wrong = ask(server.http, "POST", "/predict", [[1.0]])
        # The service has the name of its runner, and leaves it to the runner's model.
        body = request(tensor("x", "FP32", [2, 1, 28, 28], IMAGES.ravel().tolist()))
        model = ask(server.http, "POST", "/v2/models/mlflow_pytorch_mnist/infer", body)
        service = ask(server.http, "POST", "/v2/models/mlflow_pytorch_mnist-service/infer", body)
    assert found.status == 200, found.body
    np.testing.assert_allclose(found.json, expected, rtol=1e-5)
    assert wrong.status == 400
    for each in (model, service):
        (output,) = each.json["outputs"]
        np.testing.assert_allclose(output["data"], expected.ravel(), rtol=1e-5)
