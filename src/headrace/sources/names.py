"""What a model may be called, and what it is called by default."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from headrace.errors import ConfigurationError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
RULE = "use letters, digits, '_', '.' and '-', 128 at most, the first a letter, digit or '_'"


def is_uri(model: str) -> bool:
    """Whether a MODEL argument names something MLflow resolves rather than a path."""
    scheme, separator, _ = model.partition(":")
    return bool(separator) and len(scheme) > 1 and scheme.replace("-", "").isalnum()


def name_of_uri(uri: str) -> str:
    """The name of a model that is only known by its URI: the registered one, or the last folder."""
    parts = urlsplit(uri)
    segments = [part for part in (parts.netloc + "/" + parts.path).split("/") if part]
    if parts.scheme == "models" and segments:
        return _clean(segments[0].partition("@")[0])
    return name_of_folder(Path("/", *segments))


def name_of_folder(folder: Path) -> str:
    """The name of a model that is only known by its folder."""
    # MLflow 3 keeps a logged model in m-<id>/artifacts, and the id is the better name.
    last = folder.parent.name if folder.name == "artifacts" else folder.name
    return _clean(last)


def checked_name(name: str, where: str) -> str:
    """Return the name if it is valid.

    Raises:
        ConfigurationError: it is not a model name; `where` is the place it was read from.
    """
    if not NAME.fullmatch(name):
        raise ConfigurationError(f"{where}: '{name}' is not a model name; {RULE}")
    return name


def checked_version(version: str, where: str) -> str:
    """Return the version if it is valid; it has the form of a name.

    Raises:
        ConfigurationError: it does not; `where` is the place it was read from.
    """
    if not NAME.fullmatch(version):
        raise ConfigurationError(f"{where}: '{version}' is not a version; {RULE}")
    return version


def _clean(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-")[:128] or "model"
