from __future__ import annotations

import gc
import os
import sys
import weakref

import numpy as np
import pytest

from headrace.codecs.array import array_of, tensor_of
from headrace.errors import InvalidInput, LoadFailed
from headrace.protocol.messages import InferenceRequest
from headrace.runtimes import create
from headrace.settings import ModelSettings

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

pytestmark = [
    pytest.mark.runtimes,
    # Keras saves PyTorch's tensors through an interface that numpy 2 changed.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

X = np.arange(12, dtype=np.float32).reshape(4, 3)


def sequential():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((3,), name="grapes"), keras.layers.Dense(2, name="wine")]
    return keras.Sequential([*layers, keras.layers.Dropout(0.9)])


def functional():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    total = keras.layers.Add(name="total")([a, b])
    return keras.Model([a, b], [total, keras.layers.Multiply(name="product")([a, b])])


def load(model, folder, **settings):
    model.save(folder / "model.keras")
    runtime = create(ModelSettings("m", "keras", uri=str(folder), **settings))
    runtime.load()
    return runtime


def ask(runtime, *tensors, **parts):
    return [array_of(t) for t in runtime.infer(InferenceRequest(list(tensors), **parts)).outputs]


def test_the_answer_is_the_models_own(tmp_path):
    model = sequential()
    (answer,) = ask(load(model, tmp_path), tensor_of("grapes", X))
    np.testing.assert_allclose(answer, model.predict(X, verbose=0), rtol=1e-6)


def test_a_batch_answers_as_its_rows_do(tmp_path):
    runtime = load(sequential(), tmp_path, extra={"batchable": True})
    assert runtime.metadata().row_independent
    single = [ask(runtime, tensor_of("grapes", X[i : i + 1]))[0] for i in range(4)]
    together = ask(runtime, tensor_of("grapes", X))[0]
    np.testing.assert_allclose(together, np.concatenate(single), rtol=1e-5)


def test_several_inputs_and_outputs_have_the_layers_names(tmp_path):
    runtime = load(functional(), tmp_path)
    metadata = runtime.metadata()
    assert [(t.name, t.datatype, t.shape) for t in metadata.inputs] == [
        ("a", "FP32", [-1, 3]),
        ("b", "FP32", [-1, 3]),
    ]
    assert [t.name for t in metadata.outputs] == ["total", "product"]
    assert metadata.parameters["device"]
    request = [tensor_of("b", X), tensor_of("a", X * 2)]
    total, product = ask(runtime, *request)
    np.testing.assert_array_equal(total, X * 3)
    np.testing.assert_array_equal(product, X * X * 2)
    assert len(ask(runtime, *request, outputs=["product"])) == 1


def test_a_model_of_a_dict_gets_one(tmp_path):
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    model = keras.Model({"a": a, "b": b}, keras.layers.Subtract()([a, b]))
    (answer,) = ask(load(model, tmp_path), tensor_of("b", X), tensor_of("a", X * 3))
    np.testing.assert_array_equal(answer, X * 2)


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        pytest.param(
            tensor_of("grapes", X[:, :2].copy()),
            r"'grapes': expected shape \[-1, 3\], got \[4, 2\]",
            id="shape",
        ),
        pytest.param(
            tensor_of("grapes", np.array([["a", "b", "c"]], object)),
            "'grapes', row 0, column 0: expected FP32, got text",
            id="text",
        ),
    ],
)
def test_wrong_input_is_refused_by_name(tensor, complaint, tmp_path):
    runtime = load(sequential(), tmp_path)
    with pytest.raises(InvalidInput, match=complaint):
        runtime.infer(InferenceRequest([tensor]))


def test_a_file_with_code_in_it_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2)])
    with pytest.raises(LoadFailed, match="could not be read"):
        load(model, tmp_path)


def test_another_backend_than_the_workers_is_refused(tmp_path):
    current = keras.config.backend()
    other = "tensorflow" if current == "torch" else "torch"
    with pytest.raises(LoadFailed, match=f"already runs on '{current}', not '{other}'"):
        load(sequential(), tmp_path, extra={"backend": other})


def test_unloading_frees_the_model(tmp_path):
    runtime = load(sequential(), tmp_path)
    watched = weakref.ref(runtime._model)
    runtime.unload()
    gc.collect()
    assert watched() is None


def test_without_keras_the_load_says_what_to_install(tmp_path, monkeypatch):
    model = sequential()
    model.save(tmp_path / "model.keras")
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(LoadFailed, match=r"pip install 'headrace\[keras\]'"):
        create(ModelSettings("m", "keras", uri=str(tmp_path))).load()
