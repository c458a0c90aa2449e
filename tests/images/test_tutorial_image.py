"""The container of docs/tutorials/notebook-to-container.md answers as the page shows."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support import images
from support.pages import ADDRESS, blocks, curl_examples, files, run_cells
from support.serving import COMMAND
from support.wheels import offline, wheelhouse

pytestmark = [pytest.mark.images, pytest.mark.timeout(images.TIMEOUT)]

PAGE = Path(__file__).parents[2] / "docs/tutorials/notebook-to-container.md"


@pytest.fixture(scope="module", autouse=True)
def prepared():
    images.prepare()
    # With it, MLflow saves scikit-learn's models.
    wheelhouse(images.KEPT / "wheels", "skops")
    yield
    images.clean()


def test_the_container_of_the_tutorial_answers_as_the_service_did(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    for name, text in files(PAGE).items():
        (tmp_path / name).write_text(text)
    run_cells(PAGE, tmp_path, {})
    for name, value in offline(images.KEPT / "wheels").items():
        monkeypatch.setenv(name, value)
    commands = [line.split() for _, text in blocks(PAGE) for line in text.splitlines()]
    containerize = next(each for each in commands if each[:2] == ["headrace", "containerize"])
    docker = next(each for each in commands if each[:2] == ["docker", "run"])
    bundle, image = containerize[2], containerize[-1]
    assert docker[-1] == image

    # The base image of the page comes from a registry.
    subprocess.run([*COMMAND, "build", "--base-image", images.BASE], check=True)
    images.build(bundle, f"localhost/{image}", command="containerize")

    with images.started(f"localhost/{image}", {"HEADRACE_HTTP_PORT": "0"}) as container:
        address = urlsplit(container.wait_ready()).netloc
        for example in curl_examples(PAGE):
            command = example.command.replace(ADDRESS, address)
            answer = subprocess.run(command, shell=True, check=True, capture_output=True).stdout
            assert json.loads(answer) == json.loads(example.answer)
