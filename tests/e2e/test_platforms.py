"""Each platform's side of its contract: its variables, its mounts, and its calls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import joblib
import pytest
import skops.io
import yaml
from sklearn.linear_model import LinearRegression

from support.asking import Answer, ask, numbers
from support.custom import write_model
from support.memory_group import memory_group
from support.mounts import python_with
from support.serving import COMMAND, Server, serving, starting, until
from support.wine import save_mlflow, trained, wines

pytestmark = pytest.mark.e2e

IN_IMAGE = {"HEADRACE_CONTAINER": "1"}
AZURE = Path(__file__).parents[2] / "examples/azure/deployment.yml"
# Of Azure's schema `managedOnlineDeployment`, what a deployment with an image of its own needs.
AZURE_FIELDS = {
    *("$schema", "name", "endpoint_name", "model", "environment"),
    *("instance_type", "instance_count"),
}


def rows() -> list[dict[str, float]]:
    return wines().head(3).to_dict(orient="records")


def expected() -> Any:
    return pytest.approx(trained().predict(wines().head(3)).tolist(), rel=1e-12)


def shown(server: Server) -> str:
    """The line about the platform that the server has logged."""
    (line,) = [line for line in server.log().splitlines() if "platform " in line]
    return line


# KServe


def test_kserves_mlserver_runtime_works_with_only_the_image_changed(tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    joblib.dump(trained(named=False), folder / "model.joblib")
    variables = {
        "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_sklearn.SKLearnModel",
        "MLSERVER_HTTP_PORT": "0",
        "MLSERVER_GRPC_PORT": "0",
        "MLSERVER_MODEL_NAME": "wine",
        "MLSERVER_MODEL_URI": "/mnt/models",
    }
    python = python_with(tmp_path, {"/mnt/models": folder})

    with serving(env={**IN_IMAGE, **variables}, python=python, ports=()) as server:
        values = wines().head(3).to_numpy()
        tensor = {"name": "x", "datatype": "FP64", "shape": [3, 11], "data": values.tolist()}
        answer = ask(server.http, "POST", "/v2/models/wine/infer", {"inputs": [tensor]})
        v1 = ask(server.http, "POST", "/v1/models/wine:predict", {"instances": values.tolist()})

        assert answer.json["outputs"][0]["data"] == expected()
        assert v1.json == {"predictions": expected()}
        assert "platform kserve (/mnt/models)" in shown(server)


def test_kserve_may_mount_a_folder_of_models(tmp_path: Path):
    for name in ("a", "b"):
        write_model(tmp_path / "models", name=name)
    python = python_with(tmp_path, {"/mnt/models": tmp_path / "models"})

    with serving(env={**IN_IMAGE, "HEADRACE_HTTP_PORT": "0"}, python=python, ports=()) as server:
        for name in ("a", "b"):
            answer = ask(server.http, "POST", f"/v2/models/{name}/infer", numbers(2))
            assert answer.json["outputs"][0]["data"] == [4]


# SageMaker


def test_sagemaker_serves_the_model_that_it_mounts(tmp_path: Path):
    # As in an archive that was made of the model's folder, and not of what is in it.
    save_mlflow(tmp_path / "extracted" / "wine")
    python = python_with(tmp_path, {"/opt/ml/model": tmp_path / "extracted"})

    with serving(env={**IN_IMAGE, "HEADRACE_HTTP_PORT": "0"}, python=python, ports=()) as server:
        table = wines().head(3)
        csv = table.to_csv(index=False).encode()
        split = {"dataframe_split": json.loads(table.to_json(orient="split"))}

        assert ask(server.http, "GET", "/ping").status == 200
        assert invoked(server.http, csv, "text/csv").json == {"predictions": expected()}
        assert invoked(server.http, split).json == {"predictions": expected()}
        assert "platform sagemaker (/opt/ml/model)" in shown(server)


def test_sagemaker_hears_that_the_model_is_not_ready_until_it_has_loaded(tmp_path: Path):
    folder = write_model(tmp_path, load="open(os.path.join(HERE, 'begin')).read()")
    os.mkfifo(folder / "begin")

    with starting("--platform", "sagemaker", folder) as server:
        server.wait_listening()
        assert ask(server.http, "GET", "/ping").status == 503
        (folder / "begin").write_text("now")
        server.wait_ready()
        assert ask(server.http, "GET", "/ping").status == 200


@pytest.fixture
def hosting_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A server of a multi-model endpoint that has loaded nothing yet."""
    (tmp_path / "image").mkdir()
    monkeypatch.chdir(tmp_path / "image")
    variables = {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_BIND_TO_PORT": "0"}
    # Where SageMaker puts models is no folder of a test's.
    variables["HEADRACE_TRUSTED_FOLDERS"] = f"/opt/ml,{tmp_path}"
    with serving(env={**IN_IMAGE, **variables}, ports=()) as server:
        yield server


@pytest.fixture
def hosting(hosting_server: Server):
    return hosting_server.http


def test_sagemaker_loads_lists_invokes_and_unloads_models(hosting: str, tmp_path: Path):
    place = str(save_mlflow(tmp_path / "8f1c" / "model"))
    assert ask(hosting, "GET", "/ping").status == 200
    assert ask(hosting, "GET", "/models").json == {"models": []}

    assert load(hosting, "8f1c", place).status == 200
    assert load(hosting, "8f1c", place).status == 409
    shown = {"modelName": "8f1c", "modelUrl": place}
    assert ask(hosting, "GET", "/models").json == {"models": [shown]}
    assert ask(hosting, "GET", "/models/8f1c").json == shown
    answer = ask(hosting, "POST", "/models/8f1c/invoke", {"dataframe_records": rows()})
    assert answer.json == {"predictions": expected()}

    assert ask(hosting, "DELETE", "/models/8f1c").status == 200
    for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/invoke")]:
        assert ask(hosting, method, f"/models/8f1c{path}", {}).status == 404
    assert ask(hosting, "GET", "/ping").status == 200
    assert load(hosting, "8f1c", place).status == 200


def test_a_model_that_does_not_load_leaves_nothing_and_may_be_loaded_again(
    hosting: str, tmp_path: Path
):
    folder = write_model(tmp_path, load="open(os.path.join(HERE, 'weights')).close()")
    assert load(hosting, "a", str(folder)).status == 422
    assert load(hosting, "b", str(tmp_path / "nowhere")).status == 422
    assert ask(hosting, "GET", "/models").json == {"models": []}
    assert ask(hosting, "GET", "/ping").status == 200

    (folder / "weights").touch()
    assert load(hosting, "a", str(folder)).status == 200


def test_the_code_of_a_model_from_elsewhere_does_not_run(hosting: str, tmp_path_factory: Any):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    mark = elsewhere / "mark"
    custom = write_model(elsewhere, load=f"open({str(mark)!r}, 'w').close()")
    safe = elsewhere / "safe"
    safe.mkdir()
    (safe / "model-settings.json").write_text('{"implementation": "sklearn"}')
    skops.io.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), safe / "model.skops")
    refused = load(hosting, "custom", str(custom))

    assert refused.status == 422
    assert b"--trusted-folders" in refused.body
    assert not mark.exists()
    assert load(hosting, "safe", str(safe)).status == 200


