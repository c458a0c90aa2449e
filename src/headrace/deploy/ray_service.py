"""Ray Serve: a `RayService` for KubeRay, in which each replica is a server of its own.

Source: `RayService` (ray.io/v1) of KubeRay, and the configuration files of Ray Serve. What is in
`args` are the arguments of `headrace.ray.app`.
"""

from __future__ import annotations

import math
from typing import Any

from headrace.deploy import checks, documents, pod
from headrace.deploy.documents import Manifest
from headrace.deploy.workload import MARGIN, Options, Workload, find, require_tracking
from headrace.packaging import bundle_builder, folder_image

BUILDER, REPEATS = "headrace.ray:app", "headrace.ray:repeat_unanswered"
# Where images have what they serve.
PLACES = {"folder": folder_image.TARGET}
# Ports of Ray: of its proxies, of its control store, of its dashboard, and of the agents, which
# say whether a node is well.
PROXY, STORE, DASHBOARD, AGENT = 8000, 6379, 8265, 52365
# Of the head, which runs no replicas.
HEAD = {"cpu": "1", "memory": "2Gi"}
# Requests and answers do not pass through the object store; Ray's own default is a third of the
# memory. In bytes, and the folder that holds it.
OBJECT_STORE, SHARED_MEMORY = "100000000", "256Mi"


def manifests(source: str, options: Options) -> tuple[Workload, list[Manifest]]:
    """The service of Ray that serves SOURCE.

    Raises:
        ConfigurationError: SOURCE cannot be served so, or a flag is missing or wrong.
    """
    workload = find(source, options, "none")
    require_tracking(workload)
    return workload, [_service(workload)]


def serve_config(workload: Workload) -> dict[str, Any]:
    """The configuration of Ray Serve: one application at the root."""
    options = workload.options
    arguments: dict[str, Any] = {"source": _place(workload)}
    if options.max_replicas and options.max_replicas > options.replicas:
        # The target of requests per replica is the default of `headrace.ray.app`.
        arguments["autoscaling_config"] = {
            "min_replicas": options.replicas,
            "max_replicas": options.max_replicas,
        }
    else:
        arguments["num_replicas"] = options.replicas
    actor: dict[str, float] = {"num_cpus": checks.cores(workload.cpu)}
    if options.gpus:
        actor["num_gpus"] = options.gpus
    arguments["ray_actor_options"] = actor
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": PROXY},
        "applications": [
            {
                "name": workload.name,
                "route_prefix": "/",
                "import_path": BUILDER,
                "args": arguments,
            }
        ],
    }


def _place(workload: Workload) -> str:
    if workload.arguments:
        return workload.source
    return PLACES.get(workload.kind, bundle_builder.TARGET)


def _service(workload: Workload) -> Manifest:
    options = workload.options
    most = max(options.replicas, options.max_replicas or 0)
    store = {"object-store-memory": OBJECT_STORE}
    workers = {
        "groupName": "replicas",
        # One replica for each pod.
        "replicas": options.replicas,
        "minReplicas": options.replicas,
        "maxReplicas": most,
        "rayStartParams": store,
        "template": _template(
            workload, "ray-worker", workload.resources, f"/-/healthz:{PROXY}", {"serve": PROXY}
        ),
    }
    ports = {"gcs-server": STORE, "dashboard": DASHBOARD, "serve": PROXY}
    head = {
        "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0", **store},
        "template": _template(
            workload,
            "ray-head",
            {"requests": HEAD, "limits": HEAD},
            f"/api/local_raylet_healthz:{AGENT}",
            ports,
        ),
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": workload.name},
        "spec": {
            "serveConfigV2": documents.dump(serve_config(workload)),
            "rayClusterConfig": {
                # Without a token, anyone who can reach the cluster can run code in it.
                "authOptions": {"mode": "token"},
                **({"enableInTreeAutoscaling": True} if most > options.replicas else {}),
                "headGroupSpec": head,
                "workerGroupSpecs": [workers],
            },
        },
    }


def _template(
    workload: Workload, name: str, resources: Any, ready: str, ports: dict[str, int]
) -> dict[str, Any]:
    """A pod, with probes instead of KubeRay's own, which need `wget`; slim images have none."""
    path, _, port = ready.rpartition(":")
    variables = {
        "HOME": "/tmp",
        "HEADRACE_HOME": "/tmp/headrace",
        # Requests of a replica that dies before it answers are sent to another one.
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": REPEATS,
        **workload.options.env,
    }
    # Ray writes to more places than /tmp in some versions.
    security = {
        key: value for key, value in pod.SECURITY.items() if key != "readOnlyRootFilesystem"
    }
    container = {
        "name": name,
        "image": workload.image,
        "env": pod.env(variables),
        **pod.env_from(workload),
        "ports": [{"name": each, "containerPort": number} for each, number in ports.items()],
        "resources": resources,
        "livenessProbe": {
            "httpGet": {"path": "/api/local_raylet_healthz", "port": AGENT},
            "initialDelaySeconds": 30,
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 24,
        },
        "readinessProbe": {
            "httpGet": {"path": path, "port": int(port)},
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
        "securityContext": security,
        "volumeMounts": [*pod.mounts(workload), {"name": "shm", "mountPath": "/dev/shm"}],
    }
    memory = {"medium": "Memory", "sizeLimit": SHARED_MEMORY}
    volumes = [*pod.volumes(workload), {"name": "shm", "emptyDir": memory}]
    # Replicas finish their requests, which may take as long as any request.
    grace = math.ceil(workload.settings.infer_timeout) + MARGIN
    spec = {"terminationGracePeriodSeconds": grace, "containers": [container], "volumes": volumes}
    return {"spec": spec}
