"""Ray Serve runs whole servers as its replicas: on a real cluster, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from headrace.deploy import ray_service
from headrace.deploy.workload import Options
from support.asking import Answer, ask, numbers
from support.clients import BUILD_TIMEOUT
from support.custom import write_model
from support.ray_cluster import PATIENCE, Cluster, Load, RayFailed, cluster
from support.serving import serving, until

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.timeout(BUILD_TIMEOUT + 4 * PATIENCE)]

# A worker is a child of its replica.
PREDICT = """
time.sleep(0.05)
rows = np.ones(len(x))
pids = {"replica": rows * os.getppid(), "worker": rows * os.getpid()}
threads = rows * int(os.environ.get("OMP_NUM_THREADS", "0"))
return {"y": x * 2, "rows": rows * len(x), "threads": threads, **pids}
"""
# Unknown keys are refused.
VALIDATE = """
import sys, yaml
from ray.serve.schema import ServeDeploySchema
ServeDeploySchema.model_validate(yaml.safe_load(sys.stdin))
"""
INFER = "/v2/models/m/infer"
SUCCESSES = "ray_model_infer_request_success_total"


@pytest.fixture(scope="module")
def ray() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models"), PREDICT, row_independent=True)


def is_alive(pid: float) -> bool:
    return Path(f"/proc/{pid:.0f}").exists()


def test_no_request_fails_while_replicas_are_added_killed_and_removed(
    ray: Cluster, folder: Path
) -> None:
    scaling = {
        **{"min_replicas": 1, "max_replicas": 3, "target_ongoing_requests": 3},
        **{"upscale_delay_s": 0.5, "downscale_delay_s": 2, "look_back_period_s": 2},
    }
    ray.run(folder, "scaled", autoscaling_config=scaling, health_check_period_s=1)
    path = f"/scaled{INFER}"
    with Load(ray.http, path, clients=1) as little:
        with Load(ray.http, path, clients=8) as load:
            until(lambda: len(load.seen("replica")) == 3, PATIENCE, "three replicas answer")
            killed = load.answers[-1]
            os.kill(int(killed["replica"][0]), signal.SIGKILL)
            until(lambda: len(load.seen("replica")) == 4, PATIENCE, "a fourth one answers")
            until(lambda: not is_alive(killed["worker"][0]), PATIENCE, "its worker ends")
        ray.wait_for("scaled", replicas=1)
        little.answered(5)
    ray.do("delete", name="scaled")

    assert [*little.failures, *load.failures] == []
    assert little.seen("y") == load.seen("y") == {(2.0, 4.0)}
    # Two rows are one request.
    assert max(load.seen("rows")) > (2.0, 2.0)
    left = [pid for pid, _ in (*load.seen("replica"), *load.seen("worker"))]
    until(lambda: not any(is_alive(pid) for pid in left), PATIENCE, "no process is left")


def exported(ray: Cluster, name: str) -> float | None:
    """How many requests an application has answered, by Ray's metrics."""
    page = ask(ray.metrics, "GET", "/metrics").body.decode()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.labels.get("application") == name and sample.name == SUCCESSES:
                return sample.value
    return None


def test_a_model_whose_worker_is_killed_costs_no_request_and_no_replica(
    ray: Cluster, folder: Path
) -> None:
    ray.run(folder, "steady", num_replicas=1)
    with Load(ray.http, f"/steady{INFER}", clients=4) as load:
        load.answered(4)
        before = load.answers[-1]
        os.kill(int(before["worker"][0]), signal.SIGKILL)
        load.answered(20)
    answered = len(load.answers)
    until(lambda: exported(ray, "steady") == answered, PATIENCE, "Ray has the metrics")
    ray.do("delete", name="steady")

    assert load.failures == []
    assert load.answers[-1]["replica"][0] == before["replica"][0]
    assert load.answers[-1]["worker"][0] != before["worker"][0]


def bare(answer: Answer) -> tuple[int, object, list[str]]:
    """What two servers have to answer alike; a path in a message is the one that was asked for."""
    ours = answer.headers.keys() - {"date", "server", "x-request-id", "connection"}
    return answer.status, answer.body.replace(b"on /alike/", b"on /"), sorted(ours)


