"""A folder of models, one model's folder, or one settings file.

Reads `model-settings.json` files and looks for `MLmodel`; opens nothing else but the build file of
a folder without models.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from shlex import quote

from headrace.environments import yaml_file
from headrace.errors import ConfigurationError, InvalidModel, listing, shorten
from headrace.sources.model_file import (
    SETTINGS_FILE,
    FoundModel,
    check_variables,
    faulty_model,
    model_of_environment,
    read_model,
)
from headrace.sources.names import checked_name, name_of_folder
from headrace.sources.source import Source, logger, refuse_twins

# These say what a service and its bundle are made of. The first one that exists counts.
BUILD_FILES = ("headrace.yaml", "headrace.yml", "bentofile.yaml", "bentofile.yml", "vtsfile.yaml")

NOTHING = f"there is no {SETTINGS_FILE} in it or below it, and no MLmodel in it"
# Folders that are looked at for MLflow models, and models that are counted.
MOST_SEARCHED, MOST_NAMED = 10_000, 100


class FolderSource(Source):
    """The models whose settings files are in a folder or below it, or one without a file."""

    @property
    def moves(self) -> bool:
        """Folders of models come and go."""
        return True

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

    def read_each(self) -> list[FoundModel]:
        """As `read`, but of several files, those that are wrong stand for models with a fault."""
        files = self._files()
        if self.name is not None or len(files) < 2:
            return self.read()
        # What is wrong with a variable is wrong with every model.
        check_variables(self.environ)
        named: dict[tuple[str, str | None], list[FoundModel]] = {}
        for model in map(self._described, files):
            key = model.settings.name, model.settings.version
            named.setdefault(key, []).append(model)
        return [self._only(models) for models in named.values()]

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

    def _described(self, file: Path) -> FoundModel:
        try:
            return read_model(file, self.environ, alone=False)
        except (ConfigurationError, OSError) as error:
            reason = error.message if isinstance(error, ConfigurationError) else error.strerror
            # Clients see it too, and need not know where the server's files are.
            fault = str(reason).replace(f"{Path(self.place)}{os.sep}", "")
            return faulty_model(name_of_folder(file.parent), str(file.parent.resolve()), fault)

    def _only(self, models: list[FoundModel]) -> FoundModel:
        """The one of several models of one name and version that is served.

        Of two that are right, nobody can know which is meant; one that is wrong is named after its
        folder, which may be the name of another.
        """
        right = [model for model in models if not model.settings.fault]
        if len(right) > 1:
            first = right[0].settings
            folders = [os.path.relpath(each.settings.folder, self.place) for each in right]
            version = f"version {first.version}" if first.version else "without a version"
            fault = f"model '{first.name}' {version} is in several folders: {listing(folders)}"
            return replace(right[0], settings=replace(first, fault=fault))
        for model in models if right else models[1:]:
            if model.settings.fault:
                logger.error("a model is left out: %s", model.settings.fault)
        return right[0] if right else models[0]

    def nothing(self) -> str:
        """What was looked for and what is there."""
        path = Path(self.place)
        inside = sorted(entry.name for entry in os.scandir(path)) if path.is_dir() else []
        there = f"it holds {listing(inside, 5)}" if inside else "it is empty"
        return f"no model found in '{shorten(self.place)}': {NOTHING}; {there}"

    def _files(self) -> list[Path]:
        path = Path(self.place)
        if self.appears and not path.exists():
            return []
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
        self._refuse_service(path)
        self._refuse_runs(path)
        if self.name is not None or path.is_file():
            raise ConfigurationError(
                f"MODEL '{self.place}' is neither an MLflow model (a folder with an MLmodel file) "
                f"nor a folder with {SETTINGS_FILE} in or below it{_of_file(path)}"
            )
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

    def _refuse_runs(self, path: Path) -> None:
        """Name the MLflow models below a folder that is none itself, such as `mlruns`.

        Raises:
            ConfigurationError: there are some.
        """
        found = list(islice(_mlflow_folders(path), MOST_NAMED))
        if not found:
            return
        newest = max(found, key=lambda folder: (folder / "MLmodel").stat().st_mtime)
        if len(found) == 1:
            models = "is 1 MLflow model; it"
        elif len(found) < MOST_NAMED:
            models = f"are {len(found)} MLflow models; the newest"
        else:
            models = f"are {len(found)} or more MLflow models; the newest"
        raise ConfigurationError(
            f"MODEL '{shorten(self.place)}' is not a model: {NOTHING}. Below it {models} "
            f"is served by: headrace serve {quote(str(newest))}"
        )

    def _renamed(self, model: FoundModel, name: str) -> FoundModel:
        settings = replace(model.settings, name=checked_name(name, "--name"))
        return replace(model, settings=settings, origins={**model.origins, "name": "--name"})


def _mlflow_folders(path: Path) -> Iterator[Path]:
    """The folders with an `MLmodel` below a folder; a folder that holds a disk is not searched."""
    for count, (folder, inner, files) in enumerate(os.walk(path)):
        if count >= MOST_SEARCHED:
            return
        if "MLmodel" in files:
            inner.clear()
            yield Path(folder)


def _of_file(path: Path) -> str:
    """How a single file is served, if it is one."""
    if not path.is_file():
        return ""
    settings = {
        "name": name_of_folder(Path(path.stem)),
        "implementation": "...",
        "parameters": {"uri": f"./{path.name}"},
    }
    return (
        f"; a file is served by a {SETTINGS_FILE} in its folder that names its runtime, such as "
        f"sklearn, xgboost or onnx: {json.dumps(settings)}"
    )
