"""Reads the server's settings. Precedence: flags, then environment, then files, then defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from headrace import platform_table, platforms
from headrace.errors import ConfigurationError, did_you_mean, shorten
from headrace.observability import logs
from headrace.platforms import NOWHERE, Found
from headrace.protocol.open_inference.json_faults import syntax_fault
from headrace.settings import CorsSettings, ServerSettings
from headrace.sockets import is_address
from headrace.sources import server_keys, variables
from headrace.sources.model_keys import HINTS
from headrace.sources.server_keys import IGNORED, ROOT, SWITCHES
from headrace.sources.settings_file import SettingsObject, converted, is_comment, named, read_object
from headrace.sources.variables import PREFIXES

# Values from a file, each with a description of where it comes from.
Given = Mapping[str, tuple[Any, str]]
NONE: Given = {}

# What the number of each setting counts.
UNITS = {field.name: field.metadata["unit"] for field in fields(ServerSettings)}
SETTINGS_FILE = "settings.json"
# The number above it stands for "leave it as it is" in system calls.
LARGEST_UID = 2**32 - 2
PATHS = ("root_path", "metrics_endpoint", "health_route", "predict_route")
DEFAULT = "default"
# As a request names its host, which is an ASCII name whatever the browser shows.
HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
# Levels of Python's logging that have another name here.
LEVELS = {"warn": "warning", "critical": "error", "fatal": "error", "notset": "debug"}

# MLflow's names of what builds environments, and what uv does in their place.
MANAGERS = {
    "virtualenv": "it installs the same requirements",
    "conda": "it installs the model's pip requirements, and nothing of conda",
}


@dataclass(frozen=True)
class Resolved:
    """The settings, where each came from, and the given keys that have no effect.

    `ignored` are keys of MLServer's, `unknown` sentences about words that nobody knows, and `notes`
    sentences about values that are taken for others. `found` is the platform.
    """

    settings: ServerSettings
    origins: dict[str, str]
    ignored: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    found: Found = NOWHERE

    @property
    def warnings(self) -> list[str]:
        """A sentence for each word that was given and has no effect."""
        ignored = (f"{origin} is accepted and has no effect" for origin in self.ignored)
        return [*ignored, *self.unknown, *self.notes]


def resolve(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    folder: Path | None,
    conf: Given = NONE,
    keywords: Mapping[str, Any] | None = None,
) -> Resolved:
    """Combine all sources, and record where each value came from.

    `flags` holds only what was given on the command line, and `conf` the values of the `--conf`
    file, which take precedence over `settings.json`. `keywords` are what a caller in Python gave,
    and come first; None is a value there.

    Raises:
        ConfigurationError: a value is of the wrong type or out of range; the message says where
            it came from. Or a variable of ours does not exist.
    """
    keywords = keywords or {}
    read, repeated = _read_file(folder)
    found = platform({**flags, **keywords}, environ, {**read, **conf})
    unknown = variables.unknown({key: environ[key] for key in environ if key not in found.reads})
    environ = variables.without_links(environ)
    unknown += (*repeated, *_unknown_keys(read))
    from_file = {**found.suits, **read, **conf, **found.given}
    hints = get_type_hints(ServerSettings)
    values: dict[str, Any] = {}
    origins = {field.name: DEFAULT for field in fields(ServerSettings)}
    for name in origins:
        given, origin = _given(name, flags, environ, from_file)
        if name in keywords:
            given, origin = keywords[name], name
        if origin is not None:
            unit = UNITS[name]
            values[name], origins[name] = _convert(given, hints[name], origin, unit), origin
            unknown += tuple(_unknown_members(given, values[name], origin))
    if found.platform is not None:
        values["platform"], origins["platform"] = found.name, found.origin
    notes = _notes(str(values.get("env_manager", "")), origins["env_manager"])
    for switch, (name, value) in SWITCHES.items():
        given, origin = _given(switch, {}, environ, from_file)
        if origin is not None and _convert(given, bool, origin) and name not in values:
            values[name], origins[name] = value, origin
    for field in fields(ServerSettings):
        if values.get(field.name) is not None:
            values[field.name] = _checked(field, values[field.name], origins[field.name])
    _check_variables(environ)
    if values.get("http_port") == 0:
        # Where a free port is asked for, the other listeners must not collide either.
        for name in origins:
            if name.endswith("_port") and name not in values:
                values[name], origins[name] = 0, "http_port 0"
    _check_ports(ServerSettings(**values), origins)
    ignored = tuple(
        origin
        for name in IGNORED
        if (origin := _given(name, {}, environ, from_file)[1]) is not None
    )
    return Resolved(ServerSettings(**values), origins, ignored, unknown, notes, found)


def _notes(manager: str, origin: str) -> tuple[str, ...]:
    """What to say of a value that is taken for another one, before it becomes that."""
    instead = MANAGERS.get(manager.lower())
    return () if instead is None else (f"{origin}: {manager} is taken for uv; {instead}",)


def platform(
    flags: Mapping[str, Any], environ: Mapping[str, str], from_file: Given = NONE
) -> Found:
    """The platform that this process runs on.

    Raises:
        ConfigurationError: the platform that was given does not exist.
    """
    given, origin = _given("platform", flags, environ, from_file)
    name = _choice(platform_table.CHOICES, _convert(given, str, origin), origin) if origin else None
    return platforms.find(name or platform_table.AUTO, origin or "", environ)


def model_argument(given: str | None, environ: Mapping[str, str], found: Found = NOWHERE) -> str:
    """The MODEL to serve: the argument, `model_repository_root`, or the current folder.

    The platform's models come after the argument and the variable.
    """
    if given is not None:
        return given
    root, origin = _given(ROOT, {}, environ, {**_read_file(Path()).values, **found.given})
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
    return from_file.get(name, (None, None))


def _read_file(folder: Path | None) -> SettingsObject:
    """The keys of the folder's `settings.json`, each with its value and where it comes from."""
    file = folder / SETTINGS_FILE if folder is not None else None
    if file is None or not os.path.isfile(file):
        return SettingsObject({}, ())
    read = read_object(file)
    given = {name: (each, f"{file}: {shorten(name)}") for name, each in read.values.items()}
    return read._replace(values=given)


