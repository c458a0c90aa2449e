from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from headrace.codecs.array import array_of, tensor_of
from headrace.codecs.frame import tensors_of
from headrace.errors import InvalidInput, LoadFailed
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.open_inference.classification import classify
from headrace.protocol.tensor import Tensor, pack_bytes, unpack_bytes
from headrace.runtimes import create
from headrace.settings import ModelSettings

X = np.random.default_rng(0).random((20, 3))
Y = (X[:, 0] > 0.5).astype(int)


def serve(model, folder, **settings):
    joblib.dump(model, folder / "model.joblib")
    runtime = create(ModelSettings("m", "sklearn", uri=str(folder), **settings))
    runtime.load()
    return runtime


def ask(runtime, *outputs, content_type=None, inputs=None):
    parameters = {"content_type": content_type} if content_type else None
    return runtime.infer(
        InferenceRequest(inputs or [tensor_of("x", X)], parameters, list(outputs) or None)
    )


@pytest.mark.parametrize(
    "output", ["predict", "predict_proba", "predict_log_proba", "decision_function"]
)
def test_an_output_is_the_method_of_its_name(output, tmp_path):
    model = LogisticRegression().fit(X, Y)
    (answer,) = ask(serve(model, tmp_path), output).outputs
    assert answer.name == output
    np.testing.assert_array_equal(array_of(answer), getattr(model, output)(X))


def test_several_outputs_come_in_the_requested_order(tmp_path):
    runtime = serve(LogisticRegression().fit(X, Y), tmp_path)
    answer = ask(runtime, "predict_proba", "predict")
    assert [tensor.name for tensor in answer.outputs] == ["predict_proba", "predict"]


def test_predict_fn_changes_the_default(tmp_path):
    model = LogisticRegression().fit(X, Y)
    runtime = serve(model, tmp_path, extra={"predict_fn": "predict_proba"})
    assert ask(runtime).outputs[0].shape == [20, 2]


def test_a_transformer_transforms(tmp_path):
    scaler = StandardScaler().fit(X)
    (answer,) = ask(serve(scaler, tmp_path)).outputs
    np.testing.assert_array_equal(array_of(answer), scaler.transform(X))


def test_an_unknown_output_is_refused_with_the_known_ones(tmp_path):
    runtime = serve(StandardScaler().fit(X), tmp_path)
    with pytest.raises(InvalidInput, match="'score' is not available, this model has 'transform'"):
        ask(runtime, "score")


def test_labels_may_be_text(tmp_path):
    model = LogisticRegression().fit(X, np.where(Y, "red", "white"))
    runtime = serve(model, tmp_path)
    assert array_of(ask(runtime).outputs[0]).tolist() == model.predict(X).tolist()
    assert runtime.metadata().outputs[0].datatype == "BYTES"


def test_texts_reach_a_vectorizer(tmp_path):
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["a good", "b bad"], [1, 0])
    text = Tensor("text", "BYTES", [1], pack_bytes([b"a good"]))
    answer = ask(serve(model, tmp_path), content_type="str", inputs=[text])
    assert array_of(answer.outputs[0]).tolist() == [1]


def test_a_sparse_answer_is_sent_dense(tmp_path):
    encoder = OneHotEncoder().fit([["a"], ["b"]])
    text = Tensor("x", "BYTES", [1, 1], pack_bytes([b"b"]))
    answer = ask(serve(encoder, tmp_path), inputs=[text])
    assert array_of(answer.outputs[0]).tolist() == [[0.0, 1.0]]


def test_a_table_answer_has_one_output_per_column(tmp_path):
    frame = pd.DataFrame(X, columns=list("abc"))
    scaler = StandardScaler().set_output(transform="pandas").fit(frame)
    answer = ask(serve(scaler, tmp_path), inputs=tensors_of(frame), content_type="pd")
    assert [tensor.name for tensor in answer.outputs] == ["a", "b", "c"]


def test_several_inputs_are_the_columns_of_a_table(tmp_path):
    frame = pd.DataFrame({"n": [1.0, 2.0], "s": ["a", "b"]})
    encode = ColumnTransformer([("s", OneHotEncoder(), ["s"])], remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression()).fit(frame, [0, 1])
    answer = ask(serve(model, tmp_path), inputs=tensors_of(frame))
    assert array_of(answer.outputs[0]).tolist() == model.predict(frame).tolist()


def test_one_output_per_target_is_numbered(tmp_path):
    model = MultiOutputClassifier(LogisticRegression()).fit(X, np.c_[Y, 1 - Y])
    answer = ask(serve(model, tmp_path), "predict_proba")
    assert [tensor.name for tensor in answer.outputs] == ["predict_proba-1", "predict_proba-2"]


def test_a_flat_vector_is_refused_with_the_shape_expected(tmp_path):
    runtime = serve(LogisticRegression().fit(X, Y), tmp_path)
    with pytest.raises(InvalidInput, match=r"shape \[-1, 3\], got shape \[3\]"):
        ask(runtime, inputs=[tensor_of("x", X[0])])


def test_a_skops_file_with_foreign_types_names_them(tmp_path):
    skops.io.dump(KNeighborsClassifier().fit(X, Y), tmp_path / "model.skops")
    runtime = create(ModelSettings("m", "sklearn", uri=str(tmp_path)))
    with pytest.raises(LoadFailed, match="KDTree.*'skops_trusted_types'"):
        runtime.load()


def test_a_skops_file_loads_when_its_types_are_trusted(tmp_path):
    path = tmp_path / "any-name.skops"
    skops.io.dump(KNeighborsClassifier().fit(X, Y), path)
    trusted = skops.io.get_untrusted_types(file=path)
    settings = ModelSettings("m", "sklearn", uri=str(path), extra={"skops_trusted_types": trusted})
    runtime = create(settings)
    runtime.load()
    assert ask(runtime).outputs[0].shape == [20]


def test_metadata_describes_features_and_classes(tmp_path):
    model = LogisticRegression().fit(pd.DataFrame(X, columns=list("abc")), Y)
    metadata = serve(model, tmp_path).metadata()
    assert metadata.inputs[0].shape == [-1, 3]
    assert metadata.inputs[0].parameters["feature_names"] == ["a", "b", "c"]
    assert [output.shape for output in metadata.outputs[:2]] == [[-1], [-1, 2]]
    assert metadata.row_independent


def test_the_highest_classes_have_the_names_that_the_model_has_for_them(tmp_path):
    model = LogisticRegression().fit(X, np.where(Y == 1, "ale", "lager"))
    runtime = serve(model, tmp_path)

    (output,) = classify(
        ask(runtime, "predict_proba"), {"predict_proba": 1}, runtime.metadata()
    ).outputs

    names = [text.decode().split(":")[2] for text in unpack_bytes(output.data, len(X))]
    assert names == model.predict(X).tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["NaN", "infinity"])
def test_nan_that_the_model_does_not_take_is_the_callers_fault(value, tmp_path):
    runtime = serve(LogisticRegression().fit(X, Y), tmp_path)
    rows = X.copy()
    rows[3, 1] = value
    with pytest.raises(InvalidInput, match="NaN"):
        ask(runtime, inputs=[tensor_of("x", rows)])


def test_no_rows_are_refused_where_the_model_needs_some(tmp_path):
    runtime = serve(LogisticRegression().fit(X, Y), tmp_path)
    with pytest.raises(InvalidInput, match="no rows"):
        ask(runtime, inputs=[tensor_of("x", X[:0])])