def test_a_link_in_a_trusted_folder_is_not_trusted(
    hosting: str, tmp_path: Path, tmp_path_factory: Any
):
    custom = write_model(tmp_path_factory.mktemp("elsewhere"))
    (tmp_path / "link").symlink_to(custom)

    assert load(hosting, "custom", str(tmp_path / "link")).status == 422
    assert load(hosting, "custom", str(tmp_path / ".." / custom.parent.name / "m")).status == 422


def test_a_load_that_memory_is_too_short_for_is_a_507(hosting: str, tmp_path: Path):
    hungry = write_model(tmp_path, load="raise MemoryError('cannot allocate')")
    vast = write_model(tmp_path, name="vast")
    with (vast / "weights").open("wb") as weights:
        # No block of it is ever written.
        weights.truncate(2**43)

    for name, folder in [("a", hungry), ("b", vast)]:
        refused = load(hosting, name, str(folder))
        assert (refused.status, refused.json["error_code"]) == (507, "RESOURCE_EXHAUSTED")
    assert ask(hosting, "GET", "/models").json == {"models": []}


def test_a_model_that_takes_all_memory_while_it_loads_is_a_507_and_costs_no_neighbour(
    hosting_server: Server, tmp_path: Path
):
    url, limit = hosting_server.http, 600 * 1024 * 1024
    hungry = write_model(tmp_path, name="hungry", load=f"self.x = np.ones({2 * limit // 8})")
    with memory_group(limit) as group:
        # Workers that start from now on are in the group too.
        (group / "cgroup.procs").write_text(str(hosting_server.process.pid))
        assert load(url, "a", str(write_model(tmp_path, name="a"))).status == 200
        (before,) = hosting_server.workers()
        os.kill(before, signal.SIGKILL)
        until(lambda: hosting_server.workers() not in ([], [before]), 60, "a worker in the group")

        refused = load(url, "hungry", str(hungry))

        assert (refused.status, refused.json["error_code"]) == (507, "RESOURCE_EXHAUSTED")
        assert [each["modelName"] for each in ask(url, "GET", "/models").json["models"]] == ["a"]
        answer = ask(url, "POST", "/models/a/invoke", {"inputs": [2.0]})
        assert answer.json == {"predictions": [4.0]}
        # The group has to be empty at the end of the test.
        hosting_server.signal()
        assert hosting_server.wait(60) == 0


