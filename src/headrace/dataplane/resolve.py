"""Finds the served model for a request."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from headrace.dataplane.call import Call
from headrace.dataplane.visible_models import VisibleModels
from headrace.errors import InvalidInput, ModelNotReady, NotFound, listing
from headrace.repository.repository import ModelRepository
from headrace.rollouts.traffic import Traffic
from headrace.serving.served_model import ServedModel

# The header, or the key of gRPC's metadata, with which a request names a version of a followed
# model, and an answer says which one it is from.
VERSION_HEADER = "x-model-version"


class Speaker(Protocol):
    """What a protocol knows about models, for requests that name none."""

    # How a request names a model, and the error if there is none.
    named_at: str
    absent: str
    # Whether canaries get requests of this protocol.
    reaches_canaries: bool

    def speaks(self, model: ServedModel) -> bool:
        """Whether the model can be called in this protocol."""

    def prefers(self, model: ServedModel) -> bool:
        """Whether the model takes precedence over others that can be called too."""


class Resolver:
    """Finds models by name and version, or the only one that speaks a protocol.

    `traffic` says how the requests for each followed model are divided among its versions.
    """

    def __init__(
        self,
        repository: ModelRepository | VisibleModels,
        traffic: Mapping[str, Traffic] = MappingProxyType({}),
    ) -> None:
        self._repository = repository
        self._traffic = traffic

    def find(
        self, name: str | None, version: str | None, protocol: Speaker, call: Call | None = None
    ) -> ServedModel:
        """The model that a request names; without a name, the only one of its protocol. Hot.

        With a `call`, the version of a followed model may be its canary, which the call says then.

        Raises:
            NotFound: no model of that name or version is configured, or none speaks the protocol.
            ModelNotReady: the one that is preferred has not loaded, or none speaks the protocol yet
                and one that has not loaded may.
            InvalidInput: several speak it; the message says where to name one.
        """
        model = self._only(protocol) if name is None else self._repository.get(name, version)
        if self._traffic and call is not None and protocol.reaches_canaries:
            return self._divided(model, version, call)
        return model

    def get(self, name: str, version: str | None, call: Call) -> ServedModel:
        """As `find`, where every request names its model. Hot.

        Raises:
            NotFound: no model of that name or version is configured.
        """
        model = self._repository.get(name, version)
        return self._divided(model, version, call) if self._traffic else model

    def _divided(self, model: ServedModel, version: str | None, call: Call) -> ServedModel:
        """The version that answers a call, if the model that its request names is followed."""
        traffic = self._traffic.get(model.name)
        if traffic is None:
            return model
        call.traffic = traffic
        if version is not None:
            return model
        asked = call.header(VERSION_HEADER)
        if asked is not None:
            return self._repository.get(model.name, asked)
        call.given = model
        canary = traffic.choose(call)
        # One that is not ready has just been unloaded.
        if canary is None or not canary.is_ready:
            return model
        if not self._repository.is_ready(canary):
            call.given = None
            traffic.failed(canary, ModelNotReady.kind)
            return model
        call.given, call.for_canary = canary, True
        return canary

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
