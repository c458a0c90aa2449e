"""An MLflow model folder as its `MLmodel` file describes it, for MLflow 1 to 3."""

from __future__ import annotations

import os
from typing import Any

from headrace.errors import InvalidModel, MissingDependency
from headrace.runtimes import artefact, catalog, import_path
from headrace.settings import ModelSettings

_LARGEST = 16 * 1024 * 1024


class MLflowFolder:
    """What `MLmodel` says, and the paths it gives inside the folder.

    Raises:
        InvalidModel: there is no readable `MLmodel`.
        MissingDependency: PyYAML is not installed.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        path = artefact.folder_or_file(settings)
        self.path = os.path.dirname(path) if os.path.basename(path) == "MLmodel" else path
        self.raw = _read(os.path.join(self.path, "MLmodel"), settings.name)
        self.flavors: dict[str, dict[str, Any]] = self.raw.get("flavors") or {}

    @property
    def pyfunc(self) -> dict[str, Any]:
        """The `python_function` flavor; empty when the model cannot be loaded by Python."""
        return self.flavors.get("python_function") or {}

    @property
    def task(self) -> str:
        """What MLflow says the model is made for, such as "agent/v1/responses"; often nothing."""
        metadata = self.raw.get("metadata")
        return str(metadata.get("task") or "") if isinstance(metadata, dict) else ""

    @property
    def is_agent(self) -> bool:
        """Whether it is one of MLflow's agents, or streams its answers as they do."""
        return self.task.startswith("agent/") or bool(self.pyfunc.get("streamable"))

    @property
    def takes_one_conversation(self) -> bool:
        """Whether MLflow's wrapper answers the first row of a table only, whatever it has."""
        return self.task.startswith("agent/")

    def signature(self) -> dict[str, Any] | None:
        """The signature as written, with `from_type_hint` if the model's code determined it."""
        raw = self.raw.get("signature")
        if not isinstance(raw, dict):
            return None
        signature = {key: raw.get(key) for key in ("inputs", "outputs", "params")}
        if self.raw.get("is_signature_from_type_hint") or raw.get("is_signature_from_type_hint"):
            signature["from_type_hint"] = True
        return signature

    def file(self, name: str) -> str:
        """Path of a file that a flavor names; it must be inside the folder.

        Raises:
            InvalidModel: it does not exist or points elsewhere.
        """
        root = os.path.realpath(self.path)
        path = os.path.realpath(os.path.join(root, name))
        if not path.startswith(root + os.sep) or not os.path.exists(path):
            raise InvalidModel("MLmodel names a model file that is not in the model's folder")
        return path

    def add_code(self) -> None:
        """Make the modules that were logged with the model importable."""
        for name in self.code_folders():
            import_path.put_first(os.path.join(self.path, name))

    def code_folders(self) -> list[str]:
        """The folders of modules that were logged with the model."""
        names = {flavor.get("code") for flavor in self.flavors.values() if isinstance(flavor, dict)}
        return sorted(name for name in names if isinstance(name, str))


def _read(path: str, name: str) -> dict[str, Any]:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"PyYAML is needed to read MLflow models: {catalog.MLFLOW.install}"
        ) from error
    try:
        if os.path.getsize(path) > _LARGEST:
            raise InvalidModel(f"model '{name}': its MLmodel file is over {_LARGEST} bytes")
        with open(path, encoding="utf-8") as file:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            raw = yaml.load(file, Loader=loader)
    except OSError as error:
        there = os.path.isdir(os.path.dirname(path))
        what = "its folder has no MLmodel file" if there else "its folder does not exist"
        raise InvalidModel(f"model '{name}': {what}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidModel(f"model '{name}': its MLmodel file is not valid YAML") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("flavors"), dict):
        raise InvalidModel(f"model '{name}': its MLmodel file lists no flavors")
    return raw
