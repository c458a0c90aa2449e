"""The platforms that run containers: what shows each, what it sets, and what it expects.

Sources: KServe's serving runtimes; Seldon Core 2's server configurations; Amazon SageMaker's "Use
your own inference code" and "Custom containers contract for multi-model endpoints"; Vertex AI's
"Custom container requirements"; Azure Machine Learning's "Deploy a custom container".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AUTO, NONE = "auto", "none"
EVERYWHERE = {"host": "0.0.0.0"}


@dataclass(frozen=True)
class Platform:
    """What one platform sets and mounts, and what it expects.

    `signs` are variables, of which any shows the platform; so does the folder `mount`. Its models
    are at the place in the variable `place`, else in the folder `models`, which `appears` later if
    it is not there at the start. `variables` are settings under the platform's names. It relies on
    the settings in `expects`; those in `suits` come after settings files.

    `repeats_loads`: it may repeat a request to load or unload a model. `names_models`: it loads
    models from folders and under names of its own, with SageMaker's calls below `/models`.
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
    repeats_loads: bool = False
    names_models: bool = False

    def shown_by(self, environ: Mapping[str, str], root: Path) -> str:
        """The variable or the folder that shows the platform; "" if nothing does."""
        sign = next((name for name in self.signs if environ.get(name)), "")
        if not sign and self.mount and (root / self.mount.removeprefix("/")).is_dir():
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
        suits={"drain_timeout": 25.0, "trusted_folders": ("/opt/ml",)},
        names_models=True,
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
        repeats_loads=True,
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
CHOICES = (AUTO, NONE, *sorted(platform.name for platform in PLATFORMS))


def named(name: str) -> Platform:
    """The platform of that name; for `auto` and `none`, one that has nothing."""
    return next((each for each in PLATFORMS if each.name == name), Platform(NONE))
