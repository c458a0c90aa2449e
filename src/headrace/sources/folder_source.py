"""A folder of models, one model's folder, or one settings file.

Reads `model-settings.json` files and looks for `MLmodel`; opens nothing else but the build file of
a folder without models.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from headrace.environments import yaml_file
from headrace.errors import ConfigurationError, InvalidModel, shorten
from headrace.sources.model_file import (
    SETTINGS_FILE,
    FoundModel,
    model_of_environment,
    read_model,
)
from headrace.sources.names import checked_name, name_of_folder
from headrace.sources.source import Source, logger, refuse_twins

# Say what a service and its bundle are made of. The first one there is counts.
BUILD_FILES = ("headrace.yaml", "headrace.yml", "bentofile.yaml", "bentofile.yml", "vtsfile.yaml")


class FolderSource(Source):
    """The models whose settings files are in a folder or below it, or one without a file."""

    def read(self) -> list[FoundModel]:
        """One model per settings file; if there is none, the model in the folder itself."""
        files = self._files()
        if not files:
            return self._without_files()
        models = [read_model(file, self.environ, len(files) == 1) for file in files]
        if self.name is not None:
            if len(models) > 1:
                raise ConfigurationError(
                    f"--name names one model, but '{self.place}' holds {len(models)}"
                )
            models = [self._renamed(models[0], self.name)]
        refuse_twins(models)
        return models

    def read_those_named(self, name: str) -> list[FoundModel]:
        """The models that can be read.

        Raises:
            ConfigurationError, OSError: one that has that name, or may have it, cannot be read.
        """
        files = self._files()
        if self.name is not None or not files:
            return self.read()
        models = []
        wrong: Exception | None = None
        for file in files:
            try:
                models.append(read_model(file, self.environ, len(files) == 1))
            except (ConfigurationError, OSError) as exc:
                logger.warning("skipped a model: %s", exc)
                if file.parent.name == name:
                    raise
                wrong = exc
        if wrong is not None and not any(model.settings.name == name for model in models):
            raise wrong
        return models

    def _files(self) -> list[Path]:
        path = Path(self.place)
        if not path.exists():
            raise ConfigurationError(
                f"MODEL '{self.place}' does not exist; expected a folder, a URI, the tag of a "
                "stored model or a bundle, or a service such as service.py:svc"
            )
        if path.is_dir():
            # The walk below silently skips what it may not read.
            os.scandir(path).close()
        if path.is_file():
            file = path.parent / SETTINGS_FILE
            return [file] if file.is_file() else []
        if (path / "MLmodel").is_file() and not (path / SETTINGS_FILE).is_file():
            return []
        return sorted(file for file in path.rglob(SETTINGS_FILE) if file.is_file())

    def _without_files(self) -> list[FoundModel]:
        path = Path(self.place)
        folder = (path.parent if path.is_file() else path).resolve()
        model = model_of_environment(folder, self.environ, self.name, name_of_folder(folder))
        if model is not None:
            return [model]
        if self.name is not None or path.is_file():
            raise ConfigurationError(
                f"MODEL '{self.place}' is neither an MLflow model (a folder with an MLmodel file) "
                f"nor a folder with {SETTINGS_FILE} in or below it"
            )
        self._refuse_service(path)
        return []

    def _refuse_service(self, path: Path) -> None:
        """Explain how a service is served, where there is the build file of one and no model.

        Raises:
            ConfigurationError: there is one.
        """
        for name in BUILD_FILES:
            with suppress(InvalidModel):
                service = yaml_file.read(path / name).get("service")
                if isinstance(service, str) and service not in yaml_file.NULLS:
                    raise ConfigurationError(
                        f"MODEL '{self.place}' is the folder of a service, and has no model: in "
                        f"that folder, `headrace serve {shorten(service)}` serves it, and "
                        "`headrace build` packs it"
                    )

    def _renamed(self, model: FoundModel, name: str) -> FoundModel:
        settings = replace(model.settings, name=checked_name(name, "--name"))
        return replace(model, settings=settings, origins={**model.origins, "name": "--name"})
