"""The chart, rendered and linted by Helm's own library and validated by Kubernetes' schemas."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.deploy import helm_chart, monitoring, pod
from headrace.deploy.workload import Options, Workload
from headrace.errors import ConfigurationError
from support.clients import TEST_TIMEOUT, environment, run_script
from support.custom import write_model

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(TEST_TIMEOUT),
    pytest.mark.skipif(
        platform.machine() == "aarch64", reason="Helm's library has no wheel for this machine"
    ),
]

EVERYTHING = {
    "autoscaling": {"enabled": True, "maxReplicas": 4},
    "metrics": {"serviceMonitor": True, "prometheusRule": True, "dashboard": True},
    "serviceAccountName": "server",
    "imagePullSecrets": [{"name": "registry"}],
    "podLabels": {"team": "red"},
    "podAnnotations": {"note": "yes"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}


def write(tmp_path: Path, **flags: Any) -> tuple[Path, Workload]:
    folder = tmp_path / "chart"
    workload, _ = helm_chart.write(str(write_model(tmp_path)), Options(**flags), folder)
    return folder, workload


def rendered(chart: Path, **values: Any) -> dict[str, dict[str, Any]]:
    """The objects by their kind, of which each chart has one; nothing may be wrong with them."""
    found = run_script(environment("kubernetes"), "helm_chart.py", str(chart), json.dumps(values))
    assert found["lint"] == []
    assert found["faults"] == []
    objects = {each["kind"]: each for each in found["objects"]}
    assert len(objects) == len(found["objects"])
    return objects


def container(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (found,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_helm_and_kubernetes_find_nothing_wrong_with_the_chart(tmp_path):
    chart, workload = write(tmp_path, env={"A": 'a "b" $(c) {{ .d }}'}, secrets=("login",), gpus=1)

    objects = rendered(chart)

    assert set(objects) == {"Deployment", "Service", "PodDisruptionBudget"}
    found = container(objects)
    variables = {each["name"]: each["value"] for each in found["env"]}
    # Kubernetes reads $$( as $(, and Helm takes values for no templates.
    assert variables == {**workload.variables(), "A": 'a "b" $$(c) {{ .d }}'}
    assert found["args"] == workload.command
    assert found["resources"]["limits"] == workload.resources["limits"]
    assert found["lifecycle"] == pod.LIFECYCLE
    assert found["securityContext"] == pod.SECURITY
    assert found["envFrom"] == [{"secretRef": {"name": "login"}}]


@pytest.mark.parametrize("name", ["on", "null", "y"])
def test_a_chart_whose_name_is_another_value_in_yaml_is_valid(name, tmp_path):
    chart, _ = write(tmp_path, name=name)

    objects = rendered(chart, name=name, **EVERYTHING)

    labels = objects["Deployment"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == name
    assert objects["Service"]["metadata"]["name"] == name
    assert objects["ConfigMap"]["metadata"]["name"] == f"{name}-dashboard"


def test_secrets_with_keys_and_certificates_are_mounted_where_the_server_looks(tmp_path):
    env = {"HEADRACE_API_KEYS_FILE": "/keys/keys.json", "HEADRACE_SSL_CERTFILE": "/tls/tls.pem"}
    chart, _ = write(tmp_path, env=env)

    objects = rendered(chart)

    volumes = objects["Deployment"]["spec"]["template"]["spec"]["volumes"]
    secrets = {each["name"]: each.get("secret", {}).get("secretName") for each in volumes}
    mounts = container(objects)["volumeMounts"]
    assert {each["mountPath"]: secrets[each["name"]] for each in mounts} == {
        "/tmp": None,
        "/keys": "m-keys",
        "/tls": "m-tls",
    }


def test_everything_that_can_be_turned_on_is_valid_too(tmp_path):
    chart, _ = write(tmp_path)

    objects = rendered(chart, **EVERYTHING)

    more = {"HorizontalPodAutoscaler", "ServiceMonitor", "PrometheusRule", "ConfigMap"}
    assert set(objects) == {"Deployment", "Service", "PodDisruptionBudget"} | more
    assert "replicas" not in objects["Deployment"]["spec"]
    rules = yaml.safe_load(monitoring.rules())
    assert objects["PrometheusRule"]["spec"] == rules
    board = objects["ConfigMap"]["data"]["headrace.json"]
    assert json.loads(board) == json.loads(monitoring.dashboard())


def test_what_selects_pods_selects_those_of_the_deployment(tmp_path):
    chart, _ = write(tmp_path)

    objects = rendered(chart, **EVERYTHING)

    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    service = objects["Service"]["metadata"]["labels"]
    monitor = objects["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service.items()
    ports = {each["name"] for each in objects["Service"]["spec"]["ports"]}
    assert monitor["endpoints"][0]["port"] in ports
    target = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == objects["Deployment"]["metadata"]["name"]


def test_ports_and_times_follow_the_values_wherever_they_stand(tmp_path):
    chart, _ = write(tmp_path)
    drain = {"preStop": 7, "delay": 2, "timeout": 60, "margin": 1}

    objects = rendered(chart, ports={"http": 9000, "grpc": 9001, "metrics": 9002}, drain=drain)

    found = container(objects)
    variables = {each["name"]: each["value"] for each in found["env"]}
    assert [each["containerPort"] for each in found["ports"]] == [9000, 9001]
    assert [each["port"] for each in objects["Service"]["spec"]["ports"]] == [9000, 9001]
    assert variables["HEADRACE_HTTP_PORT"] == "9000"
    assert variables["HEADRACE_DRAIN_TIMEOUT"] == "60"
    assert found["lifecycle"]["preStop"]["exec"]["command"][-1] == "import time; time.sleep(7)"
    pods = objects["Deployment"]["spec"]["template"]["spec"]
    assert pods["terminationGracePeriodSeconds"] == sum(drain.values())


def test_a_variable_of_the_command_line_that_is_a_port_counts_once(tmp_path):
    chart, _ = write(tmp_path, env={"HEADRACE_HTTP_PORT": "9000", "HEADRACE_LOG_LEVEL": "debug"})

    names = [each["name"] for each in container(rendered(chart))["env"]]

    assert len(names) == len(set(names))
    assert "HEADRACE_LOG_LEVEL" in names


def test_a_folder_that_is_not_empty_is_left_as_it_is(tmp_path):
    (tmp_path / "chart").mkdir()
    (tmp_path / "chart" / "mine").write_text("mine")

    with pytest.raises(ConfigurationError, match="--output: .* is not empty"):
        write(tmp_path)

    assert [path.name for path in (tmp_path / "chart").iterdir()] == ["mine"]
