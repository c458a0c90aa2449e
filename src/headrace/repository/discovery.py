"""From the MODEL argument of the command line to the models it names, now and at every load.

Reads `model-settings.json` files and looks for `MLmodel`; never opens anything else.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from headrace.errors import ConfigurationError, LoadFailed, shorten
from headrace.repository.artifacts import is_uri
from headrace.repository.model_file import (
    SETTINGS_FILE,
    FoundModel,
    model_of_environment,
    model_of_plugin,
    model_of_uri,
    read_model,
)
from headrace.repository.names import checked_name, name_of_folder, name_of_uri
from headrace.repository.plugin_argument import PluginArgument
from headrace.settings import ModelSettings

logger = logging.getLogger("headrace.repository")


class Source:
    """The place models are found at: a folder, a settings file, or an MLflow URI.

    `name` overrides the name of a single model. `environ` fills in what files leave out.
    A `plugin` makes the place, whatever it is, the one model that the plugin loads. `packages`
    are what a single model needs installed besides what it says itself.
    """

    def __init__(
        self,
        model: str,
        name: str | None = None,
        environ: Mapping[str, str] | None = None,
        plugin: PluginArgument | None = None,
        packages: Sequence[str] = (),
    ) -> None:
        self._model = model
        self._name = name
        self._environ = environ or {}
        self._plugin = plugin
        self._packages = list(packages)

    def found(self) -> list[FoundModel]:
        """All models; none when the folder exists and holds none.

        Raises:
            ConfigurationError: the place does not exist or cannot be read, or what describes a
                model is wrong.
        """
        try:
            models = self._described()
        except OSError as exc:
            raise ConfigurationError(f"MODEL '{shorten(self._model)}': {exc.strerror}") from exc
        return [self._with_packages(models)] if self._packages else models

    def _described(self) -> list[FoundModel]:
        if self._plugin is not None:
            return [self._of_plugin(self._plugin)]
        if is_uri(self._model):
            return [self._of_uri()]
        files = self._files()
        if not files:
            return self._without_files()
        models = [read_model(file, self._environ, len(files) == 1) for file in files]
        if self._name is not None:
            if len(models) > 1:
                raise ConfigurationError(
                    f"--name names one model, but '{self._model}' holds {len(models)}"
                )
            models = [self._renamed(models[0])]
        _refuse_twins(models)
        return models

    def find(self, name: str) -> list[ModelSettings]:
        """The versions of one model as they are on disk now.

        What is wrong with the settings of another model is not this one's concern.

        Raises:
            LoadFailed: the model's own settings are wrong.
        """
        try:
            if is_uri(self._model) or self._name or self._plugin or self._packages:
                models = self.found()
            else:
                models = self._readable(name)
            wanted = [model for model in models if model.settings.name == name]
            _refuse_twins(wanted)
        except (ConfigurationError, OSError) as exc:
            logger.error("the settings of a model are wrong: %s", exc, extra={"model": name})
            raise LoadFailed(
                f"the settings of model '{name}' cannot be read; the server's log has the details"
            ) from exc
        return [model.settings for model in wanted]

    def _readable(self, name: str) -> list[FoundModel]:
        files = self._files()
        if not files:
            return self._without_files()
        models = []
        wrong: Exception | None = None
        for file in files:
            try:
                models.append(read_model(file, self._environ, len(files) == 1))
            except (ConfigurationError, OSError) as exc:
                logger.warning("skipped a model: %s", exc)
                if file.parent.name == name:
                    raise
                wrong = exc
        if wrong is not None and not any(model.settings.name == name for model in models):
            raise wrong
        return models

    def _files(self) -> list[Path]:
        path = Path(self._model)
        if not path.exists():
            raise ConfigurationError(
                f"MODEL '{self._model}' does not exist; expected a folder or a URI"
            )
        if path.is_dir():
            # The walk below passes over what it may not read.
            os.scandir(path).close()
        if path.is_file():
            file = path.parent / SETTINGS_FILE
            return [file] if file.is_file() else []
        if (path / "MLmodel").is_file() and not (path / SETTINGS_FILE).is_file():
            return []
        return sorted(file for file in path.rglob(SETTINGS_FILE) if file.is_file())

    def _of_plugin(self, plugin: PluginArgument) -> FoundModel:
        uri = self._model
        if is_uri(uri):
            return model_of_plugin(plugin, uri, self._environ, self._name, name_of_uri(uri))
        path = Path(uri).resolve()
        if not path.exists():
            raise ConfigurationError(f"MODEL '{uri}' does not exist; expected a path or a URI")
        default = name_of_folder(path.with_suffix("") if path.is_file() else path)
        return model_of_plugin(plugin, str(path), self._environ, self._name, default)

    def _with_packages(self, models: list[FoundModel]) -> FoundModel:
        if len(models) != 1:
            raise ConfigurationError(
                f"--packages is for one model, but '{self._model}' holds {len(models)}"
            )
        (model,) = models
        environment = model.settings.environment
        packages = [*environment.get("packages", ()), *self._packages]
        settings = replace(model.settings, environment={**environment, "packages": packages})
        return replace(
            model, settings=settings, origins={**model.origins, "environment": "--packages"}
        )

    def _of_uri(self) -> FoundModel:
        return model_of_uri(self._model, self._environ, self._name, name_of_uri(self._model))

    def _without_files(self) -> list[FoundModel]:
        path = Path(self._model)
        folder = (path.parent if path.is_file() else path).resolve()
        model = model_of_environment(folder, self._environ, self._name, name_of_folder(folder))
        if model is not None:
            return [model]
        if self._name is not None or path.is_file():
            raise ConfigurationError(
                f"MODEL '{self._model}' is neither an MLflow model (a folder with an MLmodel file) "
                f"nor a folder with {SETTINGS_FILE} in it or below"
            )
        return []

    def _renamed(self, model: FoundModel) -> FoundModel:
        assert self._name is not None, "asked for only when there is one"
        settings = replace(model.settings, name=checked_name(self._name, "--name"))
        return replace(model, settings=settings, origins={**model.origins, "name": "--name"})


def _refuse_twins(models: list[FoundModel]) -> None:
    seen: dict[tuple[str, str | None], str] = {}
    for model in models:
        settings = model.settings
        other = seen.setdefault((settings.name, settings.version), settings.folder)
        if other is not settings.folder:
            version = f"version {settings.version}" if settings.version else "without a version"
            raise ConfigurationError(
                f"{settings.folder}: model '{settings.name}' {version} is also in {other}"
            )
