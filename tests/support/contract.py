"""A small model of every framework, saved in a folder, with what its runtime must answer."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from headrace.codecs.array import array_of, tensor_of
from headrace.model import Model
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor, pack_bytes, unpack_bytes
from headrace.runtimes import create
from headrace.settings import ModelSettings

X = np.arange(12.0).reshape(6, 2) % 5
Y = X @ [2.0, -1.0]
CLASSES = (Y > 0).astype(int)


def rows(array: np.ndarray, outputs: list[str] | None = None) -> InferenceRequest:
    return InferenceRequest([tensor_of("x", array)], None, outputs)


class Case(NamedTuple):
    """A model that is not loaded yet, and what it must answer.

    `expected` has one array per output, `inputs` the metadata as (name, datatype, shape).
    Instances of `kind` must be gone after the unload. `request` asks about some rows of `X`.
    """

    model: Model
    expected: list[np.ndarray]
    wrong: InferenceRequest
    complaint: str
    inputs: list[tuple[str, str, list[int]]]
    kind: type
    request: Callable[[np.ndarray], InferenceRequest] = rows
    read: Callable[[Tensor], np.ndarray] = array_of
    rtol: float = 0


NARROW = rows(X[:, :1])
FEW = "takes 2 features, got 1"
BOTH = partial(rows, outputs=["predict", "predict_proba"])


def served(name: str, folder: Path, **settings: Any) -> Model:
    return create(ModelSettings("m", name, uri=str(folder), **settings))


def of_features(name: str, folder: Path, model: Any, expected: Any, datatype: str = "FP64") -> Case:
    """The case of a model of one table of two features, which returns `expected`, one or both."""
    both = isinstance(expected, list)
    return Case(
        served(name, folder),
        expected if both else [expected],
        NARROW,
        FEW,
        [("input-0", datatype, [-1, 2])],
        type(model),
        BOTH if both else rows,
    )


def labels_and_chances(model: Any) -> list[np.ndarray]:
    return [model.predict(X), model.predict_proba(X)]


def sklearn_regressor(folder: Path) -> Case:
    model = LinearRegression().fit(X, Y)
    joblib.dump(model, folder / "model.joblib")
    return of_features("sklearn", folder, model, model.predict(X))


def sklearn_classifier(folder: Path) -> Case:
    model = LogisticRegression().fit(X, CLASSES)
    joblib.dump(model, folder / "model.joblib")
    return of_features("mlserver_sklearn.SKLearnModel", folder, model, labels_and_chances(model))


def xgboost_regressor(folder: Path) -> Case:
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBRegressor(n_estimators=3).fit(X, Y)
    model.save_model(folder / "model.ubj")
    name = "mlserver_xgboost.XGBoostModel"
    return of_features(name, folder, model, model.predict(X), "FP32")


def xgboost_classifier(folder: Path) -> Case:
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(n_estimators=3).fit(X, CLASSES)
    model.save_model(folder / "model.json")
    return of_features("xgboost", folder, model, labels_and_chances(model), "FP32")


def lightgbm_regressor(folder: Path) -> Case:
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.train({"verbose": -1, "min_data_in_leaf": 1}, lightgbm.Dataset(X, Y), 3)
    model.save_model(folder / "model.bst")
    name = "mlserver_lightgbm.LightGBMModel"
    return of_features(name, folder, model, model.predict(X))


def lightgbm_classifier(folder: Path) -> Case:
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=3, min_data_in_leaf=1, verbose=-1)
    joblib.dump(model.fit(X, CLASSES), folder / "model.joblib")
    return of_features("lightgbm", folder, model, labels_and_chances(model))


def catboost_regressor(folder: Path) -> Case:
    catboost = pytest.importorskip("catboost")
    model = catboost.CatBoostRegressor(3, verbose=False, allow_writing_files=False).fit(X, Y)
    model.save_model(str(folder / "model.cbm"))
    name = "mlserver_catboost.CatboostModel"
    return of_features(name, folder, model, model.predict(X))


def catboost_classifier(folder: Path) -> Case:
    catboost = pytest.importorskip("catboost")
    model = catboost.CatBoostClassifier(3, verbose=False, allow_writing_files=False)
    model.fit(X, CLASSES).save_model(str(folder / "model.cbm"))
    return of_features("catboost", folder, model, labels_and_chances(model))


def onnx(folder: Path) -> Case:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    graph = onnx.parser.parse_model(
        "<ir_version: 8, opset_import: ['' : 17]> g (double[N,2] x) => (double[N] y)\n"
        "<double[2] w = {2.0, -1.0}> { y = MatMul(x, w) }".replace("'", '"')
    )
    onnx.save(graph, folder / "model.onnx")
    return Case(
        served("mlserver_onnx.OnnxModel", folder),
        [Y],
        NARROW,
        r"'x': expected shape \[-1, 2\], got \[6, 1\]",
        [("x", "FP64", [-1, 2])],
        onnxruntime.InferenceSession,
    )


def mlflow(folder: Path) -> Case:
    mlflow = pytest.importorskip("mlflow.sklearn")
    model = LinearRegression().fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.save_model(model, folder / "m", serialization_format="pickle")
    return Case(
        served("mlserver_mlflow.MLflowRuntime", folder / "m"),
        [model.predict(X)],
        InferenceRequest([tensor_of("x", X)] * 2, {"content_type": "np"}),
        "takes exactly one input, got 2",
        [],
        LinearRegression,
    )


def custom(folder: Path) -> Case:
    (folder / "my_model.py").write_text(
        "import numpy as np\nfrom headrace.model import Model\n"
        "class Weights(list):\n    pass\n"
        "class Mine(Model):\n"
        "    def load(self):\n        self.weights = Weights([2.0, -1.0])\n"
        "    def predict(self, x: np.ndarray):\n        return x @ self.weights\n"
        "    def unload(self):\n        del self.weights\n"
    )
    model = create(ModelSettings("m", "my_model.Mine", folder=str(folder)))
    wrong = InferenceRequest([tensor_of("z", X)])
    kind = sys.modules[type(model).__module__].Weights
    return Case(model, [Y], wrong, "input 'z' is unknown", [("x", "FP64", [-1])], kind)


def torch_line() -> Any:
    import torch

    torch.manual_seed(0)
    return torch.nn.Linear(2, 1)


def torch_case(folder: Path, kind: type) -> Case:
    import torch

    with torch.no_grad():
        expected = torch_line()(torch.from_numpy(X.astype(np.float32))).numpy()
    complaint = r"cannot take 'x' of FP64 \[6, 1\]"
    inputs = [("input", "FP32", [-1])]
    model = served("pytorch", folder, extra={"device": "cpu"})
    return Case(model, [expected], NARROW, complaint, inputs, kind, rtol=1e-6)


def pytorch(folder: Path) -> Case:
    torch = pytest.importorskip("torch")
    torch.save(torch_line(), folder / "model.pt")
    return torch_case(folder, torch.nn.Linear)


def torchscript(folder: Path) -> Case:
    torch = pytest.importorskip("torch")
    torch.jit.script(torch_line()).save(folder / "model.pt")
    return torch_case(folder, torch.jit.RecursiveScriptModule)


def keras(folder: Path) -> Case:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((2,), name="grapes"), keras.layers.Dense(1)])
    model.save(folder / "model.keras")
    return Case(
        served("keras", folder),
        [np.asarray(model.predict(X, verbose=0))],
        NARROW,
        r"'x': expected shape \[-1, 2\], got \[6, 1\]",
        [("grapes", "FP32", [-1, 2])],
        keras.Sequential,
        rtol=1e-6,
    )


def tensorflow(folder: Path) -> Case:
    tensorflow = pytest.importorskip("tensorflow")

    class Line(tensorflow.Module):
        @tensorflow.function(input_signature=[tensorflow.TensorSpec([None, 2], "float64", "x")])
        def serve(self, x):
            return {"y": tensorflow.linalg.matvec(x, np.array([2.0, -1.0]))}

    line = Line()
    tensorflow.saved_model.save(line, str(folder), signatures=line.serve)
    from tensorflow.python.saved_model import load as saved_model_load

    return Case(
        served("tensorflow", folder),
        [Y],
        NARROW,
        r"'x': expected shape \[-1, 2\], got \[6, 1\]",
        [("x", "FP64", [-1, 2])],
        saved_model_load._WrapperFunction,
    )


def huggingface(folder: Path) -> Case:
    transformers = pytest.importorskip("transformers")
    from support import tiny_transformers

    def phrases(array: np.ndarray) -> list[str]:
        return [" ".join(["good"] * int(a) + ["wine"] * int(b)) for a, b in array + 1]

    def request(array: np.ndarray) -> InferenceRequest:
        elements = pack_bytes([text.encode() for text in phrases(array)])
        return InferenceRequest([Tensor("args", "BYTES", [len(array)], elements)])

    def scores(tensor: Tensor) -> np.ndarray:
        texts = unpack_bytes(tensor.data, tensor.shape[0], "output")
        return np.array([json.loads(text)["score"] for text in texts])

    tiny_transformers.bert(folder)
    pipeline = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    expected = np.array([row["score"] for row in pipeline(phrases(X))])
    wrong = InferenceRequest([*request(X).inputs, tensor_of("nosuch", X)])
    extra = {"task": "text-classification", "device": "cpu"}
    return Case(
        served("mlserver_huggingface.HuggingFaceRuntime", folder, extra=extra),
        [expected],
        wrong,
        "input 'nosuch' is unknown",
        [("args", "BYTES", [-1])],
        transformers.BertForSequenceClassification,
        request,
        scores,
        rtol=1e-5,
    )


def spark(folder: Path) -> Case:
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    from pyspark.ml import PipelineModel

    def request(array: np.ndarray) -> InferenceRequest:
        named = zip("ab", array.T, strict=True)
        return InferenceRequest([tensor_of(name, column.copy()) for name, column in named])

    # Training takes seconds, so it is done once for all tests, next to their folders.
    shared = folder.parent / "spark"
    if not shared.exists():
        train_spark(shared)
    return Case(
        served("mlserver_mllib.MLlibModel", shared / "model"),
        [np.load(shared / "expected.npy")],
        InferenceRequest(request(X).inputs[:1]),
        "takes columns 'a', 'b', got 'a'",
        [("a", "FP64", [-1]), ("b", "FP64", [-1])],
        PipelineModel,
        request,
    )


def train_spark(folder: Path) -> None:
    from pyspark.ml import Pipeline
    from pyspark.ml.feature import VectorAssembler
    from pyspark.ml.regression import LinearRegression
    from pyspark.sql import SparkSession

    options = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1"}
    session = SparkSession.builder.master("local[1]").config(map=options).getOrCreate()
    table = [(float(a), float(b), float(y)) for (a, b), y in zip(X, Y, strict=True)]
    frame = session.createDataFrame(table, ["a", "b", "label"])
    stages = [VectorAssembler(inputCols=["a", "b"], outputCol="features"), LinearRegression()]
    fitted = Pipeline(stages=stages).fit(frame)
    fitted.write().save(f"file://{folder}/model")
    expected = [row.prediction for row in fitted.transform(frame).collect()]
    np.save(folder / "expected.npy", np.array(expected))


LIGHT = [
    sklearn_regressor, sklearn_classifier, xgboost_regressor, xgboost_classifier,
    lightgbm_regressor, lightgbm_classifier, onnx, mlflow, custom,
]  # fmt: skip
HEAVY = [
    catboost_regressor, catboost_classifier, pytorch, torchscript, keras, tensorflow,
    huggingface, spark,
]  # fmt: skip
