"""Every model answers MLflow's scoring bodies, whatever its runtime."""

from __future__ import annotations

import json

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from headrace.codecs.array import array_of
from headrace.errors import InvalidInput
from headrace.protocol.mlflow.scoring import decode
from headrace.settings import ModelSettings
from headrace.worker.host import ModelHost

X = np.arange(6.0).reshape(3, 2)

ADDER = """
import numpy as np
from headrace import Model

class Adder(Model):
    def predict(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a + b

class Doubler(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2
"""


def score(settings, body):
    host = ModelHost()
    host.load("m", settings)
    request = decode(json.dumps(body).encode(), "application/json", None).request
    return array_of(host.infer("m", request).outputs[0]).tolist()


def custom(folder, name):
    (folder / "scored.py").write_text(ADDER)
    return ModelSettings("m", f"scored.{name}", folder=str(folder))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"inputs": X.tolist()}, id="inputs"),
        pytest.param({"instances": X.tolist()}, id="instances"),
        pytest.param({"dataframe_split": {"data": X.tolist()}}, id="dataframe_split"),
    ],
)
def test_a_scikit_learn_model_from_a_file_is_scored(body, tmp_path):
    model = LinearRegression().fit(X, X.sum(axis=1))
    joblib.dump(model, tmp_path / "model.joblib")
    settings = ModelSettings("m", "mlserver_sklearn.SKLearnModel", uri=str(tmp_path))

    assert score(settings, body) == model.predict(X).tolist()


def test_a_dict_reaches_a_custom_models_parameters_by_name(tmp_path):
    assert score(custom(tmp_path, "Adder"), {"inputs": {"a": [1, 2], "b": [10, 20]}}) == [11, 22]


def test_an_array_is_the_only_input_of_a_custom_model(tmp_path):
    assert score(custom(tmp_path, "Doubler"), {"inputs": [1, 2]}) == [2, 4]


def test_an_array_for_several_inputs_is_refused_with_their_names(tmp_path):
    with pytest.raises(InvalidInput, match="a, b"):
        score(custom(tmp_path, "Adder"), {"inputs": [1, 2]})
