"""A place that models come from, such as a folder or a URI; each kind is a class of its own."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from headrace.errors import ConfigurationError, LoadFailed, shorten
from headrace.settings import ModelSettings
from headrace.sources.model_file import FoundModel

logger = logging.getLogger("headrace.sources")


class Source(ABC):
    """Finds models, once when the server starts and again whenever one is loaded on request.

    `place` is the MODEL argument. `name` overrides the name of a single model. `environ` fills in
    what files leave out. `packages` are installed for a single model in addition to its own
    requirements.
    """

    def __init__(
        self,
        place: str,
        name: str | None = None,
        environ: Mapping[str, str] | None = None,
        packages: Sequence[str] = (),
    ) -> None:
        self.place = place
        self.name = name
        self.environ = environ or {}
        self.packages = list(packages)
        # Whether a place that does not exist is like one that is empty: it will be made later.
        self.appears = False
        # As `ServerSettings.trust`, for what is code before it is a model.
        self.trust = "any"
        self._told: set[str] = set()

    @property
    def moves(self) -> bool:
        """Whether there may be other models in the same place later."""
        return False

    @property
    def is_stored(self) -> bool:
        """Whether it is a model in the store."""
        return False

    def settings_folder(self) -> Path | None:
        """The folder whose `settings.json` counts, if there is one."""
        return Path(self.place) if os.path.isdir(self.place) else None

    @abstractmethod
    def read(self) -> list[FoundModel]:
        """All models as they are described now; none if the place exists and holds none.

        Raises:
            ConfigurationError, OSError: as `found`.
        """

    def read_each(self) -> list[FoundModel]:
        """All models; one whose description is wrong has a `fault` instead of an error."""
        return self.read()

    def read_those_named(self, name: str) -> list[FoundModel]:
        """At least the models of that name; errors in others may be passed over."""
        return self.read()

    def found(self) -> list[FoundModel]:
        """All models; none if the place exists and holds none.

        Raises:
            ConfigurationError: the place does not exist or cannot be read, or the description of
                a model is wrong.
        """
        models = self._surely(self.read)
        return [self._with_packages(models)] if self.packages else models

    def each(self) -> list[FoundModel]:
        """As `found`, but one of several models whose description is wrong has a `fault`."""
        return self.found() if self.packages else self._surely(self.read_each)

    def settings(self) -> list[ModelSettings]:
        """What to serve from the start; a model whose description is wrong will fail to load.

        Logs a warning for each word in the descriptions that has no effect.

        Raises:
            ConfigurationError: as `found`, but for a wrong description among several.
        """
        models = self.each()
        self._warn(models)
        return [model.settings for model in models]

    def nothing(self) -> str:
        """What to tell people where no model was found."""
        return f"no model found in '{shorten(self.place)}'"

    def find(self, name: str) -> list[ModelSettings]:
        """The versions of one model as they are described now.

        Raises:
            LoadFailed: the model's own settings are wrong.
        """
        try:
            models = self.found() if self.packages else self.read_those_named(name)
            wanted = [model for model in models if model.settings.name == name]
            refuse_twins(wanted)
        except (ConfigurationError, OSError) as exc:
            logger.error("the settings of a model are wrong: %s", exc, extra={"model": name})
            raise LoadFailed(
                f"the settings of model '{name}' cannot be read; the server's log has the details"
            ) from exc
        self._warn(wanted)
        return [model.settings for model in wanted]

    def _surely(self, read: Callable[[], list[FoundModel]]) -> list[FoundModel]:
        try:
            return read()
        except OSError as exc:
            raise ConfigurationError(f"MODEL '{shorten(self.place)}': {exc.strerror}") from exc

    def _warn(self, models: list[FoundModel]) -> None:
        """Tell each warning once, however often a model is loaded again."""
        for model in models:
            for warning in model.warnings:
                if warning not in self._told:
                    self._told.add(warning)
                    logger.warning("%s", warning, extra={"model": model.settings.name})

    def _with_packages(self, models: list[FoundModel]) -> FoundModel:
        if len(models) != 1:
            raise ConfigurationError(
                f"--packages is for one model, but '{self.place}' holds {len(models)}"
            )
        (model,) = models
        environment = model.settings.environment
        packages = [*environment.get("packages", ()), *self.packages]
        settings = replace(model.settings, environment={**environment, "packages": packages})
        origins = {**model.origins, "environment": "--packages"}
        return replace(model, settings=settings, origins=origins)


def refuse_twins(models: list[FoundModel]) -> None:
    """Refuse two models that have the same name and version.

    Raises:
        ConfigurationError: two models do; the message names both places.
    """
    seen: dict[tuple[str, str | None], str] = {}
    for model in models:
        settings = model.settings
        other = seen.setdefault((settings.name, settings.version), settings.folder)
        if other is not settings.folder:
            version = f"version {settings.version}" if settings.version else "without a version"
            raise ConfigurationError(
                f"{settings.folder}: model '{settings.name}' {version} is also in {other}"
            )
