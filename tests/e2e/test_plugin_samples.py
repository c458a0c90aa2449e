"""The samples of plugins: every command of their pages, and the answers that the pages show."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from support.asking import ask
from support.walkthrough import EXAMPLES, Walkthrough, walkthrough

# Training, serving and calling the plugin each import MLflow and a framework again.
pytestmark = [pytest.mark.e2e, pytest.mark.examples, pytest.mark.timeout(500)]

WINES = ("sklearn_wine", "sklearn_wine_onnx")
needs_keras = pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed")
# Calls the plugin with files and prints one JSON line each, as a user's script would.
CALL = """
import json, sys
from pathlib import Path
import numpy as np
from plugin import Plugin
plugin = Plugin()
model = plugin.load_model(Path("model-uri.txt").read_text().strip())
for name in sys.argv[1:]:
    print(json.dumps(np.asarray(plugin.predict(model, Path(name).read_bytes())).tolist()))
"""


def called(sample: Walkthrough, *files: str) -> list[Any]:
    """What the plugin returns for each file when it is called without a server."""
    printed = sample.run("python", "-c", CALL, *files)
    return [json.loads(line) for line in printed.splitlines()]


@pytest.mark.parametrize("name", WINES)
def test_a_table_is_answered_as_the_page_shows_and_as_the_plugin_says(
    name: str, tmp_path: Path
) -> None:
    shutil.copytree(EXAMPLES / "data", tmp_path / "data")
    with walkthrough(f"plugins/{name}", tmp_path) as sample:
        sample.follow()
        (_, guesses, shown), *errors = sample.asked
        (expected,) = called(sample, "wines.json")

    assert guesses == expected
    assert guesses == pytest.approx(shown, rel=1e-4)
    assert errors
    for _, answer, page in errors:
        assert answer == page


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walkthrough]:
    """The Keras sample, trained on the digits of scikit-learn."""
    with walkthrough("plugins/keras_mnist", tmp_path_factory.mktemp("digits")) as sample:
        sample.follow()
        yield sample


@needs_keras
@pytest.mark.runtimes
def test_a_picture_is_answered_as_the_plugin_says_and_read_as_the_page_does(
    digits: Walkthrough,
) -> None:
    (_, probabilities, shown), *errors = digits.asked
    (expected,) = called(digits, "digit.png")

    assert np.shape(probabilities) == (1, 10)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-7)
    assert np.argmax(probabilities) == np.argmax(shown) == 3
    assert errors
    for _, answer, page in errors:
        assert answer == page


@needs_keras
@pytest.mark.runtimes
def test_pictures_that_arrive_together_are_scored_together_and_each_gets_its_own(
    digits: Walkthrough,
) -> None:
    names = [f"{number}.png" for number in range(10)]
    for name, pixels in zip(names, load_digits().images[:10], strict=True):
        (digits.folder / name).write_bytes(png((pixels * 15).astype(np.uint8)))
    payloads = [(digits.folder / name).read_bytes() for name in names] * 20

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda payload: score(digits, payload), payloads))

    expected = np.array(called(digits, *names) * 20)
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-7)
    assert metric(digits, "headrace_batches_total") < metric(digits, "headrace_batched_rows_total")


@needs_keras
@pytest.mark.runtimes
def test_the_network_learns_from_mnist_if_it_is_available(test_data: Path, tmp_path: Path) -> None:
    data = str(test_data.resolve())
    with walkthrough("plugins/keras_mnist", tmp_path, HEADRACE_TEST_DATA=data) as sample:
        sample.follow()
        images, labels = (
            gzip.decompress((test_data / "mnist" / f"t10k-{name}.gz").read_bytes())
            for name in ("images-idx3-ubyte", "labels-idx1-ubyte")
        )
        pixels = np.frombuffer(images, np.uint8)[16:].reshape(-1, 28, 28)
        # Every tenth is held out.
        guesses = [np.argmax(score(sample, png(image))) for image in pixels[::50]]

    assert np.mean(guesses == np.frombuffer(labels, np.uint8)[8::50]) > 0.9


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """A picture of these grey pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def score(sample: Walkthrough, picture: bytes) -> Any:
    """The probabilities that the server returns."""
    answer = ask(sample.http, "POST", "/api/predict", picture, {"Content-Type": "image/png"})
    assert answer.status == 200, answer.body
    return answer.json


def metric(sample: Walkthrough, name: str) -> float:
    """A count of the only model."""
    text = ask(sample.http, "GET", "/metrics").body.decode()
    (line,) = (line for line in text.splitlines() if line.startswith(name + "{"))
    return float(line.rsplit(" ", 1)[1])
