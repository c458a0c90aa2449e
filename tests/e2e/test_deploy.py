"""What manifests say of a server is true of a real one: command, variables, probes, metrics."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from headrace import configuration
from headrace.admin.certificate_metrics import CertificateCollector
from headrace.admin.rollout_metrics import RolloutCollector
from headrace.deploy import compose, kserve, monitoring, pod, seldon, systemd
from headrace.deploy.workload import Options
from headrace.protocol.error_table import TABLE
from headrace.settings import ServerSettings
from support.asking import ask, numbers
from support.certificates import secured
from support.custom import write_model
from support.mounts import python_with
from support.serving import COMMAND, serving, starting
from support.wine import save_mlflow, wines

pytestmark = pytest.mark.e2e

# Flags come before variables, and tests may not use fixed ports.
FREE = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
IN_IMAGE = {"HEADRACE_CONTAINER": "1"}
NAMES = re.compile(r"\b(?:headrace|model_infer|process)_[a-z_]+")


def containers(folder: Path) -> dict[str, dict[str, Any]]:
    """The container of each target, as a container of Kubernetes' whatever the target."""
    _, (service,) = kserve.manifests(str(folder), Options(image="m:1"))
    _, (file,) = compose.manifests(str(folder), Options())
    server = file["services"]["headrace"]
    env = [{"name": name, "value": value} for name, value in server["environment"].items()]
    (own,) = service["spec"]["predictor"]["containers"]
    return {"kserve": own, "compose": {"args": server["command"], "env": env}}


def variables(container: dict[str, Any], home: Path) -> dict[str, str]:
    """Its variables; what it writes goes to a folder of the test."""
    found = {each["name"]: each["value"] for each in container["env"]}
    return {**IN_IMAGE, **found, "HOME": str(home), "HEADRACE_HOME": str(home)}


@pytest.mark.parametrize("target", ["kserve", "compose"])
def test_the_command_and_the_variables_of_a_container_start_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
):
    # Where an image of a folder has its models is its working directory.
    folder = write_model(tmp_path)
    monkeypatch.chdir(folder)
    container = containers(folder)[target]
    command, *arguments = container["args"]

    with serving(*arguments, env=variables(container, tmp_path / "home"), ports=FREE) as server:
        assert command == "serve"
        assert ask(server.http, "POST", "/v2/models/m/infer", numbers(3)).status == 200


def test_the_probes_answer_as_kubernetes_expects_before_and_after_the_models_are_loaded(
    tmp_path: Path,
):
    folder = write_model(tmp_path, load="open(os.path.join(HERE, 'begin')).read()")
    os.mkfifo(folder / "begin")
    probes = pod.probes("http", ServerSettings())
    paths = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    assert set(paths) == {"startupProbe", "livenessProbe", "readinessProbe"}

    with starting(folder) as server:
        server.wait_listening()
        loading = {name: ask(server.http, "GET", path).status for name, path in paths.items()}
        (folder / "begin").write_text("now")
        server.wait_ready()
        loaded = {name: ask(server.http, "GET", path).status for name, path in paths.items()}

    assert loading == {"startupProbe": 200, "livenessProbe": 200, "readinessProbe": 503}
    assert loaded == dict.fromkeys(paths, 200)


def test_every_variable_in_a_manifest_is_a_setting_and_every_port_is_the_one_it_sets(
    tmp_path: Path,
):
    for target, container in containers(write_model(tmp_path)).items():
        given = {each["name"]: each["value"] for each in container["env"]}
        # A variable of ours that is no setting is refused.
        resolved = configuration.resolve({}, given, None)
        assert resolved.warnings == []
        settings = resolved.settings
        assert settings.host == "0.0.0.0"
        ports = [each["containerPort"] for each in container.get("ports", [])]
        assert ports in ([], [settings.http_port, settings.grpc_port])
        probed = [
            probe["httpGet"]["port"] for name, probe in container.items() if name.endswith("Probe")
        ]
        assert set(probed) <= {settings.http_port}, target


