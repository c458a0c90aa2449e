"""Seldon Core 2: a server of the type `mlserver` with our image, and a model for it.

Source: `Server` and `Model` (v1alpha1) of Seldon Core 2, and its server configuration `mlserver`,
which has the containers of Seldon's own that a `ServerConfig` of ours would have to repeat.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from headrace.deploy import pod
from headrace.deploy.documents import Manifest
from headrace.deploy.workload import OWN_FORMAT, TRACKED, Options, Workload, find
from headrace.errors import ConfigurationError, shorten
from headrace.platform_table import named
from headrace.runtimes.catalog import RUNTIMES
from headrace.settings import MIB
from headrace.sources.names import is_uri

# The configuration, and the container in it that is replaced.
CONFIG = CONTAINER = "mlserver"
# Of that configuration's list, what we serve; the rest of our formats is added to it.
KNOWN = ("huggingface", "lightgbm", "mlflow", "python", "sklearn", "xgboost")


def manifests(source: str, options: Options) -> tuple[Workload, list[Manifest]]:
    """What Seldon needs to serve SOURCE.

    Raises:
        ConfigurationError: SOURCE is not one model, or Seldon cannot fetch it.
    """
    if options.storage_uri is None and is_uri(source) and "://" in source:
        options = replace(options, storage_uri=source)
    place = options.storage_uri or ""
    if place.lower().startswith(TRACKED):
        raise ConfigurationError(
            f"Seldon's agent fetches models with rclone, which does not know "
            f"'{shorten(place)}'; give the place of its files with --storage-uri, such as "
            "s3://BUCKET/PATH"
        )
    workload = find(source, options, "seldon")
    _require_one_model(workload)
    _require_own_settings(workload)
    return workload, [_server(workload), _model(workload)]


def capabilities() -> list[str]:
    """What the server can serve beyond what the configuration lists."""
    names = (*(entry.name for entry in RUNTIMES), OWN_FORMAT)
    return [name for name in names if name not in KNOWN]


def _require_one_model(workload: Workload) -> None:
    if workload.kind in ("bundle", "service"):
        raise ConfigurationError(
            f"'{shorten(workload.source)}' is a {workload.kind}, and Seldon loads models only; "
            "`headrace deploy kserve` and `headrace deploy helm` run its image"
        )
    if len(workload.models) > 1:
        raise ConfigurationError(
            f"'{shorten(workload.source)}' holds {len(workload.models)} models, and a Model of "
            "Seldon's is one; give the folder of each"
        )
    if not workload.storage_uri:
        raise ConfigurationError(
            f"'{shorten(workload.source)}' is not where Seldon can fetch it: copy it to a store, "
            f"and give --storage-uri, such as s3://BUCKET/{workload.name}"
        )


def _require_own_settings(workload: Workload) -> None:
    """Refuse what the agent, which is in the same pod, does not know."""
    for name, expected in named("seldon").expects.items():
        given = getattr(workload.settings, name)
        if given != expected:
            raise ConfigurationError(
                f"{name} is {given}, but Seldon's agent relies on {expected}; leave it out"
            )
    if workload.settings.ssl_certfile is not None:
        raise ConfigurationError(
            "ssl_certfile: Seldon's agent, in the same pod, speaks no TLS to the server; leave it "
            "out"
        )
    if workload.settings.asks_for_keys:
        raise ConfigurationError(
            "api_keys_file and the settings of tokens: Seldon's agent, in the same pod, has no key "
            "to show; leave them out"
        )


def _server(workload: Workload) -> Manifest:
    # Ports, probes and mounts are those of the configuration.
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": workload.image,
        "args": ["serve"],
        "env": pod.env(
            {
                "HEADRACE_PLATFORM": "seldon",
                "HOME": "/tmp",
                "HEADRACE_HOME": "/tmp/headrace",
                **workload.options.env,
            }
        ),
        **pod.env_from(workload),
        "resources": workload.resources,
        "securityContext": pod.SECURITY,
        "volumeMounts": pod.mounts(workload),
    }
    options = workload.options
    return {
        "apiVersion": "mlops.seldon.io/v1alpha1",
        "kind": "Server",
        "metadata": {"name": workload.options.shared},
        "spec": {
            "serverConfig": CONFIG,
            "extraCapabilities": capabilities(),
            "replicas": options.replicas,
            **({"maxReplicas": options.max_replicas} if options.max_replicas else {}),
            "podSpec": {"containers": [container], "volumes": pod.volumes(workload)},
        },
    }


def _model(workload: Workload) -> Manifest:
    known = workload.loaded_size > 0
    return {
        "apiVersion": "mlops.seldon.io/v1alpha1",
        "kind": "Model",
        "metadata": {"name": workload.name},
        "spec": {
            "storageUri": workload.storage_uri,
            "server": workload.options.shared,
            "requirements": [workload.model_format],
            "replicas": workload.options.replicas,
            # What Seldon's scheduler counts against the memory of the server.
            **({"memory": f"{math.ceil(workload.loaded_size / MIB)}Mi"} if known else {}),
        },
    }