def _convert(value: Any, hint: Any, origin: str, unit: str = "") -> Any:
    if hint == tuple[str, ...] and isinstance(value, str):
        value = _listed(value, origin)
    if hint == CorsSettings | None and isinstance(value, str):
        value = _json(value, origin)
    return converted(value, hint, origin, unit)


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


def _checked(field: Field[Any], value: Any, origin: str) -> Any:
    """The value, if it is in range; a choice in the case that it has here."""
    choices = field.metadata.get("choices")
    if field.name == "host":
        return _host(value, origin)
    if field.name == "allowed_hosts":
        _check_names(value, origin)
    if isinstance(value, CorsSettings):
        _check_origins(value.allow_origin_regex or "", origin)
    if choices and not (field.name == "log_format" and logs.is_pattern(value)):
        return _choice(choices, value, origin)
    above = field.metadata.get("above")
    # Written this way, NaN is refused as well.
    if above is not None and not value > above:
        raise ConfigurationError(f"{origin}: expected a number above {above}, got {value}")
    if isinstance(value, (int, float)) and not value >= 0:
        raise ConfigurationError(f"{origin}: expected a number of 0 or more, got {value}")
    if field.name in PATHS and value and value[0] != "/":
        raise ConfigurationError(
            f"{origin}: expected a path that begins with /, got '{shorten(value)}'"
        )
    if field.name.endswith("_route") and value and set(value) & set("{}?#%"):
        raise ConfigurationError(
            f"{origin}: expected a path without braces, ?, # and %, got '{shorten(value)}'"
        )
    if field.name == "metrics_rest_server_prefix" and not re.fullmatch(
        r"([a-zA-Z_]\w*)?", value or "", re.A
    ):
        raise ConfigurationError(
            f"{origin}: expected a name of letters, digits and _, got '{shorten(value)}'"
        )
    if field.name.endswith("_port") and value > 65535:
        raise ConfigurationError(f"{origin}: expected a port from 0 to 65535, got {value}")
    if field.name.endswith("_uid") and value is not None and value > LARGEST_UID:
        raise ConfigurationError(
            f"{origin}: expected the number of a user from 0 to {LARGEST_UID}, got {value}"
        )
    return value


