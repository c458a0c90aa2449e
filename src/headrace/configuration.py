"""Reads the server's settings. Precedence: flags, then environment, then files, then defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from headrace.errors import ConfigurationError
from headrace.settings import ServerSettings

PREFIXES = ("HEADRACE_", "MLSERVER_")
SETTINGS_FILE = "settings.json"


def read(
    flags: Mapping[str, Any], environ: Mapping[str, str], folder: Path | None
) -> ServerSettings:
    """Combine all sources into one settings object.

    `flags` holds only what was given on the command line. Unknown keys of the file are ignored,
    as MLServer does.

    Raises:
        ConfigurationError: a value is of the wrong type or out of range; says where it came from.
    """
    from_file, file = _read_file(folder)
    hints = get_type_hints(ServerSettings)
    values: dict[str, Any] = {}
    for field in fields(ServerSettings):
        name = field.name
        if flags.get(name) is not None:
            values[name] = flags[name]
            continue
        variable = next((p + name.upper() for p in PREFIXES if p + name.upper() in environ), None)
        if variable is not None:
            values[name] = _convert(environ[variable], hints[name], variable)
        elif name in from_file:
            values[name] = _convert(from_file[name], hints[name], f"{file}: {name}")
    _check(values)
    if values.get("http_port") == 0:
        # Whoever asks for a free port must not collide on the other listeners.
        values.setdefault("metrics_port", 0)
    return ServerSettings(**values)


def _read_file(folder: Path | None) -> tuple[dict[str, Any], Path | None]:
    file = folder / SETTINGS_FILE if folder is not None else None
    if file is None or not file.is_file():
        return {}, None
    try:
        raw = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as exc:
        raise ConfigurationError(f"{file}: {exc}") from exc
    return raw, file


def _convert(value: Any, hint: Any, origin: str) -> Any:
    try:
        return msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"{origin}: {exc}") from exc


def _check(values: Mapping[str, Any]) -> None:
    for field in fields(ServerSettings):
        value = values.get(field.name)
        flag = "--" + field.name.replace("_", "-")
        choices = field.metadata.get("choices")
        if value is None:
            continue
        if choices and value not in choices:
            raise ConfigurationError(f"{flag}: expected one of {', '.join(choices)}")
        if isinstance(value, (int, float)) and value < 0:
            raise ConfigurationError(f"{flag}: expected a number from 0 up, got {value}")
        if field.name.endswith("_port") and value > 65535:
            raise ConfigurationError(f"{flag}: expected a port from 0 to 65535, got {value}")