def test_a_worker_that_is_killed_while_a_model_loads_costs_no_load(hosting: str, tmp_path: Path):
    killed = "os.path.exists(mark := os.path.join(HERE, 'mark')) or open(mark, 'w').close() "
    killed += "or os.kill(os.getpid(), 9)"
    folder = write_model(tmp_path, name="killed", load=killed)

    assert load(hosting, "killed", str(folder)).status == 200


NAMES = ["8f1c" * 256, "a b", "naïve 模型", "100%25", "a?b#c", "..", "%2e%2e", "invoke", "a:b;c=d"]


def test_the_names_of_sagemaker_may_be_any_text_without_a_slash(hosting: str, tmp_path: Path):
    place = str(write_model(tmp_path))
    for name in NAMES:
        path = "/models/" + quote(name, safe="").replace(".", "%2E")
        assert load(hosting, name, place).status == 200
        assert ask(hosting, "GET", path).json == {"modelName": name, "modelUrl": place}
        # For logs only: what the caller of the endpoint named, such as the archive in a bucket.
        headers = {"X-Amzn-SageMaker-Target-Model": "folder/model.tar.gz"}
        answer = ask(hosting, "POST", f"{path}/invoke", {"inputs": [2.0]}, headers)
        assert answer.json == {"predictions": [4.0]}
        assert ask(hosting, "DELETE", path).status == 200
        assert ask(hosting, "GET", path).status == 404


def test_a_name_with_a_slash_is_refused_however_it_is_written(hosting: str, tmp_path: Path):
    assert load(hosting, "a/b", str(write_model(tmp_path))).status == 400
    for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/invoke")]:
        assert ask(hosting, method, f"/models/a%2Fb{path}", {}).status == 404


@pytest.mark.parametrize("body", [b"", b"[]", {"model_name": "a"}, {"model_name": "", "url": "/"}])
def test_a_malformed_request_to_load_is_refused(hosting: str, body: Any):
    assert ask(hosting, "POST", "/models", body).status == 400


def invoked(url: str, body: Any, content_type: str = "application/json") -> Answer:
    return ask(url, "POST", "/invocations", body, {"Content-Type": content_type})


def load(url: str, name: str, place: str) -> Answer:
    return ask(url, "POST", "/models", {"model_name": name, "url": place})


# Vertex AI


def test_vertex_names_the_port_the_routes_and_the_model(tmp_path: Path):
    model = save_mlflow(tmp_path / "model")
    variables = {
        "AIP_MODE": "PREDICTION",
        "AIP_HTTP_PORT": "0",
        "AIP_HEALTH_ROUTE": "/v1/endpoints/1/deployedModels/2",
        "AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict",
        "AIP_STORAGE_URI": model.as_uri(),
    }

    with serving(env={**IN_IMAGE, **variables}, ports=()) as server:
        health = ask(server.http, "GET", variables["AIP_HEALTH_ROUTE"])
        body = {"instances": rows(), "parameters": {}}
        answer = ask(server.http, "POST", variables["AIP_PREDICT_ROUTE"], body)

        assert health.status == 200
        assert answer.json == {"predictions": expected()}
        assert "platform vertex (AIP_HTTP_PORT)" in shown(server)


def test_vertex_may_send_any_body_that_invocations_takes(tmp_path: Path):
    # What its `rawPredict` gets, it sends on as it is.
    routes = {"AIP_HEALTH_ROUTE": "/health", "AIP_PREDICT_ROUTE": "/predict"}
    table = wines().head(3)
    split = {"dataframe_split": json.loads(table.to_json(orient="split"))}
    bodies = [
        (table.to_csv(index=False).encode(), "text/csv"),
        (json.dumps(split).encode(), "application/json"),
        (json.dumps({"dataframe_records": rows()}).encode(), "application/json"),
        (json.dumps({"inputs": table.to_dict("list")}).encode(), "application/json"),
        (json.dumps({"instances": rows()}).encode(), "application/json"),
    ]
    model = save_mlflow(tmp_path / "model")

    with serving("--platform", "vertex", model, env=routes) as server:
        for body, content_type in bodies:
            headers = {"Content-Type": content_type}
            answer = ask(server.http, "POST", "/predict", body, headers).json
            assert list(answer.values()) == [expected()]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 400),
        (b'{"dataframe_split": 1}', "application/json", 400),
        (b"\xff\xd8\xff", "image/jpeg", 415),
    ],
)
def test_vertex_gets_a_refusal_of_any_other_body(
    body: bytes, content_type: str, status: int, vertex: str
):
    answer = ask(vertex, "POST", "/predict", body, {"Content-Type": content_type})
    assert answer.status == status


