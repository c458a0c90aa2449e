"""KServe: a runtime for models that KServe fetches, or an image that holds what it serves.

Source: `ClusterServingRuntime` (v1alpha1) and `InferenceService` (v1beta1) of KServe 0.20.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from headrace import configuration
from headrace.deploy import checks, mounted_files, pod
from headrace.deploy.documents import Manifest
from headrace.deploy.workload import (
    LEAST_MEMORY,
    OWN_FORMAT,
    Options,
    Workload,
    find,
    require_tracking,
)
from headrace.errors import ConfigurationError, shorten
from headrace.runtimes.catalog import RUNTIMES

CONTAINER = "kserve-container"
PLATFORM = "kserve"
PROTOCOLS = ("v1", "v2", "grpc-v2")
# What KServe's storage initializer fetches.
FETCHED = (
    *("s3://", "gs://", "pvc://", "https://", "http://", "hdfs://", "webhdfs://", "hf://"),
    *("oci://", "oci+native://", "oci+fetch://"),
)
# Versions by which an InferenceService may ask; other formats have none.
VERSIONS = {
    "mlflow": ("1", "2", "3"),
    "sklearn": ("0", "1"),
    "xgboost": ("1", "2", "3"),
    "lightgbm": ("3", "4"),
}
# Without it, KServe may choose Knative, which takes no preStop and no grace period.
STANDARD = {"serving.kserve.io/deploymentMode": "Standard"}


def manifests(source: str, options: Options) -> tuple[Workload, list[Manifest]]:
    """What KServe needs to serve SOURCE.

    Raises:
        ConfigurationError: SOURCE cannot be served so, or a flag is missing or wrong.
    """
    checks.without_templates(options.env)
    if options.storage_uri is None and source.startswith(FETCHED):
        options = replace(options, storage_uri=source)
    if options.storage_uri is not None and not options.storage_uri.startswith(FETCHED):
        raise ConfigurationError(
            f"--storage-uri: expected a URI that KServe fetches, which begins with one of "
            f"{', '.join(FETCHED)}, got '{shorten(options.storage_uri)}'"
        )
    workload = find(source, options, PLATFORM)
    require_tracking(workload)
    if not workload.storage_uri:
        _require_image(workload)
        return workload, [_service(workload, _own_container(workload))]
    if workload.kind in ("bundle", "service"):
        raise ConfigurationError(
            f"--storage-uri is for models, and a {workload.kind} is in its image; leave it out"
        )
    runtime = _shared(workload)
    _require_same_listeners(workload, runtime)
    return workload, [_runtime(runtime), _service(workload, _model(workload, runtime))]


def formats() -> Iterator[dict[str, Any]]:
    """What the runtime serves. It is never chosen for those who do not name it."""
    for name in (*(entry.name for entry in RUNTIMES), OWN_FORMAT):
        for version in VERSIONS.get(name, ("",)):
            yield {
                "name": name,
                **({"version": version} if version else {}),
                "autoSelect": False,
            }


def _require_image(workload: Workload) -> None:
    if workload.kind in ("folder", "model") and not workload.image_given:
        build = f"headrace build {shlex.quote(workload.source)}"
        raise ConfigurationError(
            f"'{shorten(workload.source)}' is on this machine, where KServe cannot fetch it: copy "
            f"it to a store and give --storage-uri (such as s3://BUCKET/{workload.name}), or put "
            f"it into an image (`{build} -t REGISTRY/{workload.name}:1`) and give --image"
        )


def _shared(workload: Workload) -> Workload:
    """What all models of the runtime share: nothing of this one but its image."""
    settings = configuration.resolve({"platform": PLATFORM}, {}, None).settings
    options = Options(shared=workload.options.shared)
    return replace(
        workload,
        settings=settings,
        options=options,
        drain_delay=0.0,
        cpu="1",
        memory=f"{LEAST_MEMORY}Gi",
    )


def _require_same_listeners(workload: Workload, runtime: Workload) -> None:
    for name in ("http_port", "grpc_port", "metrics_endpoint", "ssl_certfile", "ssl_ca_certs"):
        ours, theirs = (getattr(each.settings, name) for each in (workload, runtime))
        if ours != theirs:
            raise ConfigurationError(
                f"{name} is {ours or 'off'}, but it is {theirs or 'off'} for every model of the "
                "runtime: leave it out, or put the model into an image and give --image without "
                "--storage-uri"
            )


def _runtime(workload: Workload) -> Manifest:
    container = {
        "name": CONTAINER,
        "image": workload.image,
        "args": ["serve"],
        "env": [
            *pod.env(workload.own_variables(PLATFORM)),
            # KServe fills these in from the InferenceService.
            {"name": "HEADRACE_MODEL_NAME", "value": "{{.Name}}"},
            {"name": "HEADRACE_MODEL_IMPLEMENTATION", "value": "{{.Annotations.modelFormat}}"},
        ],
        **_container(workload),
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterServingRuntime",
        "metadata": {"name": workload.options.shared},
        "spec": {
            **_scraping(workload),
            "supportedModelFormats": list(formats()),
            "protocolVersions": list(PROTOCOLS),
            "containers": [container],
            "volumes": [pod.TMP_VOLUME],
        },
    }


def _service(workload: Workload, predictor: dict[str, Any]) -> Manifest:
    options = workload.options
    most = options.max_replicas or options.replicas
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": workload.name, "annotations": dict(STANDARD)},
        "spec": {
            "predictor": {
                "minReplicas": options.replicas,
                "maxReplicas": max(most, options.replicas),
                "timeout": math.ceil(workload.settings.infer_timeout),
                "terminationGracePeriodSeconds": workload.grace_period,
                **predictor,
            }
        },
    }


def _model(workload: Workload, runtime: Workload) -> dict[str, Any]:
    common = runtime.variables(PLATFORM)
    own = workload.variables(PLATFORM)
    variables = {name: value for name, value in own.items() if common.get(name) != value}
    known = workload.format_version in VERSIONS.get(workload.model_format, ())
    mounts, volumes = mounted_files.mounts(workload), mounted_files.volumes(workload)
    return {
        **({"volumes": volumes} if volumes else {}),
        "model": {
            "runtime": workload.options.shared,
            "modelFormat": {
                "name": workload.model_format,
                **({"version": workload.format_version} if known else {}),
            },
            "protocolVersion": "v2",
            "storageUri": workload.storage_uri,
            **({"env": pod.env(variables)} if variables else {}),
            **pod.env_from(workload),
            "resources": workload.resources,
            # KServe adds these to what the runtime has.
            **({"volumeMounts": mounts} if mounts else {}),
        },
    }


def _own_container(workload: Workload) -> dict[str, Any]:
    container = {
        "name": CONTAINER,
        "image": workload.image,
        "args": workload.command,
        "env": pod.env(workload.variables(PLATFORM)),
        **pod.env_from(workload),
        **_container(workload),
        "volumeMounts": pod.mounts(workload),
    }
    annotations = _scraping(workload)
    return {**annotations, "containers": [container], "volumes": pod.volumes(workload)}


def _container(workload: Workload) -> dict[str, Any]:
    return {
        # A port named h2c is one of gRPC to KServe; the first port is the Service's port 80.
        "ports": pod.ports(workload, "http1", "h2c"),
        "resources": workload.resources,
        **pod.probes(workload.settings.http_port, workload.settings),
        "lifecycle": pod.LIFECYCLE,
        "securityContext": pod.SECURITY,
        "volumeMounts": [pod.TMP_MOUNT],
    }


def _scraping(workload: Workload) -> dict[str, Any]:
    """Where KServe finds the metrics."""
    if workload.metrics_path is None:
        return {}
    return {
        "annotations": {
            "prometheus.kserve.io/port": str(workload.settings.http_port),
            "prometheus.kserve.io/path": workload.metrics_path,
        }
    }
