"""KServe's own runtime for MLServer, with only the image changed, and KServe's clients."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import yaml
from sklearn.linear_model import LinearRegression

from support.asking import ask
from support.clients import TEST_TIMEOUT, environment, run_script
from support.custom import write_model
from support.mounts import python_with
from support.serving import MAIN, serving

pytestmark = [
    pytest.mark.e2e,
    # The first test to need it builds the environment of the client.
    pytest.mark.timeout(TEST_TIMEOUT),
]

# What KServe's controller adds for runtimes with `serving.kserve.io/server-type: mlserver`, and
# what it puts in the place of the label.
ADDED = {"MLSERVER_MODEL_NAME": "wine", "MLSERVER_MODEL_URI": "/mnt/models"}
CLASSES = {"{{.Labels.modelClass}}": "mlserver_sklearn.SKLearnModel"}
# Other servers on this machine may have the ports of the runtime.
FREE_PORTS = {"HEADRACE_HTTP_PORT": "0", "HEADRACE_GRPC_PORT": "0"}


@pytest.fixture(scope="module")
def runtime(test_data: Path) -> dict[str, Any]:
    """The runtime's specification."""
    loaded: dict[str, Any] = yaml.safe_load((test_data / "kserve/kserve-mlserver.yaml").read_text())
    spec: dict[str, Any] = loaded["spec"]
    return spec


@pytest.fixture(scope="module")
def variables(runtime: dict[str, Any]) -> dict[str, str]:
    """All that the container gets; it has no command and no arguments of its own."""
    (container,) = runtime["containers"]
    assert not container.keys() & {"args", "command", "workingDir", "volumeMounts"}
    named = {each["name"]: CLASSES.get(each["value"], each["value"]) for each in container["env"]}
    return {"HEADRACE_CONTAINER": "1", **named, **ADDED}


def save_double(folder: Path) -> None:
    folder.mkdir(parents=True)
    model = LinearRegression().fit(np.array([[0.0], [1.0]]), [0.0, 2.0])
    joblib.dump(model, folder / "model.joblib")


def test_the_runtimes_ports_are_those_of_its_protocols_and_of_its_metrics(
    runtime: dict[str, Any], variables: dict[str, str], tmp_path: Path
):
    python = python_with(tmp_path, {"/mnt/models": write_model(tmp_path / "models").parent})
    command = [str(python), *MAIN, "config", "show", "--json"]
    run = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )

    shown = json.loads(run.stdout)["server"]
    assert shown["platform"] == {"value": "kserve", "from": "/mnt/models"}
    assert shown["http_port"]["value"] == 8080
    assert shown["grpc_port"]["value"] == 9000
    annotations = runtime["annotations"]
    assert annotations["prometheus.kserve.io/port"] == str(shown["http_port"]["value"])
    assert annotations["prometheus.kserve.io/path"] == shown["metrics_endpoint"]["value"]


def test_a_mounted_model_answers_kserves_clients_in_all_protocols(
    runtime: dict[str, Any], variables: dict[str, str], tmp_path: Path
):
    save_double(tmp_path / "model")
    python = python_with(tmp_path, {"/mnt/models": tmp_path / "model"})

    with serving(env={**variables, **FREE_PORTS}, python=python, ports=()) as server:
        url, address = server.announced["http"], server.announced["grpc"]
        client = environment("kserve")
        found = run_script(client, "kserve_protocols.py", "wine", url, address)
        assert found["ready"] == [True, True, True]
        for protocol in ("v1", "v2", "grpc-v2"):
            assert found[protocol] == pytest.approx([2, 5])
        # Where its annotations say that Prometheus finds them.
        path = runtime["annotations"]["prometheus.kserve.io/path"]
        assert b'model_name="wine"' in ask(url, "GET", path).body


def test_each_model_of_a_mounted_folder_answers_kserves_clients(
    variables: dict[str, str], tmp_path: Path
):
    write_model(tmp_path / "models", name="a")
    # Without a name or an implementation of its own: it is called as its folder is.
    save_double(tmp_path / "models/b")
    (tmp_path / "models/b/model-settings.json").write_text("{}")
    python = python_with(tmp_path, {"/mnt/models": tmp_path / "models"})

    with serving(env={**variables, **FREE_PORTS}, python=python, ports=()) as server:
        names = [each["name"] for each in ask(server.http, "POST", "/v2/repository/index").json]
        assert names == ["a", "b"]
        for name in names:
            found = run_script(
                environment("kserve"), "kserve_protocols.py",
                name, server.announced["http"], server.announced["grpc"],
            )  # fmt: skip
            for protocol in ("v1", "v2", "grpc-v2"):
                assert found[protocol] == pytest.approx([2, 5])
