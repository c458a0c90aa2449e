"""Refuses models that may run code, where the server was told to trust formats only.

The server asks before a worker opens anything. The worker asks again, and does not unpickle.
"""

from __future__ import annotations

import pkgutil
import sys
from typing import Any, Callable

from headrace.errors import InvalidModel, shorten
from headrace.runtimes import catalog
from headrace.settings import ModelSettings

FORMATS = "formats"
HINT = (
    "only formats without code are opened: ONNX, skops, safetensors and the boosters' own "
    "(--trust formats, or its folder is not in --trusted-folders)"
)


def why_code(settings: ModelSettings) -> str:
    """Why serving a model may run code that came with it, as `safe_formats` says it.

    Raises:
        InvalidModel: its files are missing or wrong.
    """
    if settings.environment_path or settings.environment_tarball or settings.environment:
        return "brings an environment of its own"
    entry = catalog.entry_of(settings.implementation)
    if entry is None:
        return f"is code: its implementation is '{shorten(settings.implementation)}'"
    why: Callable[[ModelSettings], str] = pkgutil.resolve_name(entry.code_in)
    return why(settings)


def check(settings: ModelSettings) -> None:
    """Refuse a model that may run code, if only formats are trusted.

    Raises:
        InvalidModel: it may, or its files are missing or wrong.
    """
    if settings.trust == FORMATS and (why := why_code(settings)):
        raise refusal(settings, why)


def check_pickle(settings: ModelSettings) -> None:
    """Refuse to unpickle anything for a model of which only the format is trusted.

    Raises:
        InvalidModel: it is such a model.
    """
    if settings.trust == FORMATS:
        raise refusal(settings, "is a pickle")


def refusal(settings: ModelSettings, why: str) -> InvalidModel:
    return InvalidModel(f"model '{settings.name}' {why}; {HINT}")


def forbid_pickles() -> None:
    """From now on, no pickle in this process names anything: it stays numbers and text.

    For a worker, whatever a framework does; there is no way back.
    """
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        raise InvalidModel(f"a pickle asks for '{shorten('.'.join(map(str, arguments)))}'; {HINT}")
