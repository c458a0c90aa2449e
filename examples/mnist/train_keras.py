"""Train a small convolutional network with Keras, log it to MLflow, and import it."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

# Keras reads this when it is imported; the model remembers it.
os.environ.setdefault("KERAS_BACKEND", "torch")

import digits
import keras
import mlflow
import mlflow.keras
from mlflow.models import infer_signature

import headrace

EPOCHS = 3


def network() -> Any:
    """[rows, 1, 28, 28] to the probabilities of ten digits."""
    model = keras.Sequential(
        [
            keras.Input((1, digits.SIDE, digits.SIDE)),
            # Keras has the channels last.
            keras.layers.Permute((2, 3, 1)),
            keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 5, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Train on nine tenths of the digits, and print the accuracy on the rest and the tag."""
    keras.utils.set_random_seed(0)
    images, labels = digits.load()
    digits.write_sample(images, labels)
    trained = digits.split(labels)
    model = network()
    model.fit(images[trained], labels[trained], epochs=EPOCHS, batch_size=64, verbose=0)
    _, accuracy = model.evaluate(images[~trained], labels[~trained], verbose=0)

    mlflow.set_experiment("mnist")
    with mlflow.start_run():
        mlflow.log_metric("accuracy", accuracy)
        mlflow.keras.log_model(
            model,
            name="keras-model",
            signature=infer_signature(images[:2], model.predict_on_batch(images[:2])),
            # A local build of PyTorch, such as `+cpu`, is not available everywhere.
            pip_requirements=[
                f"{name}=={version(name).partition('+')[0]}" for name in ("keras", "torch")
            ],
        )
        stored = headrace.mlflow.import_model(
            "mnist_keras",
            mlflow.get_artifact_uri("keras-model"),
            signatures={"predict": {"batchable": True}},
        )
    print(f"accuracy on {sum(~trained)} held-out digits: {accuracy:.3f}")
    print(stored.tag)


if __name__ == "__main__":
    main()
