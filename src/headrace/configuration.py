"""Reads the server's settings. Precedence: flags, then environment, then files, then defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from headrace.errors import ConfigurationError
from headrace.observability import logs
from headrace.protocol.open_inference.json_faults import syntax_fault
from headrace.settings import CorsSettings, ServerSettings
from headrace.sources.settings_file import converted, read_object

# Values from a file, each with a description of where it comes from.
Given = Mapping[str, tuple[Any, str]]
NONE: Given = {}

PREFIXES = ("HEADRACE_", "MLSERVER_")
SETTINGS_FILE = "settings.json"
ROOT = "model_repository_root"
DEFAULT = "default"
# Set in the images that we build: platforms that run containers name the port in PORT.
IN_CONTAINER = "HEADRACE_CONTAINER"

# MLServer's switches, as values of our settings; a value given under our own key comes first.
SWITCHES = {"debug": ("log_level", "debug"), "use_structured_logging": ("log_format", "json")}
# Keys of MLServer that have no effect; docs/reference/mlserver.md says why.
IGNORED = (
    "parallel_workers_timeout", "model_repository_implementation",
    "model_repository_implementation_args", "grpc_max_message_length",
    "metrics_rest_server_prefix", "metrics_dir", "logging_settings", "kafka_enabled",
    "kafka_servers", "kafka_topic_input", "kafka_topic_output", "tracing_server", "cache_enabled",
    "cache_size", "gzip_enabled",
)  # fmt: skip


@dataclass(frozen=True)
class Resolved:
    """The settings, where each came from, and the given keys that have no effect."""

    settings: ServerSettings
    origins: dict[str, str]
    ignored: tuple[str, ...] = ()


def resolve(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    folder: Path | None,
    conf: Given = NONE,
    keywords: Mapping[str, Any] | None = None,
) -> Resolved:
    """Combine all sources, and record where each value came from.

    `flags` holds only what was given on the command line, and `conf` the values of the `--conf`
    file, which take precedence over `settings.json`. Unknown keys in `settings.json` are ignored,
    as in MLServer. `keywords` are what a caller in Python gave, and come first; None is a value
    there.

    Raises:
        ConfigurationError: a value is of the wrong type or out of range; the message says where
            it came from.
    """
    from_file = {**_read_file(folder), **conf}
    hints = get_type_hints(ServerSettings)
    values: dict[str, Any] = {}
    origins = {field.name: DEFAULT for field in fields(ServerSettings)}
    keywords = keywords or {}
    for name in origins:
        given, origin = _given(name, flags, environ, from_file)
        if name in keywords:
            given, origin = keywords[name], name
        if origin is not None:
            values[name], origins[name] = _convert(given, hints[name], origin), origin
    for switch, (name, value) in SWITCHES.items():
        given, origin = _given(switch, {}, environ, from_file)
        if origin is not None and _convert(given, bool, origin) and name not in values:
            values[name], origins[name] = value, origin
    _check(values, origins)
    if values.get("http_port") == 0:
        # Where a free port is asked for, the other listeners must not collide either.
        for name in origins:
            if name.endswith("_port") and name not in values:
                values[name], origins[name] = 0, "http_port 0"
    ignored = tuple(
        origin
        for name in IGNORED
        if (origin := _given(name, {}, environ, from_file)[1]) is not None
    )
    return Resolved(ServerSettings(**values), origins, ignored)


def model_argument(given: str | None, environ: Mapping[str, str]) -> str:
    """The MODEL to serve: the argument, else `model_repository_root`, else the current folder."""
    if given is not None:
        return given
    root, origin = _given(ROOT, {}, environ, _read_file(Path()))
    return str(_convert(root, str, origin)) if origin is not None else "."


def _given(
    name: str,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    from_file: Given,
) -> tuple[Any, str | None]:
    """The value of the first source that has one, and that source; None when none has."""
    if flags.get(name) is not None:
        prefix = "--no-" if flags[name] is False else "--"
        return flags[name], prefix + name.replace("_", "-")
    variable = next((p + name.upper() for p in PREFIXES if p + name.upper() in environ), None)
    if variable is not None:
        return environ[variable], variable
    if name == "http_port" and environ.get(IN_CONTAINER) and environ.get("PORT"):
        return environ["PORT"], "PORT"
    return from_file.get(name, (None, None))


def _read_file(folder: Path | None) -> dict[str, tuple[Any, str]]:
    file = folder / SETTINGS_FILE if folder is not None else None
    if file is None or not os.path.isfile(file):
        return {}
    return {name: (value, f"{file}: {name}") for name, value in read_object(file).items()}


def _convert(value: Any, hint: Any, origin: str) -> Any:
    if hint == tuple[str, ...] and isinstance(value, str):
        value = _listed(value, origin)
    if hint == CorsSettings | None and isinstance(value, str):
        value = _json(value, origin)
    return converted(value, hint, origin)


def _listed(text: str, origin: str) -> Any:
    """A list from a variable: JSON, as MLServer writes it, or separated by commas."""
    if text.lstrip().startswith("["):
        return _json(text, origin)
    return [part.strip() for part in text.split(",") if part.strip()]


def _json(text: str, origin: str) -> Any:
    data = text.encode("utf-8", "surrogateescape")
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigurationError(f"{origin}: expected JSON; it is {syntax_fault(data)}") from exc


def _check(values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    for field in fields(ServerSettings):
        value = values.get(field.name)
        origin = origins[field.name]
        choices = field.metadata.get("choices")
        if value is None:
            continue
        if isinstance(value, CorsSettings):
            _check_origins(value.allow_origin_regex or "", origin)
        if choices and value not in choices and not _is_log_pattern(field.name, value):
            raise ConfigurationError(f"{origin}: expected one of {', '.join(choices)}")
        # Written this way, NaN is refused as well.
        if isinstance(value, (int, float)) and not value >= 0:
            raise ConfigurationError(f"{origin}: expected a number of 0 or more, got {value}")
        if field.name in ("root_path", "metrics_endpoint") and value and value[0] != "/":
            raise ConfigurationError(f"{origin}: expected a path that begins with /")
        if field.name.endswith("_port") and value > 65535:
            raise ConfigurationError(f"{origin}: expected a port from 0 to 65535, got {value}")


def _check_origins(pattern: str, origin: str) -> None:
    try:
        re.compile(pattern)
    except re.error as exc:
        raise ConfigurationError(f"{origin}: allow_origin_regex: {exc}") from exc


def _is_log_pattern(name: str, value: Any) -> bool:
    return name == "log_format" and logs.is_pattern(value)