def test_replicas_answer_as_the_command_does(ray: Cluster, tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    ray.run(folder, "alike", num_replicas="2", max_body_size="2000")
    calls = [
        ("POST", INFER, numbers(1, 2, 3)),
        ("POST", INFER, b"{"),
        ("POST", INFER, b"x" * 3000),
        ("POST", "/invocations", {"inputs": [1.5]}),
        ("POST", "/v2/models/nothing/infer", numbers(1)),
        ("GET", INFER, None),
        ("GET", "/v2/health/ready", None),
        ("GET", "/v2/models/m", None),
        ("GET", "/v2", None),
        ("GET", "/openapi.json", None),
    ]
    id = {"x-request-id": "one"}
    with serving(folder, "--max-body-size", "2000", "--root-path", "/alike") as server:
        for method, path, body in calls:
            here = ask(server.http, method, path, body, id)
            there = ask(ray.http, method, f"/alike{path}", body, id)

            assert bare(there) == bare(here), (method, path)
            assert there.headers["x-request-id"] == "one"
    unload = ask(ray.http, "POST", "/alike/v2/repository/models/m/unload")
    ray.do("delete", name="alike")

    assert unload.status == 403


STREAM = """
from collections.abc import Iterator
import numpy as np
from headrace import Model

class Counting(Model):
    def predict_stream(self, x: np.ndarray) -> Iterator[np.ndarray]:
        for number in range(int(x[0])):
            yield np.array([float(number)])
"""


def test_streams_arrive_piece_by_piece(ray: Cluster, tmp_path: Path) -> None:
    (tmp_path / "counting.py").write_text(STREAM)
    settings = {"name": "m", "implementation": "counting.Counting"}
    (tmp_path / "model-settings.json").write_text(json.dumps(settings))
    ray.run(tmp_path, "streamed")
    answer = ask(ray.http, "POST", "/streamed/v2/models/m/infer_stream", numbers(3))
    ray.do("delete", name="streamed")

    lines = [line for line in answer.body.decode().splitlines() if line.startswith("data:")]
    assert answer.status == 200
    assert [json.loads(line[5:])["outputs"][0]["data"] for line in lines] == [[0.0], [1.0], [2.0]]


def test_a_class_of_the_driver_is_served(ray: Cluster) -> None:
    ray.do("run_class", name="class", prefix="/class")
    answer = ask(ray.http, "POST", "/class/v2/models/Triple/infer", numbers(1, 2))
    ray.do("delete", name="class")

    assert answer.json["outputs"][0]["data"] == [3.0, 6.0]


def test_the_command_line_of_ray_serves_a_folder(ray: Cluster, folder: Path) -> None:
    arguments = [f"source={folder}", "num_replicas=1", 'ray_actor_options={"num_cpus": 2}']
    command = ["serve", "run", "--non-blocking", "--address", ray.address, "--name", "cli"]
    done = subprocess.run(
        [ray.python.parent / command[0], *command[1:], "headrace.ray:app", *arguments],
        env=ray.variables, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = ask(ray.http, "POST", INFER, numbers(1, 2))
    ray.do("delete", name="cli")

    outputs = {each["name"]: each["data"] for each in answer.json["outputs"]}
    assert outputs["y"] == [2.0, 4.0]
    # As many as the replica has processors.
    assert outputs["threads"] == [2.0, 2.0]


def test_ray_deploys_the_application_of_the_manifest(ray: Cluster, folder: Path) -> None:
    _, (manifest,) = ray_service.manifests(str(folder), Options(cpu="500m"))
    configuration = manifest["spec"]["serveConfigV2"]
    done = subprocess.run(
        [ray.python, "-c", VALIDATE], input=configuration, capture_output=True, text=True,
        env=ray.variables, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (application,) = yaml.safe_load(configuration)["applications"]
    arguments = {**application["args"], "source": str(folder)}
    name = application["name"]
    ray.do("run", arguments=arguments, name=name, prefix=application["route_prefix"])
    answer = ask(ray.http, "POST", INFER, numbers(1, 2))
    ray.do("delete", name=name)

    assert answer.json["outputs"][0]["data"] == [2.0, 4.0]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"paralel_workers": 1}, "TypeError: .*'paralel_workers'; did you mean 'parallel_workers'"),
        ({"num_replica": 1}, "TypeError: .*'num_replica'; did you mean 'num_replicas'"),
        ({"infer_timeout": "soon"}, "infer_timeout: expected number of seconds, got 'soon'"),
        ({"http_port": 8080}, "ConfigurationError: http_port .* on Ray Serve: Ray's proxy"),
        ({"allow_repository_api": True}, "allow_repository_api cannot be set on Ray Serve"),
        ({"num_replicas": -1}, "ConfigurationError: .*num_replicas"),
        ({"ray_actor_options": "{"}, "ConfigurationError: .*ray_actor_options"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_starts(
    ray: Cluster, folder: Path, arguments: dict[str, object], error: str
) -> None:
    with pytest.raises(RayFailed, match=f"(?s){error}"):
        ray.run(folder, "wrong", **arguments)


def test_the_status_says_why_replicas_do_not_start(ray: Cluster, tmp_path: Path) -> None:
    once = {"max_constructor_retry_count": 1}
    with pytest.raises(RayFailed):
        ray.run(tmp_path / "nothing", "missing", **once)
    write_model(tmp_path, name="fine")
    write_model(tmp_path, load='raise OSError("no weights")')
    with pytest.raises(RayFailed):
        ray.run(tmp_path, "failing", **once)
    missing, failing = ray.do("status", name="missing"), ray.do("status", name="failing")
    for name in ("missing", "failing"):
        ray.do("delete", name=name)

    assert f"ConfigurationError: MODEL '{tmp_path}/nothing' does not exist" in missing["message"]
    assert "m: model 'm' raised OSError while loading; the server's log" in failing["message"]
    assert missing["application"] == failing["application"] == "DEPLOY_FAILED"
