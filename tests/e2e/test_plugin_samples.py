"""The samples of plugins: every command of their pages, and the answers that the pages show."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import headrace
from support.asking import ask
from support.pages import ADDRESS, blocks
from support.tracking import ENVIRONMENT

# Training, serving and calling the plugin each import MLflow and a framework again.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]

EXAMPLES = Path(__file__).parents[2] / "examples"
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


class Sample(NamedTuple):
    """A copy of a sample's folder, the blocks of its page, and the address of its server."""

    folder: Path
    page: list[tuple[str, str]]
    http: str

    def asked(self) -> list[tuple[Any, Any]]:
        """What each curl command of the page answers, and what the page shows under it."""
        asking = [number for number, block in enumerate(self.page) if "curl" in block[1]]
        assert [self.page[number + 1][0] for number in asking] == ["json"] * len(asking)
        return [(self._curl(self.page[n][1]), json.loads(self.page[n + 1][1])) for n in asking]

    def called(self, *files: str) -> list[Any]:
        """What the plugin returns for each file when it is called without a server."""
        command = [sys.executable, "-c", CALL, *files]
        done = subprocess.run(
            command, cwd=self.folder, env=environment(), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def _curl(self, command: str) -> Any:
        assert ADDRESS in command, f"the page's server is at {ADDRESS}"
        done = subprocess.run(
            ["bash", "-ec", command.replace(ADDRESS, urlsplit(self.http).netloc)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def environment(**variables: str) -> dict[str, str]:
    """Our own, with this interpreter's `python` and `headrace`, and MLflow's default store."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "MLFLOW_"))}
    programs = os.pathsep.join([str(Path(sys.executable).parent), ours.get("PATH", "")])
    source = str(Path(headrace.__file__).parents[1])
    path = os.pathsep.join(filter(None, [source, ours.get("PYTHONPATH")]))
    return {**ours, "PATH": programs, "PYTHONPATH": path, **ENVIRONMENT, **variables}


@contextmanager
def served(name: str, root: Path, **variables: str) -> Iterator[Sample]:
    """The sample, trained and served by the first block of its page, until Ctrl-C."""
    shutil.copytree(EXAMPLES / "data", root / "data")
    folder = shutil.copytree(
        EXAMPLES / "plugins" / name,
        root / "plugins" / name,
        ignore=shutil.ignore_patterns("mlruns", "mlflow.db", "model-uri.txt", "__pycache__"),
    )
    page = blocks(folder / "README.md")
    install, enter, *commands = page[0][1].splitlines()
    assert install.startswith("pip install '.[")
    assert enter == f"cd examples/plugins/{name}"
    reading, writing = os.pipe()
    ports = {f"HEADRACE_{name}_PORT": "0" for name in ("HTTP", "GRPC", "METRICS")}
    ready = {"HEADRACE_READY_FD": str(writing), "HEADRACE_HOME": str(root / "home")}
    with (root / "log").open("wb") as log:
        shell = subprocess.Popen(
            ["bash", "-ec", "\n".join(commands)],
            cwd=folder,
            env=environment(**ports, **ready, **variables),
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # The keys of a terminal go to a group of processes.
            process_group=0,
        )
    os.close(writing)
    try:
        with os.fdopen(reading) as line:
            announced = line.readline()
        assert announced, (root / "log").read_text()
        yield Sample(folder, page, json.loads(announced)["http"])
        os.killpg(shell.pid, signal.SIGINT)
        assert shell.wait(60) == 0, (root / "log").read_text()
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()


@pytest.mark.parametrize("name", WINES)
def test_a_table_is_answered_as_the_page_shows_and_as_the_plugin_says(
    name: str, tmp_path: Path
) -> None:
    with served(name, tmp_path) as sample:
        ((guesses, shown), *errors) = sample.asked()
        (expected,) = sample.called("wines.json")

    assert guesses == expected
    assert guesses == pytest.approx(shown, rel=1e-4)
    assert errors
    for answer, page in errors:
        assert answer == page


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """The Keras sample, trained on the digits of scikit-learn."""
    with served("keras_mnist", tmp_path_factory.mktemp("digits")) as sample:
        yield sample


@needs_keras
@pytest.mark.runtimes
def test_a_picture_is_answered_as_the_plugin_says_and_read_as_the_page_does(
    digits: Sample,
) -> None:
    ((probabilities, shown), *errors) = digits.asked()
    (expected,) = digits.called("digit.png")

    assert np.shape(probabilities) == (1, 10)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-7)
    assert np.argmax(probabilities) == np.argmax(shown) == 3
    assert errors
    for answer, page in errors:
        assert answer == page


@needs_keras
@pytest.mark.runtimes
def test_pictures_that_arrive_together_are_scored_together_and_each_gets_its_own(
    digits: Sample,
) -> None:
    names = [f"{number}.png" for number in range(10)]
    for name, pixels in zip(names, load_digits().images[:10], strict=True):
        (digits.folder / name).write_bytes(png((pixels * 15).astype(np.uint8)))
    payloads = [(digits.folder / name).read_bytes() for name in names] * 20

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda payload: score(digits, payload), payloads))

    expected = np.array(digits.called(*names) * 20)
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-7)
    assert metric(digits, "headrace_batches_total") < metric(digits, "headrace_batched_rows_total")


@needs_keras
@pytest.mark.runtimes
def test_the_network_learns_from_mnist_if_it_is_available(test_data: Path, tmp_path: Path) -> None:
    data = str(test_data.resolve())
    with served("keras_mnist", tmp_path, HEADRACE_TEST_DATA=data) as sample:
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


def score(sample: Sample, picture: bytes) -> Any:
    """The probabilities that the server returns."""
    answer = ask(sample.http, "POST", "/api/predict", picture, {"Content-Type": "image/png"})
    assert answer.status == 200, answer.body
    return answer.json


def metric(sample: Sample, name: str) -> float:
    """A count of the only model."""
    text = ask(sample.http, "GET", "/metrics").body.decode()
    (line,) = (line for line in text.splitlines() if line.startswith(name + "{"))
    return float(line.rsplit(" ", 1)[1])
