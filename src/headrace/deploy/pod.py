"""The parts of a pod that every platform on Kubernetes has: container, probes, hardening."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.deploy import mounted_files
from headrace.deploy.workload import PRE_STOP, Workload
from headrace.settings import ServerSettings

LIVE, READY = "/v2/health/live", "/v2/health/ready"
# Any image that runs Headrace has this, and need not have a shell or `sleep`.
WAIT = ["python", "-c", f"import time; time.sleep({PRE_STOP})"]

# The one folder that can be written to.
TMP_VOLUME: dict[str, Any] = {"name": "tmp", "emptyDir": {}}
TMP_MOUNT = {"name": "tmp", "mountPath": "/tmp"}

SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
# The server waits before it stops, while Kubernetes takes its address from every list.
LIFECYCLE: dict[str, Any] = {"preStop": {"exec": {"command": WAIT}}}


def probes(port: int | str, settings: ServerSettings) -> dict[str, Any]:
    """It is live as soon as it listens, and ready when its models are; both answer at all times."""
    return {
        "startupProbe": {
            **_asks(LIVE, port, settings),
            "periodSeconds": 2,
            "timeoutSeconds": 2 if settings.ssl_ca_certs is None else 5,
            "failureThreshold": 60,
        },
        "livenessProbe": {
            **_asks(LIVE, port, settings),
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "readinessProbe": {
            **_asks(READY, port, settings),
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
    }


def _asks(path: str, port: int | str, settings: ServerSettings) -> dict[str, Any]:
    """What a probe does; Kubernetes has no certificate to show, so the container asks itself."""
    if settings.ssl_ca_certs is not None:
        command = ["headrace", "health", *(["--live"] if path == LIVE else [])]
        return {"exec": {"command": command}}
    scheme = {} if settings.ssl_certfile is None else {"scheme": "HTTPS"}
    return {"httpGet": {"path": path, "port": port, **scheme}}


def env(variables: Mapping[str, str]) -> list[dict[str, str]]:
    """Variables as a container has them; Kubernetes expands `$(NAME)` in values."""
    return [
        {"name": name, "value": value.replace("$(", "$$(")} for name, value in variables.items()
    ]


def env_from(workload: Workload) -> dict[str, Any]:
    """The Secrets whose keys become variables, if there are any."""
    secrets = [{"secretRef": {"name": name}} for name in workload.options.secrets]
    return {"envFrom": secrets} if secrets else {}


def mounts(workload: Workload) -> list[dict[str, Any]]:
    """What the server's container has mounted: a folder to write to, and its files."""
    return [TMP_MOUNT, *mounted_files.mounts(workload)]


def volumes(workload: Workload) -> list[dict[str, Any]]:
    """The volumes of its pod."""
    return [TMP_VOLUME, *mounted_files.volumes(workload)]


def ports(workload: Workload, http: str = "http", grpc: str = "grpc") -> list[dict[str, Any]]:
    """The ports of HTTP and gRPC; the metrics are at the first one too."""
    settings = workload.settings
    return [
        {"name": http, "containerPort": settings.http_port, "protocol": "TCP"},
        {"name": grpc, "containerPort": settings.grpc_port, "protocol": "TCP"},
    ]
