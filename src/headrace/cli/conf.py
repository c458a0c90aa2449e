"""`--conf FILE`: the command line as YAML, with the keys of the MLflow pluggable scoring server."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import ConfigurationError, did_you_mean, listing
from headrace.settings import MIB, ServerSettings

if TYPE_CHECKING:
    from headrace.configuration import Given

LARGEST_FILE = 1 * MIB
# Keys for arguments that are not settings, and keys that have another name elsewhere.
TEXTS = ("model", "name", "plugin", "plugin_class")
RENAMED = {"model_uri": "model", "plugin_file": "plugin", "port": "http_port"}
_COMPARISONS = "<>=!~"


@dataclass(frozen=True)
class Conf:
    """`arguments` that are not server settings, and `settings`, each with its origin."""

    arguments: dict[str, Any] = field(default_factory=dict)
    settings: Given = field(default_factory=dict)


def read(path: str | None) -> Conf:
    """The file's values; empty if `path` is None.

    Raises:
        ConfigurationError: there is no such file, it is not YAML, or it has an unknown key.
    """
    if path is None:
        return Conf()
    raw = _load(Path(path))
    logging = raw.pop("logging", None) or {}
    if not isinstance(logging, dict) or logging.keys() - {"level", "format"}:
        raise ConfigurationError(f"{path}: logging: expected level and format")
    if "level" in logging:
        raw["log_level"] = str(logging["level"])
    if "format" in logging:
        raw["log_format"] = logging["format"]
    arguments: dict[str, Any] = {}
    settings: dict[str, tuple[Any, str]] = {}
    known = {setting.name for setting in fields(ServerSettings)}
    for key, value in raw.items():
        name = RENAMED.get(key, key)
        if value is None:
            continue
        if name in TEXTS:
            if not isinstance(value, str):
                raise ConfigurationError(f"{path}: {key}: expected text")
            arguments[name] = value
        elif name == "packages":
            arguments[name] = _packages(value, path)
        elif name in known:
            settings[name] = value, f"{path}: {key}"
        else:
            hint = did_you_mean(key, (*known, *TEXTS, *RENAMED, "packages", "logging"))
            raise ConfigurationError(f"{path}: there is no setting {listing([str(key)])}{hint}")
    return Conf(arguments, settings)


def packages(text: str) -> list[str]:
    """Requirements separated by commas; the comma in `numpy>=1,<2` separates nothing."""
    found: list[str] = []
    for part in map(str.strip, text.split(",")):
        if part[:1] and part[0] in _COMPARISONS and found:
            found[-1] += "," + part
        elif part:
            found.append(part)
    return found


def _packages(value: Any, path: str) -> list[str]:
    if isinstance(value, str):
        return packages(value)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigurationError(f"{path}: packages: expected a list such as [numpy==2.2, pillow]")
    return value


def _load(file: Path) -> dict[str, Any]:
    import yaml

    try:
        if file.stat().st_size > LARGEST_FILE:
            raise ConfigurationError(f"--conf: {file} is larger than {LARGEST_FILE} bytes")
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--conf: {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"--conf: {file} is not valid YAML") from error
    if not isinstance(raw, dict):
        raise ConfigurationError(f"--conf: {file} holds no keys")
    return raw
