"""Finds the served model for a request."""

from __future__ import annotations

from typing import Protocol

from headrace.errors import InvalidInput, NotFound, listing
from headrace.repository.repository import ModelRepository
from headrace.serving.served_model import ServedModel


class Speaker(Protocol):
    """What a protocol knows about models, for requests that name none."""

    # How a request names a model, and the error if there is none.
    named_at: str
    absent: str

    def speaks(self, model: ServedModel) -> bool:
        """Whether the model can be called in this protocol."""

    def prefers(self, model: ServedModel) -> bool:
        """Whether the model takes precedence over others that can be called too."""


class Resolver:
    """Finds models by name and version, or the only one that speaks a protocol.

    Anything beyond the request itself that selects a model, such as a traffic split, goes here.
    """

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository

    def find(self, name: str | None, version: str | None, protocol: Speaker) -> ServedModel:
        """The model that a request names; without a name, the only one of its protocol. Hot.

        Raises:
            NotFound: no model of that name or version is configured, or none speaks the protocol.
            ModelNotReady: the one that is preferred has not loaded, or none speaks the protocol yet
                and one that has not loaded may.
            InvalidInput: several speak it; the message says where to name one.
        """
        if name is not None:
            return self._repository.get(name, version)
        return self._only(protocol)

    def _only(self, protocol: Speaker) -> ServedModel:
        wanted = [model for model in self._repository.models() if model.wanted]
        waiting = [model for model in wanted if not model.has_loaded]
        # Which protocols a model speaks is known only once it is loaded.
        speaking = [model for model in wanted if model.has_loaded and protocol.speaks(model)]
        # Which is preferred is known before: another model must not answer for it meanwhile.
        preferred = [model for model in [*speaking, *waiting] if protocol.prefers(model)]
        names = sorted({model.name for model in preferred or speaking})
        if len(names) > 1:
            raise InvalidInput(
                f"several models are served ({listing(names)}); name one with {protocol.named_at}"
            )
        meant = self._repository.get(names[0]) if names else next(iter(waiting), None)
        if meant is None:
            raise NotFound(protocol.absent)
        if not meant.has_loaded:
            raise meant.not_ready(meant.why_not_ready())
        return meant
