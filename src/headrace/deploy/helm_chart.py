"""Helm: a chart whose templates are the same for every SOURCE, and whose values say what it is."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace import __version__
from headrace.deploy import documents, monitoring, mounted_files, pod
from headrace.deploy.workload import (
    MARGIN,
    PRE_STOP,
    Options,
    Workload,
    find,
    require_tracking,
)
from headrace.errors import ConfigurationError

CHART = Path(__file__).parent / "chart"
# What the templates set from `ports` and `drain`.
DERIVED = ("_PORT", "_DRAIN_DELAY", "_DRAIN_TIMEOUT")

Section = tuple[str, dict[str, Any]]


def write(source: str, options: Options, folder: Path) -> tuple[Workload, Path]:
    """Write the chart that runs SOURCE into a new folder; returns the file with the values.

    Raises:
        ConfigurationError: SOURCE cannot be served so, a flag is missing or wrong, or the folder
            is not empty or cannot be written.
    """
    workload = find(source, options, "none")
    require_tracking(workload)
    try:
        if folder.exists() and any(folder.iterdir()):
            raise ConfigurationError(
                f"--output: {folder} is not empty; remove it, or choose another"
            )
        shutil.copytree(CHART, folder, dirs_exist_ok=True)
        (folder / "files").mkdir()
        (folder / "files" / monitoring.DASHBOARD).write_text(monitoring.dashboard())
        (folder / "files" / monitoring.RULES).write_text(monitoring.rules())
        (folder / "Chart.yaml").write_text(documents.dump(_chart(workload)))
        values = folder / "values.yaml"
        values.write_text(
            "\n".join(f"# {text}\n{documents.dump(values)}" for text, values in _values(workload))
        )
    except OSError as error:
        raise ConfigurationError(f"--output: {folder}: {error.strerror}") from None
    return workload, values


def _chart(workload: Workload) -> dict[str, Any]:
    return {
        "apiVersion": "v2",
        "name": workload.name,
        "description": f"Headrace serves {workload.source}",
        "type": "application",
        "version": "0.1.0",
        "appVersion": __version__,
    }


def _values(workload: Workload) -> Iterator[Section]:
    """The values in sections, each with a sentence about it."""
    yield from _what_runs(workload)
    yield from _how_it_is_reached(workload)
    yield from _how_it_lives(workload)


def _what_runs(workload: Workload) -> Iterator[Section]:
    options = workload.options
    yield (
        "Name of all objects; by default the name of the release.",
        {"name": ""},
    )
    yield (
        "The image, and what follows `headrace` in it.",
        {
            "image": workload.image,
            "imagePullPolicy": "IfNotPresent",
            "imagePullSecrets": [],
            "args": workload.command,
        },
    )
    most = options.max_replicas or options.replicas
    yield (
        "Servers at least, and at most if they are scaled by the cores they use, in percent.",
        {
            "replicas": options.replicas,
            "autoscaling": {
                "enabled": most > options.replicas,
                "maxReplicas": most,
                "cpuUtilization": 70,
            },
            "podDisruptionBudget": {"enabled": True, "maxUnavailable": 1},
        },
    )
    yield (
        "What each server gets. The default for memory is a guess from the size of the models.",
        {"resources": workload.resources},
    )
    yield (
        "Variables of the server: any setting of docs/reference/settings.md, as HEADRACE_NAME.",
        {
            "env": {each["name"]: each["value"] for each in pod.env(_variables(workload))},
            "envFromSecrets": list(options.secrets),
        },
    )
    yield (
        "Secrets with keys and certificates, and the folders where the variables look for them.",
        {
            "files": [
                {"secret": mounted_files.secret(workload, each), "folder": each.path}
                for each in mounted_files.folders(workload)
            ]
        },
    )


def _how_it_is_reached(workload: Workload) -> Iterator[Section]:
    settings = workload.settings
    yield (
        "Ports, of the container and of the Service. The metrics are at the one of HTTP too.",
        {
            "ports": {
                "http": settings.http_port,
                "grpc": settings.grpc_port,
                "metrics": settings.metrics_port,
            },
            "service": {"type": "ClusterIP"},
        },
    )
    yield (
        "Objects for the Prometheus operator, and a ConfigMap for Grafana's sidecar.",
        {
            "metrics": {
                "path": workload.metrics_path or "/metrics",
                "scheme": "http" if settings.ssl_certfile is None else "https",
                "tlsConfig": {},
                "interval": "15s",
                "serviceMonitor": False,
                "prometheusRule": False,
                "dashboard": False,
            }
        },
    )


def _how_it_lives(workload: Workload) -> Iterator[Section]:
    yield (
        "Seconds: of the wait before SIGTERM, while requests still arrive; in which the server is\n"
        "# not ready but takes requests; in which those in flight may finish; and until SIGKILL.",
        {
            "drain": {
                "preStop": PRE_STOP,
                "delay": math.ceil(workload.drain_delay),
                "timeout": math.ceil(workload.settings.drain_timeout),
                "margin": MARGIN,
            }
        },
    )
    yield (
        "It is live as soon as it listens, and ready when all of its models are.",
        {"probes": pod.probes("http", workload.settings)},
    )
    yield (
        "The pods.",
        {
            "securityContext": pod.SECURITY,
            "serviceAccountName": "",
            "podLabels": {},
            "podAnnotations": {},
            "nodeSelector": {},
            "tolerations": [],
            "affinity": {},
        },
    )


def _variables(workload: Workload) -> dict[str, str]:
    named = workload.own_variables()
    own = {name: value for name, value in named.items() if not name.endswith(DERIVED)}
    given = workload.options.env.items()
    return {**own, **{name: value for name, value in given if name not in named or name in own}}
