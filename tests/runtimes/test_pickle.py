from __future__ import annotations

import cloudpickle
import joblib
import numpy as np
import pytest

from headrace.codecs.array import array_of, tensor_of
from headrace.errors import InvalidInput, InvalidModel
from headrace.protocol.messages import InferenceRequest
from headrace.runtimes import create
from headrace.settings import ModelSettings

X = np.arange(6.0).reshape(3, 2)


class Scorer:
    def predict(self, value):
        return np.asarray(value).sum(axis=1)

    def describe(self, table):
        return {"rows": len(table), "columns": list(table.columns)}


def load(model, folder, **extra):
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(model))
    runtime = create(ModelSettings("m", "pickle", uri=str(folder), extra=extra))
    runtime.load()
    return runtime


def ask(runtime, *tensors, outputs=None):
    return runtime.infer(InferenceRequest(list(tensors), None, outputs)).outputs


def test_an_object_with_predict_is_asked_by_predict(tmp_path):
    (output,) = ask(load(Scorer(), tmp_path), tensor_of("x", X))
    assert output.name == "predict"
    np.testing.assert_array_equal(array_of(output), X.sum(axis=1))


def test_a_function_is_called(tmp_path):
    (output,) = ask(load(lambda x: x + 1, tmp_path), tensor_of("x", X))
    assert output.name == "output-1"
    np.testing.assert_array_equal(array_of(output), X + 1)


def test_an_object_in_a_joblib_file_is_served(tmp_path):
    joblib.dump(np.sort, tmp_path / "model.joblib")
    runtime = create(ModelSettings("m", "pickle", uri=str(tmp_path)))
    runtime.load()
    np.testing.assert_array_equal(array_of(ask(runtime, tensor_of("x", -X))[0]), np.sort(-X))


def test_several_inputs_are_the_columns_of_a_table_for_the_method_that_is_asked(tmp_path):
    runtime = load(Scorer(), tmp_path, methods=["predict", "describe"])
    columns = [tensor_of("a", X[:, 0]), tensor_of("b", X[:, 1])]
    rows = ask(runtime, *columns, outputs=["describe"])
    assert b'"columns":["a","b"]' in bytes(rows[0].data)
    np.testing.assert_array_equal(array_of(ask(runtime, *columns)[0]), X.sum(axis=1))


@pytest.mark.parametrize("batchable", [True, False])
def test_requests_are_merged_only_if_the_settings_say_that_rows_are_independent(
    batchable, tmp_path
):
    assert load(Scorer(), tmp_path, batchable=batchable).metadata().row_independent is batchable


def test_a_method_that_is_not_offered_is_refused(tmp_path):
    runtime = load(Scorer(), tmp_path)
    with pytest.raises(InvalidInput, match="'describe' is not available, this model has 'predict'"):
        ask(runtime, tensor_of("x", X), outputs=["describe"])
    with pytest.raises(InvalidInput, match="one method answers a request, got 2 outputs"):
        ask(runtime, tensor_of("x", X), outputs=["predict", "describe"])


@pytest.mark.parametrize(
    ("model", "extra"),
    [
        pytest.param("text", {}, id="nothing to call"),
        pytest.param(Scorer(), {"methods": ["guess"]}, id="method"),
        pytest.param(Scorer(), {"predict_fn": "guess"}, id="default"),
    ],
)
def test_an_object_without_the_method_fails_to_load(model, extra, tmp_path):
    with pytest.raises(InvalidModel, match="the pickled model 'm' has no method '(guess|predict)'"):
        load(model, tmp_path, **extra)
