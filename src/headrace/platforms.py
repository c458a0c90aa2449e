"""Which platform this process runs on, and what that sets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.platform_table import AUTO, NONE, PLATFORMS, Platform, named
from headrace.sources.server_keys import ROOT

# Set in the images that we build: only there does `auto` look around.
IN_CONTAINER = "HEADRACE_CONTAINER"

Given = dict[str, tuple[Any, str]]


@dataclass(frozen=True)
class Found:
    """The platform that this process runs on, if any, and what it sets.

    `origin` is what showed it. `given` are settings that come before files, and `suits` those that
    come after them, each with its origin. `reads` are the variables that were read.
    """

    platform: Platform | None = None
    origin: str = ""
    given: Given = field(default_factory=dict)
    suits: Given = field(default_factory=dict)
    reads: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.platform.name if self.platform is not None else NONE

    @property
    def model(self) -> str | None:
        """The MODEL where the command line names none; None if the platform names none either."""
        return str(self.given[ROOT][0]) if ROOT in self.given else None

    @property
    def model_appears(self) -> bool:
        """Whether a MODEL that does not exist will be put there later."""
        return self.platform is not None and self.platform.appears


NOWHERE = Found()


def find(given: str, origin: str, environ: Mapping[str, str], root: Path = Path("/")) -> Found:
    """The platform that was `given`; with `auto`, the one that shows in an image of ours.

    The port in `PORT` counts on all of them, as far as the platform has no other name for it.
    """
    platform = named(given) if given not in (AUTO, NONE) else None
    in_container = bool(environ.get(IN_CONTAINER))
    if given == AUTO and in_container:
        shown = ((each, each.shown_by(environ, root)) for each in PLATFORMS)
        platform, origin = next(((each, by) for each, by in shown if by), (None, ""))
    port: Given = {}
    if in_container and environ.get("PORT"):
        port = {"http_port": (environ["PORT"], "PORT")}
    if platform is None:
        return Found(given=port)
    because = f"--platform {platform.name}"
    expected = {name: (value, because) for name, value in platform.expects.items()}
    from_variables = {
        name: (environ[variable], variable)
        for variable, name in platform.variables.items()
        if environ.get(variable)
    }
    return Found(
        platform,
        origin,
        {**expected, **port, **from_variables, **_model(platform, environ, root)},
        {name: (value, because) for name, value in platform.suits.items()},
        (*platform.variables, platform.place),
    )


def _model(platform: Platform, environ: Mapping[str, str], root: Path) -> Given:
    """The place of the platform's models: one that it names, or a folder with something in it."""
    if place := environ.get(platform.place):
        return {ROOT: (_only_model(place), platform.place)}
    if not platform.models:
        return {}
    folder = _below(root, platform.models)
    if platform.appears or next(_entries(folder), None) is not None:
        return {ROOT: (_only_model(str(folder)), platform.models)}
    return {}


def _only_model(place: str) -> str:
    """The only folder in a folder, if that is an MLflow model: archives often hold such a one."""
    folder = Path(place)
    entries = list(_entries(folder))
    if len(entries) == 1 and (folder / entries[0] / "MLmodel").is_file():
        return str(folder / entries[0])
    return place


def _entries(folder: Path) -> Iterator[str]:
    """The names in a folder, without those that the file system adds; none if it is no folder."""
    try:
        names = os.listdir(folder)
    except OSError:
        return iter(())
    return iter(sorted(name for name in names if name != "lost+found" and name[0] != "."))


def _below(root: Path, path: str) -> Path:
    return root / path.removeprefix("/")
