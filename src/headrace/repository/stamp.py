"""What tells whether a model on disk has changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from headrace.settings import ModelSettings
from headrace.sources.model_file import SETTINGS_FILE
from headrace.sources.names import is_uri

# Of each version: its settings, and the number, size and latest change of its files.
Stamp = list[tuple[dict[str, Any], int, int, int]]

# A folder that holds a whole disk is not looked through.
MOST_FILES = 50_000


def stamp_of(found: Iterable[ModelSettings]) -> Stamp:
    """What is equal for as long as no version of a model changes. Reads no file; may block."""
    return [(settings.to_dict(), *_files(_places(settings))) for settings in found]


def _places(settings: ModelSettings) -> list[str]:
    """The folder that describes a model, and its own one if that is elsewhere on this machine."""
    places = [settings.folder] if settings.folder else []
    uri = settings.uri
    if uri and not is_uri(uri) and (not places or not f"{uri}{os.sep}".startswith(places[0])):
        places.append(uri)
    return places


def _files(places: list[str]) -> tuple[int, int, int]:
    count = size = latest = 0
    for place in places:
        for path in _paths(place):
            with suppress(OSError):
                status = os.stat(path)
                if stat.S_ISREG(status.st_mode):
                    count += 1
                    size += status.st_size
                    # Tools that copy files keep the time of their modification, but not this.
                    latest = max(latest, status.st_ctime_ns)
            if count >= MOST_FILES:
                break
    return count, size, latest


def _paths(place: str) -> Iterable[str]:
    if os.path.isfile(place):
        yield place
    for folder, inner, files in os.walk(place):
        if folder != place and SETTINGS_FILE in files:
            # Another model, which has a stamp of its own.
            inner.clear()
            continue
        # Python writes it while the model is loaded.
        inner[:] = [name for name in inner if name != "__pycache__"]
        for file in files:
            yield os.path.join(folder, file)