def _check_variables(environ: Mapping[str, str]) -> None:
    """Refuse a variable with a wrong value even where something else comes first.

    It would otherwise be found on the day when that is taken away.
    """
    hints = get_type_hints(ServerSettings)
    for prefix in PREFIXES:
        for field in fields(ServerSettings):
            variable = prefix + field.name.upper()
            if variable in environ:
                value = _convert(environ[variable], hints[field.name], variable, UNITS[field.name])
                _checked(field, value, variable)
        for switch in SWITCHES:
            variable = prefix + switch.upper()
            if variable in environ:
                _convert(environ[variable], bool, variable)


def _host(value: str, origin: str) -> str:
    """The address; brackets around IPv6, as in a URL, are taken off."""
    if not value:
        raise ConfigurationError(f"{origin}: expected an address; 0.0.0.0 stands for all of them")
    if "/" in value:
        raise ConfigurationError(
            f"{origin}: expected an address or a host name, such as 0.0.0.0, got "
            f"'{shorten(value)}'; URLs and paths of Unix sockets are neither"
        )
    if re.fullmatch(r"[^:]*:\d+|\[.*\]:\d+", value):
        raise ConfigurationError(
            f"{origin}: expected an address without a port, got '{shorten(value)}'; --http-port "
            "and --grpc-port set the ports"
        )
    return value[1:-1] if value[:1] == "[" and value[-1:] == "]" else value


def _check_names(names: tuple[str, ...], origin: str) -> None:
    """Refuse what no request can name as its host, which would keep everybody out unnoticed."""
    for name in names:
        if not (HOST_NAME.fullmatch(name) or is_address(name.strip("[]"))):
            raise ConfigurationError(
                f"{origin}: expected the names of this server, such as models.example.com, without "
                f"scheme, port, path and wildcards, got '{shorten(name)}'"
            )


def _check_ports(settings: ServerSettings, origins: Mapping[str, str]) -> None:
    """Refuse one port for two listeners, which would fail as if another program had it."""
    names = ["http_port", "grpc_port"]
    if settings.metrics_endpoint:
        names.append("metrics_port")
    seen: dict[int, str] = {}
    for name in names:
        port = getattr(settings, name)
        other = seen.setdefault(port, name) if port else name
        if other != name:
            # The one that was not given is the one that its owner does not know of.
            first, second = sorted((other, name), key=lambda each: origins[each] == DEFAULT)
            flag = "--" + second.replace("_", "-")
            by_default = " by default" if origins[second] == DEFAULT else ""
            raise ConfigurationError(
                f"{_named(first, origins)}: {port} is also the port of {flag}{by_default}; give "
                f"{flag} another one, or 0 for a free one"
            )


def _named(name: str, origins: Mapping[str, str]) -> str:
    return origins[name] if origins[name] != DEFAULT else name


def _choice(choices: tuple[str, ...], value: str, origin: str) -> str:
    lower = value.lower()
    found = LEVELS.get(lower, lower) if "debug" in choices else lower
    if "uv" in choices and lower in MANAGERS:
        found = "uv"
    if found not in choices:
        hint = did_you_mean(value, choices)
        raise ConfigurationError(
            f"{origin}: expected one of {', '.join(choices)}, got '{shorten(value)}'{hint}"
        )
    return found


def _unknown_keys(read: Given) -> Iterator[str]:
    """Sentences about the keys of `settings.json` that no server has."""

    def sentence(name: str) -> str:
        origin = read[name][1]
        if name in HINTS or name == "parameters":
            return f"{origin} has no effect here; it is a key of model-settings.json"
        return f"{origin} is unknown and has no effect" + did_you_mean(name, server_keys.KNOWN)

    unknown = [name for name in read if name not in server_keys.KNOWN and not is_comment(name)]
    return named(unknown, sentence, SETTINGS_FILE)


def _unknown_members(given: Any, value: Any, origin: str) -> Iterator[str]:
    # Those of one that was made in Python are known.
    if isinstance(value, CorsSettings) and given is not value:
        members = given if isinstance(given, dict) else _json(given, origin)
        known = [field.name for field in fields(CorsSettings)]
        for name in members:
            if name not in known:
                yield f"{origin}.{name} is unknown and has no effect" + did_you_mean(name, known)


def _check_origins(pattern: str, origin: str) -> None:
    try:
        re.compile(pattern)
    except re.error as exc:
        raise ConfigurationError(f"{origin}: allow_origin_regex: {exc}") from exc
