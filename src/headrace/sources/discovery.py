"""Turns the MODEL argument of the command line into the source that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.sources.artifacts import is_uri
from headrace.sources.folder_source import FolderSource
from headrace.sources.plugin_argument import PluginArgument
from headrace.sources.plugin_source import PluginSource
from headrace.sources.source import Source
from headrace.sources.uri_source import UriSource

# By the scheme of the argument. MLflow's client knows many more, and learns others from plugins.
SOURCES: dict[str, type[Source]] = {"": FolderSource}
OTHER_SCHEMES = UriSource


def open_source(
    model: str,
    name: str | None = None,
    environ: Mapping[str, str] | None = None,
    plugin: PluginArgument | None = None,
    packages: Sequence[str] = (),
) -> Source:
    """The source for `model`; nothing is read from it yet. See `Source` for the arguments."""
    if plugin is not None:
        return PluginSource(model, plugin, name, environ, packages)
    scheme = model.partition(":")[0].lower() if is_uri(model) else ""
    return SOURCES.get(scheme, OTHER_SCHEMES)(model, name, environ, packages)