@pytest.fixture(scope="module")
def vertex(tmp_path_factory: pytest.TempPathFactory):
    routes = {"AIP_HEALTH_ROUTE": "/health", "AIP_PREDICT_ROUTE": "/predict"}
    folder = write_model(tmp_path_factory.mktemp("vertex"))
    with serving("--platform", "vertex", folder, env=routes) as server:
        yield server.http


@pytest.mark.parametrize(
    "instances", [[1.0, 2.5], [[1.0], [2.5]], [{"x": 1.0}, {"x": 2.5}], [1, 2.5]]
)
def test_vertex_gets_a_prediction_for_each_instance_of_whatever_form(
    instances: list[Any], vertex: str
):
    for body in ({"instances": instances}, {"instances": instances, "parameters": {"a": 1}}):
        answer = ask(vertex, "POST", "/predict", body)
        predictions = answer.json["predictions"]
        assert [each[0] if isinstance(each, list) else each for each in predictions] == [2, 5]


def test_vertex_may_name_a_path_that_another_protocol_has(tmp_path: Path):
    routes = {"AIP_HEALTH_ROUTE": "/", "AIP_PREDICT_ROUTE": "/invocations"}

    with serving("--platform", "vertex", write_model(tmp_path), env=routes) as server:
        body = {"inputs": [1.0, 2.5]}
        assert ask(server.http, "GET", "/").json == {"ready": True}
        assert ask(server.http, "POST", "/invocations", body).json == {"outputs": [2.0, 5.0]}


# Azure


def test_the_example_for_azure_names_routes_that_answer(tmp_path: Path):
    example = yaml.safe_load(AZURE.read_text())
    routes = example["environment"]["inference_config"]
    variables = {
        **example["environment_variables"],
        "HEADRACE_HTTP_PORT": "0",
        # As Azure does it: a registered folder is below the folder of its version.
        "AZUREML_MODEL_DIR": str(save_mlflow(tmp_path / "wine" / "1" / "model").parent),
    }

    with serving(env=variables, ports=()) as server:
        for kind in ("liveness_route", "readiness_route"):
            assert ask(server.http, "GET", routes[kind]["path"]).status == 200
        body = {"dataframe_records": rows()}
        answer = ask(server.http, "POST", routes["scoring_route"]["path"], body)
        assert answer.json == {"predictions": expected()}


def test_the_example_for_azure_has_the_fields_of_a_deployment():
    example = yaml.safe_load(AZURE.read_text())

    assert example.keys() >= AZURE_FIELDS
    routes = example["environment"]["inference_config"]
    assert routes.keys() == {"liveness_route", "readiness_route", "scoring_route"}
    port = int(example["environment_variables"]["HEADRACE_HTTP_PORT"])
    for route in routes.values():
        assert route.keys() == {"port", "path"}
        assert route["port"] == port


# No platform


def test_outside_of_our_images_nothing_of_a_platform_has_an_effect(tmp_path: Path):
    variables = {"AIP_HTTP_PORT": "1", "AIP_HEALTH_ROUTE": "/x", "SAGEMAKER_MULTI_MODEL": "true"}

    with serving(write_model(tmp_path), env=variables) as server:
        assert "platform" not in server.log()
        for method, path in [("GET", "/x"), ("GET", "/models"), ("POST", "/models")]:
            assert ask(server.http, method, path, {}).status == 404


def test_config_show_says_where_the_settings_of_a_platform_come_from(tmp_path: Path):
    env = {**os.environ, **IN_IMAGE, "AIP_HTTP_PORT": "8085", "AIP_STORAGE_URI": "gs://b/wine"}
    command = [*COMMAND, "config", "show", "--json"]
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)

    shown = json.loads(run.stdout)
    server = shown["server"]
    assert server["platform"] == {"value": "vertex", "from": "AIP_HTTP_PORT"}
    assert server["http_port"] == {"value": 8085, "from": "AIP_HTTP_PORT"}
    assert server["host"] == {"value": "0.0.0.0", "from": "--platform vertex"}
    assert [model["settings"]["uri"]["value"] for model in shown["models"]] == ["gs://b/wine"]
