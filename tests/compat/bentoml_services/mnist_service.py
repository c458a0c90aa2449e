import bentoml
import numpy as np
from bentoml.io import Image, NumpyNdarray

mnist_runner = bentoml.pytorch.get("mnist_cnn:latest").to_runner()

svc = bentoml.Service("pytorch_mnist", runners=[mnist_runner])


def to_numpy(tensor):
    return tensor.detach().cpu().numpy()


@svc.api(input=NumpyNdarray(dtype="float32"), output=NumpyNdarray(dtype="int64"))
async def predict_ndarray(images):
    scores = await mnist_runner.async_run(images)
    return to_numpy(scores.argmax(dim=1))


@svc.api(input=Image(pilmode="L"), output=NumpyNdarray(dtype="float32"))
def predict_image(image):
    pixels = np.array(image).astype("float32")[None, None] / 255
    return to_numpy(mnist_runner.run(pixels))
