from __future__ import annotations

import gc
import importlib
import weakref

import numpy as np
import pandas as pd
import pytest

from headrace.codecs.array import array_of, tensor_of
from headrace.codecs.frame import tensors_of
from headrace.errors import InvalidInput, LoadFailed
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.signature import Signature
from headrace.runtimes import create
from headrace.settings import ModelSettings

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

TWO_INPUTS = """g (float[N,2] x, string[N] name) => (float[N,1] y, string[N] same)
    <float[2,1] w = {2.0, -1.0}> { y = MatMul(x, w) same = Identity(name) }"""
COLUMNS = """g (float[N,1] a, int64[N,1] b) => (float[N,1] y)
    { c = Cast<to=1>(b) y = Sub(a, c) }"""
MATRIX = "g (float[N,2] x) => (float[N,2] y) { y = Neg(x) }"
X = np.arange(6, dtype=np.float32).reshape(3, 2)
NAMES = np.array(["a", "b", "é"])


def parse(text):
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


def serve(graph, folder, implementation="onnx", **extra):
    model = parse(graph) if isinstance(graph, str) else graph
    onnx.save(model, folder / "model.onnx")
    runtime = create(ModelSettings("m", implementation, uri=str(folder), extra=extra))
    runtime.load()
    return runtime


def ask(runtime, *outputs, **inputs):
    tensors = [tensor_of(name, value) for name, value in inputs.items()]
    answer = runtime.infer(InferenceRequest(tensors, None, list(outputs) or None))
    return {tensor.name: array_of(tensor) for tensor in answer.outputs}


def test_inputs_and_outputs_have_the_names_of_the_graph(tmp_path):
    answer = ask(serve(TWO_INPUTS, tmp_path), name=NAMES, x=X)
    assert answer["y"].tolist() == (X @ [[2.0], [-1.0]]).tolist()
    assert answer["same"].tolist() == NAMES.tolist()


@pytest.mark.parametrize(
    "outputs", [["same"], ["predict"], ["same", "predict", "y"]], ids=["one", "predict", "all"]
)
def test_the_requested_outputs_come_in_their_order(outputs, tmp_path):
    assert list(ask(serve(TWO_INPUTS, tmp_path), *outputs, x=X, name=NAMES)) == outputs


def test_predict_is_the_first_output_and_all_that_mlservers_name_gives(tmp_path):
    runtime = serve(TWO_INPUTS, tmp_path, "mlserver_onnx.OnnxModel")
    answer = ask(runtime, x=X, name=NAMES)
    assert list(answer) == ["predict"]
    assert answer["predict"].shape == (3, 1)


def test_metadata_is_the_graphs(tmp_path):
    metadata = serve(TWO_INPUTS, tmp_path).metadata()
    rows = [(row.name, row.datatype, row.shape) for row in (*metadata.inputs, *metadata.outputs)]
    assert rows == [
        ("x", "FP32", [-1, 2]),
        ("name", "BYTES", [-1]),
        ("y", "FP32", [-1, 1]),
        ("same", "BYTES", [-1]),
    ]
    assert metadata.parameters == {"content_type": "dict", "device": "cpu"}


