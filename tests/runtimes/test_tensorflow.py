from __future__ import annotations

import sys

import numpy as np
import pytest

from headrace.codecs.array import array_of, tensor_of
from headrace.errors import InvalidInput, LoadFailed
from headrace.protocol.messages import InferenceRequest
from headrace.runtimes import create
from headrace.settings import ModelSettings

tensorflow = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.runtimes

X = np.arange(12, dtype=np.float32).reshape(4, 3)


class Wine(tensorflow.Module):
    @tensorflow.function(
        input_signature=[
            tensorflow.TensorSpec([None, 3], tensorflow.float32, name="grapes"),
            tensorflow.TensorSpec([None], tensorflow.string, name="label"),
        ]
    )
    def serve(self, grapes, label):
        return {"double": grapes * 2, "loud": tensorflow.strings.upper(label)}


def load(folder, **settings):
    model = Wine()
    tensorflow.saved_model.save(model, str(folder), signatures=model.serve)
    runtime = create(ModelSettings("m", "tensorflow", uri=str(folder), **settings))
    runtime.load()
    return runtime


LABELS = tensor_of("label", np.array(["a", "b", "c", "ü"], object))


def test_a_signature_is_called_with_numbers_and_text(tmp_path):
    runtime = load(tmp_path)
    double, loud = runtime.infer(InferenceRequest([tensor_of("grapes", X), LABELS])).outputs
    np.testing.assert_array_equal(array_of(double), X * 2)
    assert array_of(loud).tolist()[:3] == ["A", "B", "C"]


def test_a_batch_answers_as_its_rows_do(tmp_path):
    runtime = load(tmp_path, extra={"batchable": True})
    label = tensor_of("label", np.array(["a"], object))
    rows = [InferenceRequest([tensor_of("grapes", X[i : i + 1]), label]) for i in range(4)]
    single = np.concatenate([array_of(runtime.infer(row).outputs[0]) for row in rows])
    together = runtime.infer(InferenceRequest([tensor_of("grapes", X), LABELS])).outputs[0]
    np.testing.assert_array_equal(array_of(together), single)


def test_metadata_is_that_of_the_signature(tmp_path):
    metadata = load(tmp_path).metadata()
    assert [(t.name, t.datatype, t.shape) for t in metadata.inputs] == [
        ("grapes", "FP32", [-1, 3]),
        ("label", "BYTES", [-1]),
    ]
    assert [t.name for t in metadata.outputs] == ["double", "loud"]


def test_a_wrong_shape_is_refused_by_name(tmp_path):
    runtime = load(tmp_path)
    with pytest.raises(InvalidInput, match=r"'grapes': expected shape \[-1, 3\], got \[4, 2\]"):
        runtime.infer(InferenceRequest([tensor_of("grapes", X[:, :2].copy()), LABELS]))


def test_a_missing_signature_fails_the_load(tmp_path):
    with pytest.raises(LoadFailed, match="no signature 'other', only 'serving_default'"):
        load(tmp_path, extra={"signature": "other"})


def test_a_folder_without_a_saved_model_fails_the_load(tmp_path):
    with pytest.raises(LoadFailed, match=r"found no saved_model\.pb"):
        create(ModelSettings("m", "tensorflow", uri=str(tmp_path))).load()


def test_without_tensorflow_the_load_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(LoadFailed, match=r"pip install 'headrace\[tensorflow\]'"):
        create(ModelSettings("m", "tensorflow", uri=str(tmp_path))).load()
