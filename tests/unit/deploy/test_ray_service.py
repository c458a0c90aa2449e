"""The RayService. Its schema is large, so the fields that we write are written down here."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from headrace import ray
from headrace.deploy import ray_service
from headrace.deploy.workload import Options
from headrace.errors import ConfigurationError
from support.custom import write_model

TRACKING = {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
# Of `RayService`, ray.io/v1: what we write, by where it is.
FIELDS = {
    "spec": {"serveConfigV2", "rayClusterConfig"},
    "cluster": {
        *("authOptions", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"),
    },
    "head": {"rayStartParams", "template"},
    "workers": {
        *("groupName", "replicas", "minReplicas", "maxReplicas"),
        *("rayStartParams", "template"),
    },
}


def of(source: str, **flags: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The spec, and the application of Ray Serve in it."""
    _, (manifest,) = ray_service.manifests(source, Options(**flags))
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayService")
    (application,) = yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"]
    return manifest["spec"], application


def test_the_service_has_the_fields_of_kuberay():
    spec, _ = of("models:/wine@champion", env=TRACKING, max_replicas=3)

    cluster = spec["rayClusterConfig"]
    (workers,) = cluster["workerGroupSpecs"]
    parts = {"spec": spec, "cluster": cluster, "head": cluster["headGroupSpec"], "workers": workers}
    assert {name: set(part) for name, part in parts.items()} == FIELDS
    assert [workers[key] for key in ("replicas", "minReplicas", "maxReplicas")] == [1, 1, 3]
    # The parameters of `ray start` are texts.
    for part in (workers, cluster["headGroupSpec"]):
        assert {type(value) for value in part["rayStartParams"].values()} == {str}


def test_each_replica_is_a_server_and_the_head_has_none():
    spec, application = of("models:/wine@champion", env=TRACKING, cpu="1500m", gpus=1, replicas=2)

    cluster = spec["rayClusterConfig"]
    assert application["import_path"] == "headrace.ray:app"
    assert application["args"] == {
        "source": "models:/wine@champion",
        "num_replicas": 2,
        "ray_actor_options": {"num_cpus": 1.5, "num_gpus": 1},
    }
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (workers,) = cluster["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    # As much as one replica asks for, so that there is one in each pod.
    assert container["resources"]["limits"]["cpu"] == "1500m"
    hook = {"name": "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"}
    assert {**hook, "value": "headrace.ray:repeat_unanswered"} in container["env"]
    assert "enableInTreeAutoscaling" not in cluster


def test_what_the_manifest_names_of_headrace_exists_and_a_pod_outlives_its_requests():
    spec, application = of("models:/wine@champion", env=TRACKING)

    cluster = spec["rayClusterConfig"]
    for part in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = part["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] > ray.DRAIN_TIMEOUT
        variables = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
        named = [variables["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"], application["import_path"]]
        for module, function in (name.split(":") for name in named):
            assert module == ray.__name__
            assert callable(getattr(ray, function))


def test_replicas_are_scaled_between_two_numbers():
    _, application = of("models:/wine@champion", env=TRACKING, replicas=2, max_replicas=5)

    scaling = {"min_replicas": 2, "max_replicas": 5}
    assert application["args"]["autoscaling_config"] == scaling
    assert "num_replicas" not in application["args"]


def test_what_the_image_holds_is_served_from_where_images_have_it(tmp_path):
    (tmp_path / "service.py").write_text("import headrace\nsvc = headrace.Service('sums')\n")

    _, folder = of(str(write_model(tmp_path)))
    _, service = of(f"{tmp_path}/service.py:svc")

    assert folder["args"]["source"] == "/models"
    assert service["args"]["source"] == "/bundle"


def test_a_uri_of_mlflow_needs_its_tracking_server():
    with pytest.raises(ConfigurationError, match="MLFLOW_TRACKING_URI=URL"):
        of("models:/wine@champion")