@pytest.mark.parametrize(
    ("graph", "free"),
    [
        pytest.param(MATRIX, True, id="one free axis"),
        pytest.param(TWO_INPUTS, True, id="several inputs, one axis"),
        pytest.param("g (float[2,2] x) => (float[2,2] y) { y = Neg(x) }", False, id="fixed"),
        pytest.param("g (float[N,2] x) => (float[M,2] y) { y = Neg(x) }", False, id="two axes"),
        pytest.param(
            "g (float[N,2] x) => (float y) { y = ReduceSum<keepdims=0>(x) }", False, id="a scalar"
        ),
        pytest.param(
            "g (float[N,2] x, float[2] w) => (float[N] y) { y = MatMul(x, w) }",
            False,
            id="an input without rows",
        ),
    ],
)
def test_rows_are_independent_only_along_one_free_axis_everywhere(graph, free, tmp_path):
    assert serve(graph, tmp_path).metadata().row_independent is free


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(np.array([[1.5, 2.0]]), [[-1.5, -2.0]], id="FP64"),
        pytest.param(np.array([[1, 2]]), [[-1.0, -2.0]], id="INT64"),
    ],
)
def test_numbers_become_the_graphs_datatype(value, expected, tmp_path):
    assert ask(serve(MATRIX, tmp_path), x=value)["y"].tolist() == expected


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({"x": X}, "takes the inputs 'x', 'name', got 'x'"),
        ({"x": X, "name": NAMES, "z": X}, "got 'x', 'name', 'z'"),
        ({"x": X[:, :1], "name": NAMES}, r"input 'x': expected shape \[-1, 2\], got \[3, 1\]"),
        ({"x": X[0], "name": NAMES}, r"input 'x': expected shape \[-1, 2\], got \[2\]"),
        (
            {"x": np.array([["a", "b"]]), "name": NAMES},
            "input 'x', row 0, column 0: expected FP32, got text",
        ),
        ({"x": X, "name": X[:, 0]}, "input 'name', row 0: expected text"),
        (
            {"x": X, "name": np.array([b"a"] * 3, "S")},
            "input 'name': expected text, got base64",
        ),
        ({"x": X > 1, "name": NAMES}, "input 'x', row 0, column 0: expected FP32, got BOOL"),
        (
            {"x": X.astype(float) + 1e300, "name": NAMES},
            "input 'x', row 0, column 0: expected FP32, got a number too large for it",
        ),
        ({"x": X[:2], "name": NAMES}, r"'name': shape\[0\] is 3, but input 'x' has 2 there"),
    ],
    ids=["missing", "surplus", "width", "rank", "text", "no text", "bytes", "flags", "large", "N"],
)
def test_wrong_input_is_refused_by_name(inputs, complaint, tmp_path):
    with pytest.raises(InvalidInput, match=complaint):
        ask(serve(TWO_INPUTS, tmp_path), **inputs)


def test_an_unknown_output_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(InvalidInput, match="'z' is not available, this model has 'y', 'same'"):
        ask(serve(TWO_INPUTS, tmp_path), "z", x=X, name=NAMES)


def test_a_value_the_graph_refuses_is_the_callers_fault(tmp_path):
    graph = """g (int64[N] i) => (float[N] y)
        <float[2] table = {1.0, 2.0}> { y = Gather(table, i) }"""
    with pytest.raises(InvalidInput, match="refuses a value"):
        ask(serve(graph, tmp_path), i=np.array([7]))


def test_the_columns_of_a_table_are_the_graphs_inputs(tmp_path):
    frame = pd.DataFrame({"b": [1, 2], "a": [0.5, 0.5]})
    answer = serve(COLUMNS, tmp_path).infer(
        InferenceRequest(tensors_of(frame), {"content_type": "pd"})
    )
    assert array_of(answer.outputs[0]).tolist() == [[-0.5], [-1.5]]


def test_the_columns_of_a_table_fill_a_lone_matrix(tmp_path):
    frame = pd.DataFrame({"p": [1.0, 2.0], "q": [3, 4]})
    answer = serve(MATRIX, tmp_path).infer(
        InferenceRequest(tensors_of(frame), {"content_type": "pd"})
    )
    assert array_of(answer.outputs[0]).tolist() == [[-1.0, -3.0], [-2.0, -4.0]]


@pytest.mark.filterwarnings("ignore")
def test_probabilities_of_a_converted_classifier_are_a_matrix(tmp_path):
    from sklearn.linear_model import LogisticRegression

    skl2onnx = pytest.importorskip("skl2onnx")
    model = LogisticRegression().fit(X, [0, 1, 1])
    answer = ask(serve(skl2onnx.to_onnx(model, X[:1]), tmp_path), X=X)
    assert answer["output_label"].tolist() == model.predict(X).tolist()
    np.testing.assert_allclose(answer["output_probability"], model.predict_proba(X), rtol=1e-5)


