"""Images as two pages on MLServer build them, started and asked over both protocols."""

from __future__ import annotations

import json
import signal
import subprocess

import numpy as np
import pytest

from headrace.client import Client
from support import images
from support.mlserver_folders import TEXT, write_fashion, write_sentiment
from support.serving import COMMAND

pytestmark = [pytest.mark.images, pytest.mark.timeout(images.TIMEOUT)]
FREE_PORTS = {f"HEADRACE_{name}_PORT": "0" for name in ("HTTP", "GRPC", "METRICS")}


@pytest.fixture(scope="module", autouse=True)
def prepared():
    images.prepare()
    yield
    images.clean()


def test_dockerfile_of_a_folder_builds_an_image_that_serves_all_its_models(tmp_path):
    rows, expected = write_fashion(tmp_path)
    (tmp_path / "environment.yaml").write_text("dependencies: [pip, {pip: [cloudpickle]}]\n")
    command = [*COMMAND, "dockerfile", ".", "--base-image", images.BASE]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)

    images.build_from_dockerfile(tmp_path, "localhost/python-mlserver")

    with images.started("localhost/python-mlserver", FREE_PORTS) as container:
        url = container.wait_ready()
        with Client(url) as client:
            for name, labels in expected.items():
                answer = client.infer(f"fashion-{name}", {"predict": rows}, version="v1")
                # In MLServer's form, since the folder uses its names.
                assert answer.outputs["predict"].tolist() == labels[:, None].tolist()
        assert container.run(["headrace", "--version"]).returncode == 0
        assert (
            container.run(["/opt/headrace/bin/python", "-c", "import cloudpickle"]).returncode == 0
        )
        container.process.send_signal(signal.SIGTERM)
        assert container.process.wait(60) == 0, container.log()


def test_build_of_a_folder_makes_the_named_image_which_answers_over_rest_and_grpc(tmp_path):
    odds = write_sentiment(tmp_path)

    images.build(tmp_path, "localhost/sentiment-app:1.0.0")

    with images.started("localhost/sentiment-app:1.0.0", FREE_PORTS) as container:
        container.wait_ready()
        assert sorted(container.config["ExposedPorts"]) == ["8080/tcp", "8081/tcp", "8082/tcp"]
        text = np.array([json.dumps(TEXT)], dtype=object)
        for url in (container.announced["http"], f"grpc://{container.announced['grpc']}"):
            with Client(url) as client:
                answer = client.infer("sentiment", {"text": text}).outputs["predictions"]
            np.testing.assert_allclose(answer, odds, rtol=1e-6)
        container.process.send_signal(signal.SIGTERM)
        assert container.process.wait(60) == 0, container.log()
