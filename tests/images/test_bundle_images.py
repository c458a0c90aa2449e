"""Images of a bundle and of a service, built, started as a user on a read-only root, and asked."""

from __future__ import annotations

import signal
import subprocess

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import headrace
from support import images
from support.asking import ask
from support.serving import COMMAND, serving
from support.wheels import offline

pytestmark = [pytest.mark.images, pytest.mark.timeout(images.TIMEOUT)]
FREE_PORTS = {"HEADRACE_HTTP_PORT": "0"}
ROWS = [[5.9, 3.0, 5.1, 1.8], [-1.0, 0.0, 0.5, 2.0]]

SERVICE = """\
import headrace
from headrace.io import NumpyNdarray
iris = headrace.models.get("iris:latest").to_runner()
svc = headrace.Service("iris_classifier", runners=[iris])
rows = NumpyNdarray(dtype="float64", shape=[-1, 4], enforce_shape=True)
@svc.api(input=rows, output=NumpyNdarray())
async def classify(rows):
    return await iris.predict.async_run(rows)
"""


@pytest.fixture(scope="module", autouse=True)
def prepared():
    images.prepare()
    yield
    images.clean()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The working directory: a service over a stored scikit-learn model, and the model."""
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    for name, value in offline(images.KEPT / "wheels").items():
        monkeypatch.setenv(name, value)
    x = np.random.default_rng(0).normal(size=(60, 4))
    model = LogisticRegression().fit(x, x[:, 0] > 0)
    kept = {"signatures": {"predict": {"batchable": True}}}
    headrace.sklearn.save_model("iris", model, **kept)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "service.py").write_text(SERVICE)
    monkeypatch.chdir(folder)
    return model


def check(image, model):
    with images.started(image, FREE_PORTS) as container:
        url = container.wait_ready()
        answer = ask(url, "POST", "/classify", ROWS)
        assert answer.status == 200, answer.body
        assert answer.json == model.predict(ROWS).tolist()
        assert ask(url, "POST", "/classify", [[1.0]]).status == 400
        assert ask(url, "GET", "/v2/models/iris/ready").status == 200
        container.process.send_signal(signal.SIGTERM)
        assert container.process.wait(60) == 0, container.log()


def test_an_image_of_a_bundle_serves_its_service_and_the_models_of_its_runners(project):
    with open("headrace.yaml", "w") as file:
        file.write("service: service.py:svc\ninclude: ['*.py']\n")
        file.write("docker: {env: {GREETING: 'a $HOME'}, setup_script: ./setup.sh}\n")
    with open("setup.sh", "w") as file:
        file.write("#!/bin/sh\necho built > /setup\n")
    subprocess.run([*COMMAND, "build", "--version", "v1", "--base-image", images.BASE], check=True)
    headrace.models.delete("iris")

    images.build("iris_classifier:v1", "localhost/headrace-bundle:1", command="containerize")

    config = images.configuration("localhost/headrace-bundle:1")
    assert "GREETING=a $HOME" in config["Env"]
    check("localhost/headrace-bundle:1", project)


def test_an_image_of_a_service_needs_no_build_file(project):
    images.build("service.py:svc", "localhost/headrace-service:1")

    check("localhost/headrace-service:1", project)


def test_an_image_of_an_imported_bundle_answers_as_the_first_home_did(
    project, tmp_path, monkeypatch
):
    with open("headrace.yaml", "w") as file:
        file.write("service: service.py:svc\ninclude: ['*.py']\n")
    subprocess.run([*COMMAND, "build", "--version", "v1", "--base-image", images.BASE], check=True)
    home = {"HEADRACE_HOME": str(tmp_path / "home")}
    with serving("iris_classifier:v1", env=home) as server:
        first = [ask(server.http, "POST", "/classify", [row]).body for row in ROWS]
    archive = str(tmp_path / "iris.tar.zst")
    subprocess.run([*COMMAND, "bundles", "export", "iris_classifier:v1", archive], check=True)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "elsewhere"))
    subprocess.run([*COMMAND, "bundles", "import", archive], check=True)

    images.build("iris_classifier:v1", "localhost/headrace-imported:1", command="containerize")

    with images.started("localhost/headrace-imported:1", FREE_PORTS) as container:
        assert container.config["User"] == "1000:1000"
        url = container.wait_ready()
        assert [ask(url, "POST", "/classify", [row]).body for row in ROWS] == first
        # The root of the container is read-only, but for /tmp.
        written = container.run(["/usr/bin/touch", "/bundle/x"])
        assert "Read-only file system" in written.stderr
    check("localhost/headrace-imported:1", project)