def test_options_reach_the_session(tmp_path):
    runtime = serve(
        MATRIX,
        tmp_path,
        providers=["CPUExecutionProvider"],
        provider_options=[{}],
        session_options={
            "intra_op_num_threads": 1,
            "graph_optimization_level": "enable_basic",
            "execution_mode": "parallel",
        },
        session_config_entries={"session.intra_op.allow_spinning": "0"},
        run_options={"log_severity_level": 3},
    )
    options = runtime._session.get_session_options()
    assert options.intra_op_num_threads == 1
    assert options.graph_optimization_level.name == "ORT_ENABLE_BASIC"
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert ask(runtime, x=X)["y"].tolist() == (-X).tolist()


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ({"providers": ["NoSuchProvider"]}, "'NoSuchProvider' is not available; available are"),
        ({"session_options": {"optimized_model_filepath": "x"}}, "unknown option 'optimized_mod"),
        (
            {"session_options": {"execution_mode": "sideways"}},
            "'execution_mode' has an invalid value",
        ),
        ({"run_options": {"terminate": True}}, "unknown option 'terminate'"),
        ({"providers": ["CPUExecutionProvider"], "provider_options": [{}, {}]}, "one entry per"),
    ],
    ids=["provider", "option", "value", "run option", "provider options"],
)
def test_a_wrong_option_fails_the_load_and_is_named(extra, complaint, tmp_path):
    with pytest.raises(LoadFailed, match=complaint):
        serve(MATRIX, tmp_path, **extra)


def test_the_cpu_stands_in_where_it_is_named(tmp_path):
    runtime = serve(MATRIX, tmp_path, providers=["NoSuchProvider", "CPUExecutionProvider"])
    assert runtime.metadata().parameters["device"] == "cpu"


@pytest.mark.parametrize("variable", ["HEADRACE", "MLSERVER"])
def test_the_environment_names_providers(variable, tmp_path, monkeypatch):
    monkeypatch.setenv(f"{variable}_MODEL_ONNX_PROVIDERS", '["NoSuchProvider"]')
    with pytest.raises(LoadFailed, match="NoSuchProvider"):
        serve(MATRIX, tmp_path)


def test_an_input_that_is_not_a_tensor_fails_the_load(tmp_path):
    graph = "g (seq(float[N]) x) => (int64 y) { y = SequenceLength(x) }"
    with pytest.raises(LoadFailed, match="input 'x' is not a tensor that can be sent"):
        serve(graph, tmp_path)


def test_unloading_frees_the_session(tmp_path):
    runtime = serve(MATRIX, tmp_path)
    held = weakref.ref(runtime._session)
    runtime.unload()
    gc.collect()
    assert held() is None


FRAME = pd.DataFrame(X, columns=["p", "q"])


@pytest.mark.parametrize(
    ("graph", "value", "independent"),
    [
        pytest.param(MATRIX, X, True, id="array"),
        pytest.param(MATRIX, X.astype(float), True, id="array of doubles"),
        pytest.param(MATRIX, FRAME, False, id="table, flattened"),
        pytest.param(
            "g (float[N,2] x) => (float[N,1] y) <int64[1] a = {1}> { y = ReduceSum(x, a) }",
            FRAME,
            True,
            id="table, one column",
        ),
        pytest.param(COLUMNS, {"a": X[:, :1], "b": np.ones((3, 1), np.int64)}, True, id="dict"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_mlflows_answers_are_pyfuncs_to_the_bit(graph, value, independent, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    importlib.import_module("mlflow.onnx").save_model(
        parse(graph),
        str(tmp_path / "m"),
        pip_requirements=["onnxruntime"],
        signature=mlflow.models.infer_signature(value),
    )
    runtime = create(ModelSettings("m", "mlflow", uri=str(tmp_path / "m")))
    runtime.load()
    if isinstance(value, pd.DataFrame):
        tensors = tensors_of(value)
    else:
        named = value if isinstance(value, dict) else {"input-0": value}
        tensors = [tensor_of(name, array) for name, array in named.items()]
    signature = Signature.parse(runtime.metadata().signature)
    answer = runtime.infer(signature.conform(InferenceRequest(tensors)))
    expected = mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(value)
    assert [tensor.name for tensor in answer.outputs] == list(expected)
    for tensor in answer.outputs:
        assert array_of(tensor).tobytes() == np.asarray(expected[tensor.name]).tobytes()
    assert runtime.row_independent is independent
