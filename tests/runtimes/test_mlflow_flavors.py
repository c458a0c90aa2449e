"""MLflow models of the heavy flavors, served from a folder as a user would serve them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

from support import mlflow_flavors
from support.asking import Client
from support.serving import serving

pytestmark = [pytest.mark.runtimes, pytest.mark.e2e, pytest.mark.timeout(600)]

# The flavors share a process here and in the worker, so Keras computes with TensorFlow in both.
ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "HF_HUB_OFFLINE": "1"}


def is_installed(flavor):
    package = {"spark": "pyspark", "pyfunc": "mlflow"}.get(flavor.split("_")[0])
    package = package or flavor.split("_")[0]
    return find_spec(package) is not None and (flavor != "spark" or shutil.which("java"))


FLAVORS = [
    pytest.param(name, marks=pytest.mark.skipif(not is_installed(name), reason="not installed"))
    for name in mlflow_flavors.FLAVORS
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("flavors")
    names = [name for name in mlflow_flavors.FLAVORS if is_installed(name)]
    program = [sys.executable, mlflow_flavors.__file__, str(root), *names]
    subprocess.run(program, check=True, env={**os.environ, **ENVIRONMENT}, timeout=300)
    return root


@pytest.fixture(scope="module")
def client(saved):
    with (
        serving(saved / "models", env=ENVIRONMENT, timeout=200) as server,
        Client(server.http, timeout=120) as client,
    ):
        yield client


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_flavor_is_served_with_the_answers_of_mlflow(flavor, saved, client):
    request, expected = json.loads((saved / f"{flavor}.json").read_text())
    answer = client.ask("POST", f"/v2/models/{flavor}/invocations", request)
    assert answer.status == 200, answer.body
    assert rounded(answer.json) == rounded(expected)


def test_a_param_over_the_open_inference_protocol(client):
    values = [{"name": name, "datatype": "FP64", "shape": [2], "data": [1, 2]} for name in "ab"]
    request = {"parameters": {"factor": 10.0}, "inputs": values}
    answer = client.ask("POST", "/v2/models/pyfunc_with_params/infer", request)
    assert answer.json["outputs"][0]["data"] == [10.0, 20.0]


def rounded(answer):
    return json.loads(json.dumps(answer), parse_float=lambda number: round(float(number), 5))
