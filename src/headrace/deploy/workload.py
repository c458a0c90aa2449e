"""What SOURCE is: everything that a manifest says of it, whichever target the manifest is for."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace import __version__, configuration
from headrace.archives.walking import walk
from headrace.deploy import checks
from headrace.environments import yaml_file
from headrace.environments.mlflow_files import LARGEST_MLMODEL
from headrace.errors import ConfigurationError, HeadraceError, shorten
from headrace.packaging import dockerfile_syntax
from headrace.packaging.bundle_record import BundleInfo
from headrace.runtimes import artefact, catalog
from headrace.settings import ModelSettings, ServerSettings
from headrace.sources.artifacts import REGISTRY_VARIABLES
from headrace.sources.bundle_source import BundleSource
from headrace.sources.discovery import open_source, settings_folder
from headrace.sources.model_file import FoundModel
from headrace.sources.names import is_uri, name_of_folder, name_of_uri
from headrace.sources.service_source import ServiceSource
from headrace.sources.store_source import StoreSource
from headrace.sources.uri_source import UriSource
from headrace.store.kinds import BUNDLES, is_bundle
from headrace.store.store import Store

# An image with Headrace and the frameworks, but without models; docs/how-to/platforms.md has one.
PLAIN_IMAGE = f"headrace:{__version__}"
# The format of folders with settings files of ours, whatever their models are.
OWN_FORMAT = "headrace"
# Schemes whose URIs only MLflow's client understands, which has to know the tracking server.
TRACKED = ("models:", "runs:", "mlflow-artifacts:")
# Seconds that the pod still gets requests after its removal began.
PRE_STOP = 5
# Seconds between the end of the drain and SIGKILL.
MARGIN = 5
# A guess: GiB at least, one of which is for processes with a framework, and how models grow.
LEAST_MEMORY, GROWTH, GIB = 2, 3, 1024**3


@dataclass(frozen=True)
class Options:
    """What the flags of `headrace deploy` say; None leaves the choice to us."""

    name: str | None = None
    image: str | None = None
    storage_uri: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    cpu: str | None = None
    memory: str | None = None
    gpus: int = 0
    replicas: int = 1
    max_replicas: int | None = None
    # What models share: the name of KServe's runtime, or of Seldon's server.
    shared: str = "headrace"


@dataclass(frozen=True)
class Workload:
    """One server with its models, as a platform runs it.

    `kind` is `folder`, `model` (of the store), `bundle`, `service` or `uri`. The image holds what
    SOURCE is, unless the platform fetches it from `storage_uri`, or the server itself, which then
    gets it as an `argument`. `model_format` is the name of a runtime, or `headrace` for what only
    its own settings files describe; `format_version` is the first part of MLflow's version.
    `loaded_size` is a guess at the bytes that the models need in memory; 0 if nothing is known.
    """

    source: str
    kind: str
    name: str
    image: str
    image_given: bool
    storage_uri: str
    arguments: tuple[str, ...]
    models: tuple[str, ...]
    model_format: str
    format_version: str
    settings: ServerSettings
    drain_delay: float
    cpu: str
    memory: str
    loaded_size: int
    options: Options
    notes: tuple[str, ...] = ()

    @property
    def holds_models(self) -> bool:
        """Whether the image has to hold what is served."""
        return not self.storage_uri and not self.arguments

    @property
    def metrics_path(self) -> str | None:
        """The path of the metrics, on the HTTP port as well; None if they are off."""
        return self.settings.metrics_endpoint or None

    @property
    def command(self) -> list[str]:
        """What follows `headrace`."""
        return ["serve", *self.arguments]

    @property
    def grace_period(self) -> int:
        """Seconds from the decision to stop the server until it is killed."""
        return PRE_STOP + math.ceil(self.drain_delay + self.settings.drain_timeout) + MARGIN

    @property
    def resources(self) -> dict[str, dict[str, Any]]:
        """Requests and limits are equal, so that other pods cannot take what it needs."""
        amounts: dict[str, Any] = {"cpu": self.cpu, "memory": self.memory}
        if self.options.gpus:
            amounts["nvidia.com/gpu"] = self.options.gpus
        return {"requests": amounts, "limits": dict(amounts)}

    def own_variables(self, platform: str = "none") -> dict[str, str]:
        """The variables that make the server listen, and stop, as the manifest says."""
        settings = self.settings
        return {
            "HEADRACE_PLATFORM": platform,
            "HEADRACE_HOST": "0.0.0.0",
            "HEADRACE_HTTP_PORT": str(settings.http_port),
            "HEADRACE_GRPC_PORT": str(settings.grpc_port),
            **({"HEADRACE_METRICS_PORT": str(settings.metrics_port)} if self.metrics_path else {}),
            "HEADRACE_DRAIN_DELAY": f"{self.drain_delay:g}",
            "HEADRACE_DRAIN_TIMEOUT": f"{settings.drain_timeout:g}",
            # The one folder that a read-only root leaves.
            "HOME": "/tmp",
            "HEADRACE_HOME": "/tmp/headrace",
        }

    def variables(self, platform: str = "none") -> dict[str, str]:
        """All variables of the server; those of the command line come first."""
        return {**self.own_variables(platform), **self.options.env}


def find(source: str, options: Options, platform: str, keeps_home: bool = False) -> Workload:
    """What SOURCE is, for a server that runs on that platform.

    With `keeps_home`, what a server writes into its home is still there when it starts again.

    Raises:
        ConfigurationError: SOURCE is nothing that can be served, or a flag is wrong.
    """
    _check(source)
    resolved = configuration.resolve({"platform": platform}, options.env, settings_folder(source))
    if 0 in (resolved.settings.http_port, resolved.settings.grpc_port):
        raise ConfigurationError(
            "a manifest names the ports, and http_port or grpc_port is 0 for a free one; set both, "
            "such as --env HEADRACE_HTTP_PORT=8080 --env HEADRACE_GRPC_PORT=8081"
        )
    found = _described(source, options)
    loaded_size = GROWTH * sum(
        _size(model.settings) * max(1, model.settings.instances) for model in found.models
    )
    given_delay = resolved.origins["drain_delay"] not in ("default", f"--platform {platform}")
    image = options.image or (PLAIN_IMAGE if options.storage_uri else found.image)
    dockerfile_syntax.image_name(image, "--image")
    name = checks.name_from(found.title)
    if options.name is not None:
        name = checks.name(options.name, "--name")
    return Workload(
        source=source,
        kind=found.kind,
        name=name,
        image=image,
        image_given=options.image is not None,
        storage_uri=options.storage_uri or "",
        arguments=(source,) if found.kind == "uri" and not options.storage_uri else (),
        models=tuple(dict.fromkeys(model.settings.name for model in found.models)),
        model_format=_format(found.models),
        format_version=_mlflow_version(found.models),
        settings=resolved.settings,
        # The platform's own wait before SIGTERM takes the place of ours.
        drain_delay=resolved.settings.drain_delay if given_delay else 0.0,
        cpu=options.cpu or str(max(1, resolved.settings.parallel_workers)),
        memory=options.memory or f"{max(LEAST_MEMORY, math.ceil(1 + loaded_size / GIB))}Gi",
        loaded_size=loaded_size,
        options=options,
        notes=(*resolved.warnings, *_about_canaries(found.models, resolved.settings, keeps_home)),
    )


def _about_canaries(
    models: Sequence[FoundModel], settings: ServerSettings, keeps_home: bool
) -> list[str]:
    """What to set so that a container that is replaced goes on with the rollouts of the others."""
    if keeps_home or settings.follow_tags:
        return []
    names = [each.settings.name for each in models if (each.settings.follow or {}).get("canary")]
    return [
        f"model '{name}' has a canary: --env HEADRACE_FOLLOW_TAGS=true keeps the record of its "
        "rollout in the registry; otherwise each new container begins it again"
        for name in names
    ]


def require_tracking(workload: Workload) -> None:
    """Refuse a URI of MLflow's without the tracking server that the container has to ask.

    Raises:
        ConfigurationError: no variable and no Secret names it.
    """
    options = workload.options
    known = options.secrets or any(name in options.env for name in REGISTRY_VARIABLES)
    if workload.arguments and workload.source.lower().startswith(TRACKED) and not known:
        raise ConfigurationError(
            f"'{shorten(workload.source)}' is fetched from a tracking server when the container "
            "starts: name it with --env MLFLOW_TRACKING_URI=URL, or on Kubernetes with a Secret "
            "(--env-from)"
        )


@dataclass(frozen=True)
class _Described:
    kind: str
    title: str
    image: str
    models: Sequence[FoundModel] = ()


def _described(source: str, options: Options) -> _Described:
    try:
        opened = open_source(source, None, options.env)
        if isinstance(opened, BundleSource):
            return _bundle(source)
        models = opened.found()
    except ConfigurationError:
        raise
    except HeadraceError as error:
        raise ConfigurationError(f"SOURCE '{shorten(source)}': {error.message}") from error
    if not models:
        raise ConfigurationError(f"SOURCE: {opened.nothing()}")
    if isinstance(opened, UriSource):
        return _Described("uri", name_of_uri(source), PLAIN_IMAGE, models)
    settings = models[-1].settings
    if isinstance(opened, ServiceSource):
        return _Described("service", settings.name, _image(settings.name), models)
    if isinstance(opened, StoreSource):
        tag = f"{settings.name}:{settings.version}"
        return _Described("model", settings.name, tag, models)
    is_single = len({model.settings.name for model in models}) == 1
    title = settings.name if is_single else name_of_folder(Path(source).resolve())
    return _Described("folder", title, _image(title), models)


def bundle_folder(source: str) -> Path:
    """The folder of a bundle, which is named by it or by a tag."""
    folder = Path(source)
    return folder if is_bundle(folder) else Store(BUNDLES).get(source).path


def _bundle(source: str) -> _Described:
    info = BundleInfo.read(bundle_folder(source))
    return _Described("bundle", info.name, f"{info.name}:{info.version}")


def _image(title: str) -> str:
    """The name that `headrace dockerfile` proposes, as far as an image may have it."""
    return checks.name_from(title)


def _check(source: str) -> None:
    if not source.isprintable() or not source:
        raise ConfigurationError(f"SOURCE '{shorten(source)}' is empty or cannot be printed")
    if source.startswith("file:"):
        raise ConfigurationError(
            f"SOURCE '{shorten(source)}' is a file on this machine; give its path instead"
        )


def _format(models: Sequence[FoundModel]) -> str:
    """The one runtime of all models, if it needs no settings file; otherwise our own format."""
    names = {_runtime(model.settings) for model in models}
    name = names.pop() if len(names) == 1 else OWN_FORMAT
    return name if len(models) == 1 else OWN_FORMAT


def _runtime(settings: ModelSettings) -> str:
    entry = catalog.find(settings.implementation)
    if settings.implementation == catalog.MLFLOW.class_path:
        entry = catalog.MLFLOW
    return entry.name if entry is not None else OWN_FORMAT


def _mlflow_version(models: Sequence[FoundModel]) -> str:
    """The first part of the version of MLflow that logged the only model; "" if unknown."""
    if len(models) != 1:
        return ""
    place = artefact.folder_or_file(models[0].settings)
    file = Path(place) / "MLmodel"
    if is_uri(place) or not file.is_file():
        return ""
    try:
        version = yaml_file.read(file, LARGEST_MLMODEL).get("mlflow_version")
    except HeadraceError as error:
        raise ConfigurationError(f"SOURCE '{shorten(place)}': {error.message}") from error
    major = version.partition(".")[0] if isinstance(version, str) else ""
    return major if major.isdecimal() else ""


def _size(settings: ModelSettings) -> int:
    """The bytes of a model's files; 0 for what is not on this machine."""
    place = artefact.folder_or_file(settings)
    try:
        if os.path.isfile(place):
            return os.path.getsize(place)
        files = (os.path.join(folder, name) for folder, _, names in walk(place) for name in names)
        return sum(os.lstat(file).st_size for file in files)
    except OSError:
        return 0
