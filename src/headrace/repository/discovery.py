"""From the MODEL argument of the command line to the models it names.

Reads `model-settings.json` files and looks for `MLmodel`; never opens anything else.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from headrace.errors import ConfigurationError
from headrace.repository.artifacts import is_uri
from headrace.settings import MIB, ModelSettings

MLFLOW_RUNTIME = "headrace.runtimes.mlflow:MLflowRuntime"
SETTINGS_FILE = "model-settings.json"
LARGEST_SETTINGS = 1 * MIB

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class ModelParameters(msgspec.Struct):
    """The `parameters` of a `model-settings.json`."""

    uri: str | None = None
    version: str | None = None
    content_type: str | None = None
    extra: dict[str, Any] = {}


class ModelSettingsFile(msgspec.Struct):
    """A `model-settings.json` as MLServer and its users write it; unknown keys are ignored."""

    implementation: str
    name: str = ""
    platform: str = ""
    inputs: list[dict[str, Any]] = []
    outputs: list[dict[str, Any]] = []
    max_batch_size: int | None = None
    max_batch_time: float = 0.0
    parallel_workers: int | None = None
    instances: int = 1
    infer_timeout: float | None = None
    parameters: ModelParameters = msgspec.field(default_factory=ModelParameters)


def discover(model: str, name: str | None = None) -> list[ModelSettings]:
    """The models that a path or URI stands for; `name` overrides the name of a single one.

    Raises:
        ConfigurationError: nothing servable is there, or a settings file is wrong.
    """
    if is_uri(model):
        return [_mlflow(model, name or _name_of_uri(model))]
    path = Path(model)
    if not path.exists():
        raise ConfigurationError(f"MODEL '{model}' does not exist; expected a folder or a URI")
    folder = path.parent if path.is_file() else path
    files = [folder / SETTINGS_FILE] if path.is_file() else sorted(folder.rglob(SETTINGS_FILE))
    files = [file for file in files if file.is_file()]
    if (folder / "MLmodel").is_file() and folder / SETTINGS_FILE not in files:
        return [_mlflow(str(folder.resolve()), name or _name_of_folder(folder.resolve()))]
    if not files:
        raise ConfigurationError(
            f"MODEL '{model}' is neither an MLflow model (a folder with an MLmodel file) "
            f"nor a folder with {SETTINGS_FILE} in it or below"
        )
    models = [_read(file) for file in files]
    if name is not None:
        if len(models) > 1:
            raise ConfigurationError(f"--name names one model, but '{model}' holds {len(models)}")
        models = [replace(models[0], name=_checked(name, "--name"))]
    _refuse_twins(models, files)
    return models


def _read(file: Path) -> ModelSettings:
    if file.stat().st_size > LARGEST_SETTINGS:
        raise ConfigurationError(f"{file}: larger than {LARGEST_SETTINGS} bytes")
    try:
        raw = msgspec.json.decode(file.read_bytes(), type=ModelSettingsFile)
    except msgspec.DecodeError as exc:
        raise ConfigurationError(f"{file}: {exc}") from exc
    folder = file.parent.resolve()
    parameters = raw.parameters
    return ModelSettings(
        name=_checked(raw.name or folder.name, f"{file}: name"),
        implementation=raw.implementation,
        uri=_resolve(parameters.uri, folder),
        version=parameters.version,
        folder=str(folder),
        platform=raw.platform,
        content_type=parameters.content_type,
        inputs=raw.inputs,
        outputs=raw.outputs,
        extra=parameters.extra,
        # MLServer writes 0 for "no batching"; 1 row at a time is the same thing.
        max_batch_size=raw.max_batch_size,
        max_batch_time=raw.max_batch_time,
        instances=raw.instances,
        inline=raw.parallel_workers is not None and raw.parallel_workers <= 0,
        infer_timeout=raw.infer_timeout,
    )


def _resolve(uri: str | None, folder: Path) -> str:
    if uri is None:
        return str(folder)
    if is_uri(uri):
        return uri
    return str((folder / uri).resolve())


def _mlflow(uri: str, name: str) -> ModelSettings:
    return ModelSettings(
        name=_checked(name, "--name"), implementation=MLFLOW_RUNTIME, uri=uri, folder=""
    )


def _name_of_uri(uri: str) -> str:
    parts = urlsplit(uri)
    segments = [part for part in (parts.netloc + "/" + parts.path).split("/") if part]
    if parts.scheme == "models" and segments:
        return _clean(segments[0].partition("@")[0])
    return _name_of_folder(Path("/", *segments))


def _name_of_folder(folder: Path) -> str:
    # MLflow 3 keeps a logged model in m-<id>/artifacts, and the id is the better name.
    last = folder.parent.name if folder.name == "artifacts" else folder.name
    return _clean(last)


def _clean(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-")[:128] or "model"


def _checked(name: str, where: str) -> str:
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{where}: '{name}' is not a model name; use letters, digits, '_', '.' and '-', "
            "128 at most, the first a letter, digit or '_'"
        )
    return name


def _refuse_twins(models: list[ModelSettings], files: list[Path]) -> None:
    seen: dict[tuple[str, str | None], Path] = {}
    for model, file in zip(models, files, strict=True):
        other = seen.setdefault((model.name, model.version), file)
        if other is not file:
            raise ConfigurationError(
                f"{file}: model '{model.name}' version {model.version} is also in {other}"
            )
