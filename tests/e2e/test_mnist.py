"""The page of the MNIST example: PyTorch and Keras, from training to a bundle served elsewhere."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

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

# Calls the model in the store without a server, as a user's script would, on digits held out.
CALL = """
import json, sys
import headrace
import digits
pictures, labels = (rows[::50] for rows in digits.load())
odds = headrace.mlflow.load_model(sys.argv[1]).predict(pictures)
print(json.dumps([pictures.tolist(), odds.tolist(), labels.tolist()]))
"""


class Called(NamedTuple):
    """Pictures, what the model called directly says of them, and what they are."""

    pictures: list[Any]
    odds: list[Any]
    labels: list[int]


def called(page: Walkthrough, tag: str) -> Called:
    return Called(*json.loads(page.run("python", "-c", CALL, tag).splitlines()[-1]))


def check(page: Walkthrough, direct: Called) -> None:
    """The page's server says the same."""
    predicted = ask(page.http, "POST", "/predict", direct.pictures)
    assert predicted.status == 200, predicted.body
    np.testing.assert_allclose(predicted.json, direct.odds, rtol=1e-4, atol=1e-6)
    classes = ask(page.http, "POST", "/classify", direct.pictures)
    assert classes.json == np.argmax(direct.odds, axis=1).tolist()


def follow(root: Path, least: float, **variables: str) -> None:
    wheels = offline(wheelhouse(root / "wheels", "headrace"))
    with walkthrough("mnist", root, **wheels, **variables) as page:
        for name, following in (("mnist_pytorch", "train_keras.py"), ("mnist_keras", None)):
            page.follow(until="headrace build")
            direct = called(page, f"{name}:latest")
            check(page, direct)
            assert np.mean(np.argmax(direct.odds, axis=1) == direct.labels) > least
            page.follow(until=following)
            check(page, direct)

    assert [each.answer for each in page.asked] == [each.shown for each in page.asked]
    assert len(page.asked) == 5


def test_services_and_bundles_answer_as_the_models_called_directly(tmp_path: Path) -> None:
    follow(tmp_path, 0.8)


def test_the_networks_learn_from_mnist_if_it_is_available(test_data: Path, tmp_path: Path) -> None:
    follow(tmp_path, 0.9, HEADRACE_TEST_DATA=str(test_data.resolve()))
