import bentoml
import numpy as np
from bentoml.io import NumpyNdarray

iris_runner = bentoml.sklearn.get("iris_clf:latest").to_runner()

svc = bentoml.Service("iris_classifier", runners=[iris_runner])

input_spec = NumpyNdarray(dtype="float64", shape=(-1, 4), enforce_dtype=True, enforce_shape=True)


@svc.api(input=input_spec, output=NumpyNdarray(dtype="int64"))
def classify(features: np.ndarray) -> np.ndarray:
    return iris_runner.predict.run(features)


@svc.api(input=NumpyNdarray.from_sample(np.array([[5.1, 3.5, 1.4, 0.2]])), output=NumpyNdarray())
async def probabilities(features: np.ndarray) -> np.ndarray:
    return await iris_runner.predict_proba.async_run(features)
