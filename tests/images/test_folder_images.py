"""Images of models, built, started as a user on a root that is read-only, asked and stopped."""

from __future__ import annotations

import json
import shutil
import signal
import socket

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from headrace.deploy import pod
from support import images
from support.asking import ask, numbers, request, tensor
from support.wine import save_mlflow, trained, wines

pytestmark = [pytest.mark.images, pytest.mark.timeout(images.TIMEOUT)]
FREE_PORTS = {"HEADRACE_HTTP_PORT": "0"}
MINE = """\
import numpy as np
from headrace import Model

class Mine(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2
"""


@pytest.fixture(scope="module", autouse=True)
def prepared():
    images.prepare()
    yield
    images.clean()


def test_an_image_of_a_plain_folder_serves_its_models_and_its_settings(tmp_path):
    folder = tmp_path / "double"
    folder.mkdir()
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), folder / "model.joblib")
    (folder / "model.joblib").chmod(0o600)
    settings = {"implementation": "sklearn", "name": "double"}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    (tmp_path / "settings.json").write_text('{"server_name": "from settings.json"}')
    (tmp_path / "requirements.txt").write_text("mlserver==1.3.5\ncloudpickle\n")

    said = images.build(tmp_path, "localhost/headrace-folder:1")

    assert "'mlserver': left out, Headrace takes their place" in said
    with images.started("localhost/headrace-folder:1", FREE_PORTS) as container:
        url = container.wait_ready()
        body = request(tensor("x", "FP64", [2, 1], [1, 2]))
        answer = ask(url, "POST", "/v2/models/double/infer", body)
        assert answer.status == 200, answer.body
        assert answer.json["outputs"][0]["data"] == pytest.approx([2, 4])
        assert ask(url, "GET", "/v2").json["name"] == "from settings.json"
        assert container.config["User"] == "1000:1000"
        assert container.config["Healthcheck"]["Test"][-1] == "health"
        # What manifests run before SIGTERM, and the check in the Compose file, are in the image.
        port = url.rpartition(":")[2]
        for command in (pod.WAIT, ["headrace", "health", "--http-port", port]):
            done = container.run(command)
            assert done.returncode == 0, done.stderr
        container.process.send_signal(signal.SIGTERM)
        assert container.process.wait(60) == 0, container.log()


def test_an_image_of_an_mlflow_model_has_its_environment_and_its_name(tmp_path):
    save_mlflow(tmp_path / "wine")
    # MLflow adds itself, which it is served without.
    (tmp_path / "wine/requirements.txt").write_text("pandas\nscikit-learn\nskops\n")

    said = images.build(tmp_path / "wine", "localhost/headrace-mlflow:1")

    assert "/opt/environments/" in said
    with images.started("localhost/headrace-mlflow:1", FREE_PORTS) as container:
        url = container.wait_ready()
        rows = wines().head(3)
        answer = ask(url, "POST", "/invocations", {"dataframe_split": rows.to_dict("split")})
        assert answer.status == 200, answer.body
        np.testing.assert_array_equal(answer.json["predictions"], trained().predict(rows))
        assert ask(url, "GET", "/v2/models/wine/ready").status == 200
        assert "being made" not in container.log()
        container.process.send_signal(signal.SIGTERM)
        assert container.process.wait(60) == 0, container.log()


def test_an_image_listens_on_the_port_that_a_platform_names_and_its_health_check_finds_it(tmp_path):
    (tmp_path / "model-settings.json").write_text('{"implementation": "echo.Echo"}')
    (tmp_path / "echo.py").write_text(
        "import numpy as np\nfrom headrace import Model\n"
        "class Echo(Model):\n    def predict(self, x: np.ndarray):\n        return x\n"
    )
    env = {"A": "a b \"q\" $HOME ${HOME} \\ \\n 'x' #y", "FLAG": ""}
    flags = [f"--env={name}={value}" for name, value in env.items()]
    images.build(tmp_path, "localhost/headrace-port:1", *flags, "--name", "echo")

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    variables = {"PORT": str(port), "HEADRACE_GRPC_PORT": "0", "HEADRACE_METRICS_PORT": "0"}
    with images.started("localhost/headrace-port:1", variables) as container:
        check = container.config["Healthcheck"]["Test"]
        assert check[0] == "CMD"
        url = container.wait_ready()
        assert url.endswith(f":{port}")
        assert container.run(check[1:]).stdout == "ready\n"
        assert ask(url, "POST", "/v2/models/echo/infer", numbers(1, 2)).status == 200
        told = dict(pair.split("=", 1) for pair in container.config["Env"])
        assert {name: told[name] for name in env} == env


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_podman_builds_an_image_that_serves_as_buildahs_does(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    settings = {"implementation": "mine.Mine", "name": "double"}
    (tmp_path / "model-settings.json").write_text(json.dumps(settings))

    said = images.build(tmp_path, "localhost/headrace-podman:1", builder="podman")

    assert "built localhost/headrace-podman:1 with podman" in said
    with images.started("localhost/headrace-podman:1", FREE_PORTS) as container:
        url = container.wait_ready()
        answer = ask(url, "POST", "/v2/models/double/infer", numbers(1, 2))
        assert answer.json["outputs"][0]["data"] == [2, 4]
        assert container.config["Healthcheck"]["Test"][-1] == "health"
