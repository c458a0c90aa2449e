"""The page of the MNIST example: PyTorch and Keras, from training to a bundle served elsewhere."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from support.asking import ask
from support.walkthrough import Walkthrough, walkthrough
from support.wheels import offline, wheelhouse

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.runtimes,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        find_spec("torch") is None or find_spec("keras") is None,
        reason="PyTorch and Keras are not installed",
    ),
]

# Calls the model in the store without a server, as a user's script would.
CALL = """
import json, sys
import headrace
import digits
name, = sys.argv[1:]
pictures = digits.load()[0][::50]
model = headrace.mlflow.load_model(f"{name}:latest")
json.dump([pictures.tolist(), model.predict(pictures).tolist()], sys.stdout)
"""


def check(page: Walkthrough, name: str) -> tuple[list, np.ndarray]:
    """The server answers as the model called directly; returns pictures and probabilities."""
    pictures, odds = json.loads(page.run("python", "-c", CALL, name).splitlines()[-1])
    compare(page, pictures, odds)
    return pictures, odds


def compare(page: Walkthrough, pictures: list, odds: list) -> None:
    predicted = ask(page.http, "POST", "/predict", pictures)
    assert predicted.status == 200, predicted.body
    np.testing.assert_allclose(predicted.json, odds, rtol=1e-4, atol=1e-6)
    classes = ask(page.http, "POST", "/classify", pictures)
    assert classes.json == np.argmax(odds, axis=1).tolist()


def follow(root: Path, **variables: str) -> None:
    with walkthrough(
        "mnist", root, **offline(wheelhouse(root / "wheels", "headrace")), **variables
    ) as page:
        for name, following in (("mnist_pytorch", "train_keras.py"), ("mnist_keras", None)):
            page.follow(until="headrace build")
            pictures, odds = check(page, name)
            page.follow(until=following)
            compare(page, pictures, odds)

    assert [each.answer for each in page.asked] == [each.shown for each in page.asked]
    assert len(page.asked) == 5


def test_services_and_bundles_answer_as_the_models_called_directly(tmp_path: Path) -> None:
    follow(tmp_path)


def test_the_networks_learn_from_mnist_if_it_is_available(test_data: Path, tmp_path: Path) -> None:
    follow(tmp_path, HEADRACE_TEST_DATA=str(test_data.resolve()))
