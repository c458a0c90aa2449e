from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

from headrace.codecs.array import array_of, tensor_of
from headrace.errors import InvalidInput, LoadFailed
from headrace.protocol.messages import InferenceRequest
from headrace.runtimes import create
from headrace.settings import ModelSettings

pytest.importorskip("pyspark")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java", allow_module_level=True)

pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.timeout(300),
    # Spark's own code and the sockets to its Java process.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pyspark"),
    pytest.mark.filterwarnings("ignore::FutureWarning:pyspark"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

X = np.arange(12.0).reshape(6, 2) % 5
Y = X @ [2.0, -1.0]


@pytest.fixture(scope="module")
def session():
    from pyspark.sql import SparkSession

    options = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1"}
    session = SparkSession.builder.master("local[1]").config(map=options).getOrCreate()
    yield session
    session.stop()


@pytest.fixture(scope="module")
def pipeline(session, tmp_path_factory):
    from pyspark.ml import Pipeline
    from pyspark.ml.feature import VectorAssembler
    from pyspark.ml.regression import LinearRegression

    rows = [(float(a), float(b), float(y)) for (a, b), y in zip(X, Y, strict=True)]
    table = session.createDataFrame(rows, ["a", "b", "label"])
    stages = [VectorAssembler(inputCols=["a", "b"], outputCol="features"), LinearRegression()]
    folder = tmp_path_factory.mktemp("spark") / "model"
    Pipeline(stages=stages).fit(table).write().save(f"file://{folder}")
    return folder


def load(folder, implementation="spark", **settings):
    runtime = create(ModelSettings("m", implementation, uri=str(folder), **settings))
    runtime.load()
    return runtime


def columns(array, names="ab"):
    return [
        tensor_of(name, np.ascontiguousarray(array[:, i]))
        for i, name in enumerate(names[: array.shape[1]])
    ]


def test_a_pipeline_takes_its_columns_and_answers_predictions(pipeline):
    (answer,) = load(pipeline).infer(InferenceRequest(columns(X))).outputs
    assert answer.name == "prediction"
    np.testing.assert_allclose(array_of(answer), Y, atol=1e-6)


def test_a_batch_answers_as_its_rows_do(pipeline):
    runtime = load(pipeline, extra={"batchable": True})
    assert runtime.metadata().row_independent
    single = [
        array_of(runtime.infer(InferenceRequest(columns(X[i : i + 1]))).outputs[0])
        for i in range(2)
    ]
    together = array_of(runtime.infer(InferenceRequest(columns(X[:2]))).outputs[0])
    np.testing.assert_allclose(together, np.concatenate(single))


def test_metadata_names_the_columns_that_the_pipeline_reads(pipeline):
    assert [tensor.name for tensor in load(pipeline).metadata().inputs] == ["a", "b"]


def test_any_column_of_the_answer_may_be_requested(pipeline):
    request = InferenceRequest(columns(X), None, ["features"])
    (answer,) = load(pipeline).infer(request).outputs
    np.testing.assert_array_equal(array_of(answer), X)


def test_a_lone_stage_takes_vectors(pipeline):
    stage = next((pipeline / "stages").glob("1_*"))
    (answer,) = load(stage).infer(InferenceRequest([tensor_of("x", X)])).outputs
    np.testing.assert_allclose(array_of(answer), Y, atol=1e-6)


def test_an_rdd_model_is_recognized_by_its_metadata(session, tmp_path):
    from pyspark.mllib.clustering import KMeans

    model = KMeans.train(session.sparkContext.parallelize(X.tolist()), 2, seed=0)
    model.save(session.sparkContext, f"file://{tmp_path}/model")
    runtime = load(tmp_path / "model", "mlserver_mllib.MLlibModel")
    (answer,) = runtime.infer(InferenceRequest([tensor_of("x", X)])).outputs
    assert array_of(answer).tolist() == [model.predict(row) for row in X]


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        pytest.param(columns(X[:, :1]), "takes columns 'a', 'b', got 'a'", id="missing"),
        pytest.param(columns(X, "az"), "takes columns 'a', 'b', got 'a', 'z'", id="unknown"),
        pytest.param(
            [tensor_of("a", X[:, 0].copy()), tensor_of("b", X[:2, 1].copy())],
            "the same number of rows",
            id="lengths",
        ),
        pytest.param(
            [tensor_of("a", np.array(["x"], object)), tensor_of("b", np.ones(1))],
            "does not take 'a' of BYTES",
            id="text",
        ),
    ],
)
def test_wrong_columns_are_refused_by_name(tensors, complaint, pipeline):
    runtime = load(pipeline)
    with pytest.raises(InvalidInput, match=complaint):
        runtime.infer(InferenceRequest(tensors))


def test_a_class_that_is_not_mllibs_is_refused(tmp_path):
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "part-00000").write_text('{"class": "os.path"}')
    with pytest.raises(LoadFailed, match="not one of MLlib's"):
        load(tmp_path)


def test_without_pyspark_the_load_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(LoadFailed, match=r"pip install 'headrace\[spark\]'"):
        load(tmp_path)
