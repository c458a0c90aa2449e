"""Train a small convolutional network with PyTorch, log it to MLflow, and import it."""

from __future__ import annotations

from importlib.metadata import version

import digits
import mlflow
import mlflow.pytorch
import torch
from torch import nn

import headrace

EPOCHS = 3


def network() -> nn.Sequential:
    """[rows, 1, 28, 28] to the probabilities of ten digits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
        nn.Softmax(dim=1),
    )


def train(model: nn.Sequential, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Fit all but the last layer's output, which the loss takes as it is."""
    scores, optimizer = model[:-1], torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(scores(images[rows]), labels[rows]).backward()
            optimizer.step()


def main() -> None:
    """Train on nine tenths of the digits, and print the accuracy on the rest and the tag."""
    torch.manual_seed(0)
    images, labels = digits.load()
    digits.write_sample(images, labels)
    trained = digits.split(labels)
    model = network()
    train(model, torch.from_numpy(images[trained]), torch.from_numpy(labels[trained]))
    with torch.no_grad():
        guesses = model.eval()(torch.from_numpy(images[~trained])).argmax(dim=1)
    accuracy = (guesses.numpy() == labels[~trained]).mean()

    mlflow.set_experiment("mnist")
    with mlflow.start_run():
        mlflow.log_metric("accuracy", accuracy)
        mlflow.pytorch.log_model(
            model,
            name="pytorch-model",
            input_example=images[:2],
            # A local build of PyTorch, such as `+cpu`, is not available everywhere.
            pip_requirements=[f"torch=={version('torch').partition('+')[0]}"],
        )
        stored = headrace.mlflow.import_model(
            "mnist_pytorch",
            mlflow.get_artifact_uri("pytorch-model"),
            signatures={"predict": {"batchable": True}},
        )
    print(f"accuracy on {len(guesses)} held-out digits: {accuracy:.3f}")
    print(stored.tag)


if __name__ == "__main__":
    main()
