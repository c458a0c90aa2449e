"""What following means for one model: the key `follow` of its settings, or `--follow`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

import msgspec

from headrace.errors import ConfigurationError, shorten
from headrace.settings import ModelSettings

_URI = re.compile(r"models:/+(?P<name>[^/@]+)(?P<selector>@[^/]+|/[^/]+)?")


class Follow(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which version of a registered model is served, and how the server moves to another one."""

    stable: Annotated[
        str | None,
        msgspec.Meta(
            description="what decides the version: @alias, a stage, or latest; by default what the "
            "uri names"
        ),
    ] = None
    keep: Annotated[
        float,
        msgspec.Meta(ge=0, description="seconds that the version before stays loaded after a move"),
    ] = 60.0


class Followed:
    """One model that is followed: the registered model, and what selects its version.

    Raises:
        ConfigurationError: its uri names no registered model, or one version for good.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self.follow = msgspec.convert(settings.follow, Follow)
        found = _URI.fullmatch(settings.uri)
        if found is None:
            raise ConfigurationError(
                f"model '{settings.name}' cannot be followed: its uri is "
                f"'{shorten(settings.uri)}', and models:/NAME@ALIAS is what the registry knows"
            )
        self.registered = found["name"]
        selector = self.follow.stable or (found["selector"] or "").removeprefix("/")
        if not selector or selector.isdecimal():
            raise ConfigurationError(
                f"model '{settings.name}' cannot be followed: '{shorten(settings.uri)}' names "
                f"{'one version' if selector else 'no version'}; name what moves, such as "
                f"models:/{self.registered}@champion"
            )
        self.stable = selector

    def pinned(self, version: str) -> ModelSettings:
        """The settings of one version."""
        return replace(self.settings, uri=f"models:/{self.registered}/{version}", version=version)


def marked(models: Iterable[ModelSettings]) -> list[ModelSettings]:
    """The models, with those marked that `--follow` is for: what their uri names may move."""
    return [
        replace(model, follow={}) if model.follow is None and _may_move(model.uri) else model
        for model in models
    ]


def followed(models: Iterable[ModelSettings]) -> list[ModelSettings]:
    """The models that a server starts with, marked as by `marked`.

    Raises:
        ConfigurationError: `--follow` is for none of them.
    """
    found = marked(models)
    if found and all(model.follow is None for model in found):
        raise ConfigurationError(
            "--follow is for models of a registry, such as models:/wine@champion, and no model "
            "here is one"
        )
    return found


def _may_move(uri: str) -> bool:
    found = _URI.fullmatch(uri)
    selector = (found["selector"] or "").lstrip("/") if found is not None else ""
    return bool(selector) and not selector.isdecimal()
