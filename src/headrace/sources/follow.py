"""What following means for one model: the key `follow` of its settings, or `--follow`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Annotated

import msgspec

from headrace.errors import ConfigurationError, shorten
from headrace.settings import ModelSettings

_URI = re.compile(r"models:/+(?P<name>[^/@]+)(?P<selector>@[^/]+|/[^/]+)?")


Percentage = Annotated[float, msgspec.Meta(gt=0, le=100)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Ratio = Annotated[float, msgspec.Meta(gt=0)]


class Sticky(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What in a request says who asks, so that the same caller always reaches the same version."""

    header: Annotated[
        str | None,
        msgspec.Meta(description="header, or key of gRPC's metadata, that names the caller"),
    ] = None
    field: Annotated[
        str | None,
        msgspec.Meta(
            description="member of the JSON body that names the caller, such as parameters.user; "
            "gRPC has parameters only"
        ),
    ] = None


class Canary(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The version that a part of the requests reaches, and how that part grows."""

    alias: Annotated[
        str, msgspec.Meta(description="what decides the version: @alias, a stage, or latest")
    ]
    percent: Annotated[
        Percentage | None,
        msgspec.Meta(description="percentage of the requests that reach it"),
    ] = None
    steps: Annotated[
        list[Percentage] | None,
        msgspec.Meta(
            description="percentages, one after the other, each for the time of bake; 100 promotes "
            "it in the end"
        ),
    ] = None
    bake: Annotated[
        float | str | None,
        msgspec.Meta(description="how long each step lasts: seconds, or such as 90s, 15m, 2h, 1d"),
    ] = None
    sticky: Annotated[
        Sticky | None,
        msgspec.Meta(description="what keeps a caller at one version: header or field"),
    ] = None

    @property
    def shares(self) -> list[float]:
        """The percentage of each step."""
        return self.steps or [self.percent or 0.0]

    @property
    def step_seconds(self) -> float | None:
        """Seconds that each step lasts; None if the first one is the only one."""
        return None if self.bake is None else seconds(self.bake)


class Shadow(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The version that gets copies of requests, and whose answers nobody sees."""

    alias: Annotated[
        str, msgspec.Meta(description="what decides the version: @alias, a stage, or latest")
    ]
    sample: Annotated[Share, msgspec.Meta(description="share of the requests that is copied")] = 1.0
    tolerance: Annotated[
        float,
        msgspec.Meta(ge=0, description="how far numbers may be apart, absolutely or relatively"),
    ] = 1e-6


class Rollback(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What ends a canary. Each limit is for the requests since its present step began."""

    min_requests: Annotated[
        int,
        msgspec.Meta(ge=1, description="requests of the canary before any limit applies"),
    ] = 100
    error_rate: Annotated[
        Share | None,
        msgspec.Meta(description="share of its requests that the canary may fail"),
    ] = 0.05
    p99_ratio: Annotated[
        Ratio | None,
        msgspec.Meta(
            description="99th percentile of its latency, as a multiple of that of the stable "
            "version"
        ),
    ] = None
    disagreement: Annotated[
        Share | None,
        msgspec.Meta(description="share of the compared answers that may differ; needs a shadow"),
    ] = None


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
        msgspec.Meta(
            ge=0, description="seconds that the previous version stays loaded after a move"
        ),
    ] = 60.0
    canary: Annotated[
        Canary | None, msgspec.Meta(description="a version that a part of the requests reaches")
    ] = None
    shadow: Annotated[
        Shadow | None, msgspec.Meta(description="a version that gets copies of requests")
    ] = None
    rollback: Annotated[Rollback, msgspec.Meta(description="what ends a canary")] = msgspec.field(
        default_factory=Rollback
    )


# MLflow's stages; any other word without an @ is an alias whose @ is missing, or a mistake.
_STAGES = frozenset(("none", "staging", "production", "archived"))
# Names in the path of a member.
MOST_NAMES = 32
# RFC 9110 5.1.
_FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DURATION = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?) *(?P<unit>[smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 1000 * 86400.0


def seconds(duration: float | str) -> float:
    """Seconds of a duration such as 90, "90s", "15m", "2h" or "1d".

    Raises:
        ValueError: it is not a duration, or longer than 1000 days.
    """
    found = _DURATION.fullmatch(str(duration).strip())
    if found is None:
        raise ValueError(f"expected seconds or such as 90s, 15m, 2h, got '{shorten(duration)}'")
    number = float(found["number"]) * _UNITS[found["unit"]]
    if number > LONGEST:
        raise ValueError(f"expected at most 1000d, got '{shorten(duration)}'")
    return number


def _is_selector(word: str) -> bool:
    """Whether a word is an alias, a stage or latest, rather than a version or a mistake."""
    if word.startswith("@"):
        return bool(word[1:]) and not set("@/") & set(word[1:])
    return word.lower() in {*_STAGES, "latest"}


def _faults(follow: Follow) -> Iterator[str]:
    """What is wrong with the keys that have to fit each other."""
    canary, shadow = follow.canary, follow.shadow
    moving = {
        "stable": follow.stable,
        "canary": canary.alias if canary is not None else None,
        "shadow": shadow.alias if shadow is not None else None,
    }
    for role, word in moving.items():
        if word is not None and not _is_selector(word):
            key = role if role == "stable" else f"{role}.alias"
            yield (
                f"follow.{key}: expected what moves, which is an alias such as @{role}, a stage, "
                f"or latest, got '{shorten(word)}'"
            )
    if follow.rollback.disagreement is not None and shadow is None:
        yield "follow.rollback.disagreement: there is no shadow whose answers are compared"
    if canary is None:
        return
    if canary.percent is None and not canary.steps:
        yield "follow.canary: percent is missing, the percentage of the requests that reach it"
        return
    shares = canary.shares
    if canary.percent is not None and canary.percent != shares[0]:
        yield f"follow.canary.steps: expected {canary.percent:g}, which is percent, first"
    if any(after <= before for before, after in pairwise(shares)):
        yield f"follow.canary.steps: expected each above the one before, got {shares}"
    if canary.bake is None and len(shares) > 1:
        yield "follow.canary.bake is missing, the time that each of the steps lasts"
    if canary.bake is not None:
        try:
            if not seconds(canary.bake):
                yield "follow.canary.bake: expected more than 0 s, got 0"
        except ValueError as error:
            yield f"follow.canary.bake: {error}"
    sticky = canary.sticky
    if sticky is not None and bool(sticky.header) == bool(sticky.field):
        yield "follow.canary.sticky: expected either header or field"
    elif sticky is not None and sticky.header and not _FIELD_NAME.fullmatch(sticky.header):
        yield f"follow.canary.sticky.header: '{shorten(sticky.header)}' is no name of a header"
    elif sticky is not None and sticky.field:
        names = sticky.field.split(".")
        if not all(names) or len(names) > MOST_NAMES:
            yield (
                f"follow.canary.sticky.field: expected up to {MOST_NAMES} names with dots between "
                f"them, such as parameters.user, got '{shorten(sticky.field)}'"
            )


class Followed:
    """One model that is followed: the registered model, and what selects its version.

    Raises:
        ConfigurationError: its uri names no registered model, or one version for good; or its keys
            do not fit each other.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self.follow = msgspec.convert(settings.follow, Follow)
        for fault in _faults(self.follow):
            raise ConfigurationError(f"model '{settings.name}': {fault}")
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
        if not _is_selector(selector):
            raise ConfigurationError(
                f"model '{settings.name}' cannot be followed: '{shorten(selector)}' is no alias, "
                f"such as @champion, no stage, and not latest"
            )
        self.stable = selector
        for role, other in (("canary", self.follow.canary), ("shadow", self.follow.shadow)):
            if other is not None and other.alias == selector:
                raise ConfigurationError(
                    f"model '{settings.name}': follow.{role}.alias: '{shorten(other.alias)}' "
                    f"decides the stable version; name another alias, such as @{role}"
                )

    def pinned(self, version: str, checked: bool = True) -> ModelSettings:
        """The settings of one version, which has to answer its input example if it is `checked`."""
        return replace(
            self.settings,
            uri=f"models:/{self.registered}/{version}",
            version=version,
            must_answer_example=checked,
        )


def marked(models: Iterable[ModelSettings]) -> list[ModelSettings]:
    """The models, with those marked that `--follow` is for: what their uri names may move."""
    return [
        replace(model, follow={}) if model.follow is None and _may_move(model.uri) else model
        for model in models
    ]


def followed(models: Iterable[ModelSettings], origin: str = "--follow") -> list[ModelSettings]:
    """The models that a server starts with, marked as by `marked`.

    `origin` is where it says that registries are followed.

    Raises:
        ConfigurationError: that is for none of the models.
    """
    found = marked(models)
    if found and all(model.follow is None for model in found):
        raise ConfigurationError(
            f"{origin} is for models of a registry, such as models:/wine@champion, and no model "
            "here is one"
        )
    return found


def _may_move(uri: str) -> bool:
    found = _URI.fullmatch(uri)
    selector = (found["selector"] or "").lstrip("/") if found is not None else ""
    return bool(selector) and not selector.isdecimal()
