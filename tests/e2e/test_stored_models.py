"""Stored models in the workers of a server that is given their tags."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from support.asking import ask, request, tensor
from support.serving import serving

pytestmark = pytest.mark.e2e

# In a process of its own, as a notebook is, so that its classes cannot be imported by a worker.
SAVE = """
import headrace, json, os
import mlflow, numpy as np, pandas as pd
from sklearn.linear_model import LogisticRegression

X = np.arange(12.0).reshape(6, 2) % 5
Y = (X[:, 0] > 2).astype(int)
BOTH = {"predict": {"batchable": True}, "predict_proba": {"batchable": True}}

class Summing:
    def total(self, value):
        return value.sum(axis=1)

model = LogisticRegression().fit(X, Y)
folder = os.path.join(os.environ["HEADRACE_HOME"], "logged")
mlflow.sklearn.save_model(model, folder, pip_requirements=["scikit-learn"],
                          signature=mlflow.models.infer_signature(X, Y), input_example=X)
headrace.picklable_model.save_model("own", Summing(), signatures={"total": {}})
headrace.mlflow.import_model("logged", folder, signatures=BOTH)
chances = model.predict_proba(X).tolist()
print(json.dumps({"x": X.tolist(), "chances": chances}))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What the saving process printed, and the environment that finds its store."""
    home = tmp_path_factory.mktemp("stored")
    environment = {"HEADRACE_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SAVE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), environment


def test_an_object_of_a_notebook_is_served_by_its_method(saved):
    found, environment = saved
    with serving("own", "--env-manager", "local", env=environment, timeout=200) as server:
        body = request(tensor("x", "FP64", [6, 2], found["x"]))
        answer = ask(server.http, "POST", "/v2/models/own/infer", body)
        assert answer.status == 200, answer.body
        assert answer.json["outputs"][0]["data"] == np.sum(found["x"], axis=1).tolist()


def test_the_signature_and_the_methods_of_an_imported_mlflow_model_are_served(saved):
    found, environment = saved
    with serving("logged:latest", "--env-manager", "local", env=environment, timeout=200) as server:
        described = ask(server.http, "GET", "/v2/models/logged").json
        inputs = [(row["datatype"], row["shape"]) for row in described["inputs"]]
        assert inputs == [("FP64", [-1, 2])]
        body = request(tensor("x", "FP64", [6, 2], found["x"]))
        body["outputs"] = [{"name": "predict_proba"}]
        answer = ask(server.http, "POST", "/v2/models/logged/infer", body)
        assert answer.status == 200, answer.body
        (output,) = answer.json["outputs"]
        assert output["name"] == "predict_proba"
        chances = np.reshape(output["data"], output["shape"])
        np.testing.assert_array_equal(chances, found["chances"])
