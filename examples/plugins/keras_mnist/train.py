"""Train a small Keras network on handwritten digits and log it to MLflow.

    python train.py

Trains on MNIST, from the idx files under $HEADRACE_TEST_DATA/mnist, or on scikit-learn's digits if
the variable is not set. Logs to $MLFLOW_TRACKING_URI, or to a new store in the current folder,
and writes the URI of the model to model-uri.txt there.
"""

from __future__ import annotations

import gzip
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

# The same backend as in plugin.py; Keras reads this when it is imported.
os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import mlflow
import mlflow.keras
import numpy as np
from mlflow.models import infer_signature
from PIL import Image

SIDE = 28
URI_FILE = Path("model-uri.txt")
# What the model and the plugin need to load, for environments that are built for the model.
NEEDED = ("keras", "pillow", "torch")

Array = np.ndarray[Any, Any]


def mnist(folder: Path) -> tuple[Array, Array]:
    """The 10,000 test digits as [rows, 784] from 0 to 1, and their labels [rows]."""
    images, labels = (
        np.frombuffer(gzip.decompress((folder / f"t10k-{name}.gz").read_bytes()), np.uint8)
        for name in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    return images[16:].reshape(-1, SIDE * SIDE).astype(np.float32) / 255, labels[8:]


def small_digits() -> tuple[Array, Array]:
    """The 1,797 digits from scikit-learn, enlarged to the size and margin of MNIST's."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.stack([enlarged(image) for image in digits.images]), digits.target.astype(np.uint8)


def enlarged(image: Array) -> Array:
    """The [784] pixels of an 8x8 digit with values up to 16."""
    digit = Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((20, 20))
    framed = Image.new("L", (SIDE, SIDE))
    framed.paste(digit, (4, 4))
    return np.asarray(framed, np.float32).ravel() / 255


def network() -> Any:
    """784 pixels, 512 hidden units, 10 probabilities."""
    layers = [
        keras.Input((SIDE * SIDE,)),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Train on nine tenths of the digits, log, and print the accuracy on the rest and the URI."""
    data = os.environ.get("HEADRACE_TEST_DATA")
    images, labels = mnist(Path(data) / "mnist") if data else small_digits()
    keras.utils.set_random_seed(0)
    model = network()
    held_out = np.arange(len(labels)) % 10 == 0
    model.fit(images[~held_out], labels[~held_out], epochs=5, batch_size=64, verbose=0)
    _, accuracy = model.evaluate(images[held_out], labels[held_out], verbose=0)

    mlflow.set_experiment("digits-plugin")
    with mlflow.start_run() as run:
        mlflow.log_metric("accuracy", accuracy)
        mlflow.keras.log_model(
            model,
            name="model",
            signature=infer_signature(images[:1], model.predict_on_batch(images[:1])),
            # A local build of PyTorch, such as `+cpu`, is not available everywhere.
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in NEEDED],
        )
    uri = f"runs:/{run.info.run_id}/model"
    URI_FILE.write_text(uri + "\n")
    print(f"accuracy on {held_out.sum()} held-out digits: {accuracy:.3f}")
    print(f"{uri} (written to {URI_FILE})")


if __name__ == "__main__":
    main()