@contextmanager
def on_kserve(tmp_path: Path, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The address of a server that KServe's runtime of ours starts, and that runtime's `spec`."""
    options = Options(storage_uri="s3://bucket/models", name="red")
    _, (runtime, service) = kserve.manifests(str(folder), options)
    (container,) = runtime["spec"]["containers"]
    # KServe replaces templates by what the service says, and mounts what it has fetched.
    asked_format = service["spec"]["predictor"]["model"]["modelFormat"]["name"]
    text = json.dumps(container).replace("{{.Name}}", service["metadata"]["name"])
    filled = json.loads(text.replace("{{.Annotations.modelFormat}}", asked_format))
    python = python_with(tmp_path, {"/mnt/models": folder})
    env = variables(filled, tmp_path / "home")
    with serving(env=env, python=python, ports=FREE) as server:
        yield server.http, runtime["spec"]


def test_the_runtime_of_kserve_serves_what_is_mounted_under_the_name_of_its_service(tmp_path: Path):
    save_mlflow(tmp_path / "wine")

    with on_kserve(tmp_path, tmp_path / "wine") as (url, spec):
        rows = wines().head(3).to_dict(orient="records")
        answer = ask(url, "POST", "/v1/models/red:predict", {"instances": rows})
        assert answer.status == 200, answer.body
        path = spec["annotations"]["prometheus.kserve.io/path"]
        assert 'model="red"' in ask(url, "GET", path).body.decode()


def test_the_runtime_of_kserve_serves_a_folder_of_models_under_their_own_names(tmp_path: Path):
    for name in ("a", "b"):
        write_model(tmp_path / "models", name=name)

    with on_kserve(tmp_path, tmp_path / "models") as (url, _):
        for name in ("a", "b"):
            answer = ask(url, "POST", f"/v2/models/{name}/infer", numbers(2))
            assert answer.json["outputs"][0]["data"] == [4]


def test_the_server_of_seldon_starts_empty_and_ready_with_its_variables(tmp_path: Path):
    _, (server_manifest, _) = seldon.manifests("s3://bucket/wine", Options())
    (container,) = server_manifest["spec"]["podSpec"]["containers"]
    (tmp_path / "agent").mkdir()
    python = python_with(tmp_path, {"/mnt/agent": tmp_path / "agent"})
    env = variables(container, tmp_path / "home")

    with serving(env=env, python=python, ports=FREE) as server:
        # The three probes of Seldon's configuration ask this, on the port of HTTP.
        assert ask(server.http, "GET", "/v2/health/live").status == 200
        assert ask(server.http, "GET", "/v2/health/ready").status == 200


def test_every_metric_of_the_dashboard_and_the_alerts_is_one_that_a_server_has(tmp_path: Path):
    with serving(write_model(tmp_path, predict="raise ValueError")) as server:
        failed = ask(server.http, "POST", "/v2/models/m/infer", numbers(1))
        assert failed.status == 500
        exported = ask(server.http, "GET", "/metrics").body.decode()

    # With the suffixes that samples have. A server has the metrics of rollouts if it has a canary,
    # and those of certificates if it has one.
    further = CollectorRegistry()
    further.register(RolloutCollector({}))
    further.register(CertificateCollector(secured(tmp_path).certificates))
    declared = re.findall(r"^# TYPE (\w+)", generate_latest(further).decode(), re.M)
    samples = {*re.findall(r"^([a-z_]+)", exported, re.M), *declared}
    named = {name for text in expressions() for name in NAMES.findall(text)}
    assert len(named) >= 10
    assert named - samples == set()


def test_the_alerts_name_kinds_of_errors_that_exist():
    kinds = [
        kind
        for text in expressions()
        for codes in re.findall(r'code=~?"([^"]+)"', text)
        for kind in codes.split("|")
    ]

    assert kinds
    # What is the fault of the model or of the server, and not of a caller.
    assert {kind: TABLE[kind].status // 100 for kind in kinds} == dict.fromkeys(kinds, 5)


def test_prometheus_finds_nothing_wrong_with_the_alerts(tmp_path: Path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    (tmp_path / "rules.yml").write_text(monitoring.rules())

    done = subprocess.run(
        [promtool, "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_the_health_check_of_compose_is_a_command_that_the_image_has(tmp_path: Path):
    _, (file,) = compose.manifests(str(write_model(tmp_path)), Options())
    server = file["services"]["headrace"]
    how, program, *arguments = server["healthcheck"]["test"]
    assert (how, program) == ("CMD", "headrace")

    with serving(tmp_path / "m") as running:
        port = running.http.rpartition(":")[2]
        env = {**os.environ, **server["environment"], "HEADRACE_HTTP_PORT": port}
        done = subprocess.run(
            [*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=60
        )

    assert (done.returncode, done.stdout) == (0, "ready\n")


def test_the_wait_before_the_end_needs_python_alone():
    program, *arguments = pod.WAIT

    # The same program, told to wait no longer than it takes.
    done = subprocess.run(
        [
            shutil.which(program) or program,
            *(re.sub(r"sleep\(\d+\)", "sleep(0)", each) for each in arguments),
        ],
        timeout=60,
    )

    assert done.returncode == 0


def test_the_unit_of_systemd_starts_a_server_with_a_command_that_exists(tmp_path: Path):
    folder = write_model(tmp_path)
    _, text = systemd.unit(str(folder), Options(), "/opt/headrace/bin/headrace")
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    _, command, *arguments = line.removeprefix("ExecStart=").split()

    assert command == "serve"
    with serving(*arguments) as server:
        assert ask(server.http, "GET", "/v2/health/ready").status == 200


def expressions() -> Iterator[str]:
    """What the dashboard and the alerts ask Prometheus."""
    for group in yaml.safe_load(monitoring.rules())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    board = json.loads(monitoring.dashboard())
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]
