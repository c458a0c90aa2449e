"""The platforms that run containers: what shows each, what it sets, and what it expects.

Sources: KServe's serving runtimes; Seldon Core 2's server configurations; Amazon SageMaker's "Use
your own inference code" and "Custom containers contract for multi-model endpoints"; Vertex AI's
"Custom container requirements"; Azure Machine Learning's "Deploy a custom container".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.sources.server_keys import ROOT

AUTO, NONE = "auto", "none"
# Set in the images that we build: only there does `auto` look around.
IN_CONTAINER = "HEADRACE_CONTAINER"
EVERYWHERE = {"host": "0.0.0.0"}

Given = dict[str, tuple[Any, str]]


@dataclass(frozen=True)
class Platform:
    """What one platform sets and mounts, and what it expects.

    `signs` are variables, of which any shows the platform; so does the folder `mount`. Its models
    are at the place in the variable `place`, else in the folder `models`, which `appears` later if
    it is not there at the start. `variables` are settings under the platform's names. It relies on
    the settings in `expects`; those in `suits` come after settings files.
    """

    name: str
    signs: tuple[str, ...] = ()
    mount: str = ""
    place: str = ""
    models: str = ""
    appears: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    expects: Mapping[str, Any] = field(default_factory=dict)
    suits: Mapping[str, Any] = field(default_factory=dict)

    def shown_by(self, environ: Mapping[str, str], root: Path) -> str:
        """The variable or the folder that shows the platform; "" if nothing does."""
        sign = next((name for name in self.signs if environ.get(name)), "")
        if not sign and self.mount and _below(root, self.mount).is_dir():
            return self.mount
        return sign


PLATFORMS = (
    Platform(
        "vertex",
        signs=("AIP_HTTP_PORT", "AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE"),
        place="AIP_STORAGE_URI",
        variables={
            "AIP_HTTP_PORT": "http_port",
            "AIP_HEALTH_ROUTE": "health_route",
            "AIP_PREDICT_ROUTE": "predict_route",
        },
        expects=EVERYWHERE,
    ),
    Platform("azure", signs=("AZUREML_MODEL_DIR",), place="AZUREML_MODEL_DIR", expects=EVERYWHERE),
    Platform(
        "sagemaker",
        signs=("SAGEMAKER_BIND_TO_PORT", "SAGEMAKER_MULTI_MODEL"),
        mount="/opt/ml/model",
        models="/opt/ml/model",
        variables={"SAGEMAKER_BIND_TO_PORT": "http_port", "SAGEMAKER_MULTI_MODEL": "allow_empty"},
        expects={**EVERYWHERE, "http_port": 8080},
        # SIGKILL comes 30 s after SIGTERM.
        suits={"drain_timeout": 25.0},
    ),
    Platform(
        "seldon",
        mount="/mnt/agent",
        place="MLSERVER_MODELS_DIR",
        models="/mnt/agent/models",
        appears=True,
        expects={
            **EVERYWHERE,
            "http_port": 9000,
            "grpc_port": 9500,
            "load_models_at_startup": False,
            "allow_empty": True,
            "allow_repository_api": True,
        },
    ),
    Platform(
        "kserve",
        mount="/mnt/models",
        place="MLSERVER_MODELS_DIR",
        models="/mnt/models",
        expects={**EVERYWHERE, "http_port": 8080, "grpc_port": 9000},
        # A pod gets requests until its removal is known everywhere, and SIGKILL after 30 s.
        suits={"drain_delay": 5.0, "drain_timeout": 20.0},
    ),
)
BY_NAME = {platform.name: platform for platform in PLATFORMS}
CHOICES = (AUTO, NONE, *sorted(BY_NAME))


@dataclass(frozen=True)
class Found:
    """The platform that this process runs on, if any, and what it sets.

    `origin` is what showed it. `given` are settings that come before files, and `suits` those that
    come after them, each with its origin. `reads` are the variables that were read.
    """

    platform: Platform | None = None
    origin: str = ""
    given: Given = field(default_factory=dict)
    suits: Given = field(default_factory=dict)
    reads: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.platform.name if self.platform is not None else NONE

    @property
    def model(self) -> str | None:
        """The MODEL where the command line names none; None if the platform names none either."""
        return str(self.given[ROOT][0]) if ROOT in self.given else None

    @property
    def model_appears(self) -> bool:
        """Whether a MODEL that does not exist will be put there later."""
        return self.platform is not None and self.platform.appears


NOWHERE = Found()


def find(given: str, origin: str, environ: Mapping[str, str], root: Path = Path("/")) -> Found:
    """The platform that was `given`; with `auto`, the one that shows in an image of ours.

    The port in `PORT` counts on all of them, as far as the platform has no other name for it.
    """
    platform = BY_NAME.get(given)
    in_container = bool(environ.get(IN_CONTAINER))
    if given == AUTO and in_container:
        shown = ((each, each.shown_by(environ, root)) for each in PLATFORMS)
        platform, origin = next(((each, by) for each, by in shown if by), (None, ""))
    port: Given = {}
    if in_container and environ.get("PORT"):
        port = {"http_port": (environ["PORT"], "PORT")}
    if platform is None:
        return Found(given=port)
    because = f"--platform {platform.name}"
    expected = {name: (value, because) for name, value in platform.expects.items()}
    from_variables = {
        name: (environ[variable], variable)
        for variable, name in platform.variables.items()
        if environ.get(variable)
    }
    return Found(
        platform,
        origin,
        {**expected, **port, **from_variables, **_model(platform, environ, root)},
        {name: (value, because) for name, value in platform.suits.items()},
        (*platform.variables, platform.place),
    )


def _model(platform: Platform, environ: Mapping[str, str], root: Path) -> Given:
    """The place of the platform's models: one that it names, or a folder with something in it."""
    if place := environ.get(platform.place):
        return {ROOT: (_only_model(place), platform.place)}
    if not platform.models:
        return {}
    folder = _below(root, platform.models)
    if platform.appears or next(_entries(folder), None) is not None:
        return {ROOT: (_only_model(str(folder)), platform.models)}
    return {}


def _only_model(place: str) -> str:
    """The only folder in a folder, if that is an MLflow model: archives often hold such a one."""
    folder = Path(place)
    entries = list(_entries(folder))
    if len(entries) == 1 and (folder / entries[0] / "MLmodel").is_file():
        return str(folder / entries[0])
    return place


def _entries(folder: Path) -> Iterator[str]:
    """The names in a folder, without those that the file system adds; none if it is no folder."""
    try:
        names = os.listdir(folder)
    except OSError:
        return iter(())
    return iter(sorted(name for name in names if name != "lost+found" and name[0] != "."))


def _below(root: Path, path: str) -> Path:
    return root / path.removeprefix("/")
