from __future__ import annotations

import os
import warnings

import numpy as np
import pytest

from headrace.codecs.array import array_of, tensor_of
from headrace.protocol.messages import InferenceRequest
from headrace.runtimes import create
from headrace.settings import ModelSettings

os.environ.setdefault("KERAS_BACKEND", "torch")
torch = pytest.importorskip("torch")
mlflow = pytest.importorskip("mlflow")

pytestmark = [pytest.mark.runtimes, pytest.mark.filterwarnings("ignore")]

X = np.arange(12, dtype=np.float32).reshape(4, 3)


def pickled(folder):
    import mlflow.pytorch

    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    mlflow.pytorch.save_model(model, folder, serialization_format="pickle")


def exported(folder):
    import mlflow.pytorch

    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    mlflow.pytorch.save_model(model, folder, input_example=X)


def keras(folder):
    import keras
    import mlflow.keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    mlflow.keras.save_model(model, folder)


SAVERS = [pickled, exported, keras]


@pytest.mark.parametrize("save", SAVERS, ids=lambda save: save.__name__)
def test_a_model_that_mlflow_logged_answers_as_pyfunc_does(save, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(str(tmp_path / "m"))
        expected = mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(X)
    runtime = create(ModelSettings("m", "mlflow", uri=str(tmp_path / "m")))
    runtime.load()
    (answer,) = runtime.infer(InferenceRequest([tensor_of("x", X)])).outputs
    np.testing.assert_allclose(array_of(answer), np.asarray(expected), rtol=1e-6)
    assert not runtime.metadata().row_independent
