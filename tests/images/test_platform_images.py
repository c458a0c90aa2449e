"""One image under the variables and the mounts of each platform: its probe and a prediction."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import joblib
import pytest
from sklearn.linear_model import LinearRegression

from support import images
from support.asking import Answer, ask, request, tensor
from support.repository_calls import called
from support.wine import save_mlflow, trained, wines

pytestmark = [pytest.mark.images, pytest.mark.timeout(images.TIMEOUT)]

IMAGE = "localhost/headrace-platforms:1"
ROWS = wines().head(3)
RECORDS = json.loads(ROWS.to_json(orient="records"))
CSV = ROWS.to_csv(index=False).encode()
DEPLOYED = "/v1/endpoints/1/deployedModels/2"


@dataclass(frozen=True)
class Platform:
    """Where a platform mounts a model, what it sets, what it probes, and what it sends."""

    mount: str
    probe: str
    path: str
    body: Any
    content_type: str = "application/json"
    env: Mapping[str, str] = field(default_factory=dict)


PLATFORMS = {
    "kserve": Platform(
        "/mnt/models",
        "/v2/health/ready",
        "/v1/models/wine:predict",
        {"instances": RECORDS},
        env={
            "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_mlflow.MLflowRuntime",
            "MLSERVER_HTTP_PORT": "0",
            "MLSERVER_GRPC_PORT": "0",
            "MLSERVER_MODEL_NAME": "wine",
            "MLSERVER_MODEL_URI": "/mnt/models",
        },
    ),
    "sagemaker": Platform(
        "/opt/ml/model",
        "/ping",
        "/invocations",
        CSV,
        "text/csv",
        env={"SAGEMAKER_BIND_TO_PORT": "0"},
    ),
    "vertex": Platform(
        "/mnt/storage",
        DEPLOYED,
        f"{DEPLOYED}:predict",
        {"instances": RECORDS, "parameters": {}},
        env={
            "AIP_HTTP_PORT": "0",
            "AIP_HEALTH_ROUTE": DEPLOYED,
            "AIP_PREDICT_ROUTE": f"{DEPLOYED}:predict",
            "AIP_STORAGE_URI": "file:///mnt/storage",
        },
    ),
    "azure": Platform(
        "/var/azureml-app/azureml-models/wine/1/model",
        "/v2/health/live",
        "/invocations",
        {"dataframe_records": RECORDS},
        env={
            "AZUREML_MODEL_DIR": "/var/azureml-app/azureml-models/wine/1",
            "HEADRACE_HTTP_PORT": "0",
        },
    ),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image's root. The model in the image is another one than those that are mounted."""
    images.prepare()
    folder = tmp_path_factory.mktemp("image")
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), folder / "model.joblib")
    settings = {"implementation": "sklearn", "name": "double"}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    (folder / "requirements.txt").write_text("cloudpickle\npandas\nskops\n")
    images.build(folder, IMAGE)
    with images.unpacked(IMAGE) as unpacked:
        yield unpacked
    images.clean()


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_mlflow(tmp_path_factory.mktemp("mounted") / "model")
    # MLflow adds itself, which the model is served without.
    (folder / "requirements.txt").write_text("pandas\nscikit-learn\nskops\n")
    return folder


def check_restricted(container: images.Container) -> None:
    """As in a restricted pod: a user, no capabilities, and no way to get any."""
    rights = container.privileges()
    assert rights["Uid"].split() == ["1000"] * 4
    assert {name: rights[name] for name in ("CapEff", "CapPrm", "CapBnd", "NoNewPrivs")} == {
        "CapEff": "0" * 16,
        "CapPrm": "0" * 16,
        "CapBnd": "0" * 16,
        "NoNewPrivs": "1",
    }


@pytest.mark.parametrize("name", PLATFORMS)
def test_the_image_serves_the_model_that_the_platform_mounts(name: str, root: Path, wine: Path):
    platform = PLATFORMS[name]
    config = images.configuration(IMAGE)

    with images.running(root, config, platform.env, {platform.mount: wine}) as container:
        url = container.wait_ready()
        check_restricted(container)
        probed = ask(url, "GET", platform.probe)
        headers = {"Content-Type": platform.content_type}
        answer = ask(url, "POST", platform.path, platform.body, headers)

        assert probed.status == 200, probed.body
        assert predictions(answer) == pytest.approx(trained().predict(ROWS).tolist(), rel=1e-12)
        assert f"platform {name} (" in container.log()


def predictions(answer: Answer) -> Any:
    assert answer.status == 200, answer.body
    return answer.json["predictions"]


def test_the_image_serves_what_seldons_agent_loads(root: Path, wine: Path, tmp_path: Path):
    variables = {
        "MLSERVER_HTTP_PORT": "0",
        "MLSERVER_GRPC_PORT": "0",
        "MLSERVER_MODELS_DIR": "/mnt/agent/models",
        "MLSERVER_LOAD_MODELS_AT_STARTUP": "false",
    }
    agent = tmp_path / "agent"
    agent.mkdir()
    with images.running(
        root, images.configuration(IMAGE), variables, {"/mnt/agent": agent}
    ) as container:
        url = container.wait_ready()
        check_restricted(container)
        with grpc.insecure_channel(container.announced["grpc"]) as channel:
            assert called(channel, "ServerLive").live
            shutil.copytree(wine, agent / "models" / "wine_1" / "model")
            settings = {
                "name": "wine_1",
                "implementation": "mlserver_mlflow.MLflowRuntime",
                "parameters": {"uri": "./model", "version": "1"},
            }
            (agent / "models/wine_1/model-settings.json").write_text(json.dumps(settings))

            called(channel, "RepositoryModelLoad", model_name="wine_1")
            (entry,) = called(channel, "RepositoryIndex").models
            assert (entry.name, entry.state) == ("wine_1", "READY")
            columns = [tensor(name, "FP64", [3], ROWS[name].tolist()) for name in ROWS]
            answer = ask(url, "POST", "/v2/models/wine_1/infer", request(*columns))
            expected = pytest.approx(trained().predict(ROWS).tolist(), rel=1e-12)
            assert answer.json["outputs"][0]["data"] == expected
            called(channel, "RepositoryModelUnload", model_name="wine_1")
            assert ask(url, "GET", "/v2/health/ready").status == 200


def test_without_a_platform_the_image_serves_its_own_model(root: Path):
    variables = {"HEADRACE_HTTP_PORT": "0"}
    with images.running(root, images.configuration(IMAGE), variables) as container:
        url = container.wait_ready()
        check_restricted(container)
        answer = ask(
            url, "POST", "/v2/models/double/infer", request(tensor("x", "FP64", [1, 1], [3.0]))
        )
        assert answer.json["outputs"][0]["data"] == pytest.approx([6])
        assert "platform " not in container.log()
