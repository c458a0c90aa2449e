"""TensorFlow modules in the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import headrace
from headrace.errors import InvalidInput
from support.served_models import answer, served

tensorflow = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.runtimes

X = np.arange(12, dtype=np.float32).reshape(4, 3)
ROWS = [tensorflow.TensorSpec([None, 3], tensorflow.float32)]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))


class Double(tensorflow.Module):
    @tensorflow.function(input_signature=ROWS)
    def __call__(self, x):
        return x * 2

    def plain(self, x):
        return x


def test_a_module_comes_back_and_is_served():
    signatures = {"__call__": {"batchable": True}}
    stored = headrace.tensorflow.save_model("double", Double(), signatures=signatures)
    assert Path(stored.path_of("saved_model/saved_model.pb")).is_file()
    loaded = headrace.tensorflow.load_model("double")
    np.testing.assert_array_equal(loaded(tensorflow.constant(X)), X * 2)
    runtime = served(stored)
    np.testing.assert_array_equal(answer(runtime, X), X * 2)
    assert runtime.metadata().row_independent


def test_signatures_of_tensorflow_may_be_given():
    model = Double()
    function = tensorflow.function(lambda x: {"third": x / 3}, input_signature=ROWS)
    stored = headrace.tensorflow.save_model(
        "third", model, tf_signatures={"serving_default": function}
    )
    np.testing.assert_allclose(answer(served(stored), X), X / 3, rtol=1e-6)


def test_a_method_whose_tensors_are_unknown_is_refused():
    with pytest.raises(InvalidInput, match=r"'plain' is not a tf.function with an input_signature"):
        headrace.tensorflow.save_model("m", Double(), signatures={"plain": {}})


def test_an_object_of_another_kind_is_refused():
    with pytest.raises(TypeError, match=r"takes a tf.Module or Keras model, got builtins.str"):
        headrace.tensorflow.save_model("m", "text")
