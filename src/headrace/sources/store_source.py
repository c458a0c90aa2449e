"""The model in the store that a tag names, such as `wine:latest`."""

from __future__ import annotations

import re
from typing import Any

from headrace.errors import ConfigurationError, HeadraceError, InvalidModel, NotFound, listing
from headrace.settings import ModelSettings
from headrace.sources.model_file import FoundModel, model_of_store
from headrace.sources.source import Source
from headrace.store.kinds import MODELS
from headrace.store.store import Store
from headrace.store.stored_model import StoredModel
from headrace.store.tag import LATEST

# The modules of this package alone: importing another would run its code in the front process.
_OURS = re.compile(r"headrace\.[a-z_]+")


class StoreSource(Source):
    """One stored model. Without a version it is the latest, also when it is loaded again."""

    @property
    def moves(self) -> bool:
        """Whether what its tag names changes when another version is stored."""
        return self.place.lower().partition(":")[2] in ("", LATEST)

    @property
    def is_stored(self) -> bool:
        """It is."""
        return True

    def read(self) -> list[FoundModel]:
        """The model."""
        try:
            stored = StoredModel.of(Store(MODELS).get(self.place))
            values = settings_of(stored)
        except ConfigurationError:
            raise
        except NotFound as error:
            either = "" if is_stored(self.place) else "; there is no bundle of that name either"
            raise ConfigurationError(f"MODEL '{self.place}': {error.message}{either}") from error
        except HeadraceError as error:
            raise ConfigurationError(f"MODEL '{self.place}': {error.message}") from error
        return [model_of_store(values, self.environ, self.name, f"store {stored.tag}")]


def settings_of(stored: StoredModel) -> dict[str, Any]:
    """The fields of `ModelSettings` that a stored model's framework module gives it.

    Raises:
        InvalidModel: the module is none of ours, or gives something else.
    """
    module = stored.info.module
    if not module:
        raise InvalidModel(
            "no framework module saved it, so nothing says how it is served; a service can use its "
            "files"
        )
    if not _OURS.fullmatch(module):
        raise InvalidModel(
            f"it was saved with module '{module}', and only modules of headrace say how a model is "
            "served; a service can load it"
        )
    give = getattr(stored.framework_module(), "settings_of", None)
    if give is None:
        raise InvalidModel(f"module '{module}' does not say how its models are served")
    given = dict(give(stored))
    unknown = given.keys() - ModelSettings.__dataclass_fields__.keys()
    if unknown or "implementation" not in given:
        raise InvalidModel(f"module '{module}' gives wrong settings: {listing(sorted(unknown))}")
    return {"name": stored.tag.name, "version": stored.tag.version, **given}


def is_stored(place: str) -> bool:
    """Whether the store has a model of the name in a tag."""
    name, _, version = place.lower().partition(":")
    # A URI such as models:/wine@champion is never looked for.
    return "/" not in version and Store(MODELS).has(name)
