"""MLflow models of the heavy flavors, each with a request and the answer that MLflow gives it.

Run as a program, it fills a folder: the flavors do not get along for long in one process, with
each other or with what a test has imported.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

X = np.arange(12, dtype=np.float32).reshape(4, 3)
TABLE = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [2.0, 1.0, 5.0, 1.0]})


def transformers_classification(folder):
    _save_pipeline(folder, "text-classification", "bert", ["good wine"])
    return {"inputs": ["good wine", "this is very bad"]}


def transformers_generation(folder):
    params = {"max_new_tokens": 2, "do_sample": False}
    _save_pipeline(folder, "text-generation", "llama", ["good wine"], params)
    return {"inputs": ["good wine", "this is very bad"], "params": {"max_new_tokens": 4}}


def _save_pipeline(folder, task, maker, example, params=None):
    import mlflow.transformers
    from transformers import pipeline

    from support import tiny_transformers

    with tempfile.TemporaryDirectory() as saved:
        getattr(tiny_transformers, maker)(Path(saved))
        made = pipeline(task, model=saved, device="cpu")
        answer = mlflow.transformers.generate_signature_output(made, example)
        signature = mlflow.models.infer_signature(example, answer, params)
        mlflow.transformers.save_model(
            made, folder, signature=signature, pip_requirements=["transformers"]
        )


def tensorflow_keras(folder):
    import keras
    import mlflow.tensorflow

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    mlflow.tensorflow.save_model(model, folder, signature=mlflow.models.infer_signature(X))
    return {"inputs": X.tolist()}


def tensorflow_module(folder):
    import mlflow.tensorflow
    import tensorflow

    class Double(tensorflow.Module):
        @tensorflow.function(input_signature=[tensorflow.TensorSpec([None, 3], "float32")])
        def __call__(self, x):
            return {"double": x * 2}

    mlflow.tensorflow.save_model(Double(), folder, signature=mlflow.models.infer_signature(X))
    return {"inputs": X.tolist()}


def keras(folder):
    import keras
    import mlflow.keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    mlflow.keras.save_model(model, folder, signature=mlflow.models.infer_signature(X))
    return {"inputs": X.tolist()}


def spark(folder):
    import mlflow.spark
    from pyspark.ml import Pipeline
    from pyspark.ml.feature import VectorAssembler
    from pyspark.ml.regression import LinearRegression
    from pyspark.sql import SparkSession

    options = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1"}
    session = SparkSession.builder.master("local[1]").config(map=options).getOrCreate()
    rows = session.createDataFrame(TABLE.assign(label=[3.0, 1.0, 2.0, 0.0]))
    stages = [VectorAssembler(inputCols=["a", "b"], outputCol="features"), LinearRegression()]
    signature = mlflow.models.infer_signature(TABLE)
    mlflow.spark.save_model(Pipeline(stages=stages).fit(rows), folder, signature=signature)
    return {"dataframe_split": TABLE.to_dict("split", index=False)}


def pyfunc_with_params(folder):
    import mlflow.pyfunc

    class Scale(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input["a"] * params["factor"]

    signature = mlflow.models.infer_signature(TABLE, params={"factor": 2.0})
    mlflow.pyfunc.save_model(
        folder, python_model=Scale(), signature=signature, pip_requirements=["pandas"]
    )
    return {"dataframe_split": TABLE.to_dict("split", index=False), "params": {"factor": 3.0}}


FLAVORS = {
    save.__name__: save
    for save in (
        transformers_classification, transformers_generation, tensorflow_keras,
        tensorflow_module, keras, spark, pyfunc_with_params,
    )
}  # fmt: skip


def answer_of_mlflow(folder, request):
    """What MLflow's own scoring server answers."""
    import mlflow.pyfunc
    from mlflow.pyfunc.scoring_server import infer_and_parse_data, predictions_to_json

    model = mlflow.pyfunc.load_model(folder)
    params = request.get("params")
    data = {key: value for key, value in request.items() if key != "params"}
    value = infer_and_parse_data(data, model.metadata.get_input_schema())
    found = model.predict(value, params=params)
    if isinstance(found, dict):
        # TensorFlow's tensors, which MLflow's server cannot write as JSON.
        found = {name: np.asarray(tensor) for name, tensor in found.items()}
    text = io.StringIO()
    predictions_to_json(found, text)
    return json.loads(text.getvalue())


def main(root, names):
    warnings.simplefilter("ignore")
    for name in names:
        folder = Path(root, "models", name)
        request = FLAVORS[name](str(folder))
        settings = {"name": name, "implementation": "mlflow"}
        (folder / "model-settings.json").write_text(json.dumps(settings))
        answer = answer_of_mlflow(str(folder), request)
        Path(root, f"{name}.json").write_text(json.dumps([request, answer]))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main(sys.argv[1], sys.argv[2:])
