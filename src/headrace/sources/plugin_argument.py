"""`--plugin` and `--plugin-class`: the class that loads a model and scores with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace.errors import ConfigurationError

DEFAULT_CLASS = "Plugin"


@dataclass(frozen=True)
class PluginArgument:
    """A plugin as `ModelSettings` names it: its implementation, and the folder it is in.

    A plugin that is named by an import path has no folder.
    """

    implementation: str
    folder: Path | None = None


def plugin_argument(given: str, named_class: str | None) -> PluginArgument:
    """Parse a file or an import path, either of which may name the class after a colon.

    Only what follows the last dot of a class name counts: `plugin.Plugin` is `Plugin`.

    Raises:
        ConfigurationError: the file does not exist, or the class is named twice.
    """
    place, colon, own_class = given.rpartition(":") if ":" in given else (given, "", "")
    if colon and named_class is not None:
        raise ConfigurationError(f"--plugin '{given}' names a class, and so does --plugin-class")
    if not colon and named_class is None and not _is_file(place):
        # By convention, only classes begin with a capital letter: package.module.Plugin.
        module, _, last = place.rpartition(".")
        if module and last[:1].isupper():
            place, own_class = module, last
    found = (own_class or named_class or DEFAULT_CLASS).rpartition(".")[2]
    if not _is_file(place):
        return PluginArgument(f"{place}:{found}")
    file = Path(place).resolve()
    if not file.is_file():
        raise ConfigurationError(f"--plugin: there is no file '{place}'")
    return PluginArgument(f"{file.name}:{found}", file.parent)


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place
