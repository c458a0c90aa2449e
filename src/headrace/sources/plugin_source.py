"""The one model that a plugin makes of a folder, a file or a URI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.errors import ConfigurationError
from headrace.sources.model_file import FoundModel, model_of_plugin
from headrace.sources.names import is_uri, name_of_folder, name_of_uri
from headrace.sources.plugin_argument import PluginArgument
from headrace.sources.source import Source


class PluginSource(Source):
    """A place that a plugin loads as one model, whatever is there."""

    def __init__(
        self,
        place: str,
        plugin: PluginArgument,
        name: str | None = None,
        environ: Mapping[str, str] | None = None,
        packages: Sequence[str] = (),
    ) -> None:
        super().__init__(place, name, environ, packages)
        self._plugin = plugin

    def read(self) -> list[FoundModel]:
        """The model."""
        uri, default = self._located()
        return [model_of_plugin(self._plugin, uri, self.environ, self.name, default)]

    def _located(self) -> tuple[str, str]:
        """The absolute path or the URI, and the model's default name."""
        if is_uri(self.place):
            return self.place, name_of_uri(self.place)
        path = Path(self.place).resolve()
        if not path.exists():
            raise ConfigurationError(
                f"MODEL '{self.place}' does not exist; expected a path or a URI"
            )
        default = name_of_folder(path.with_suffix("") if path.is_file() else path)
        return str(path), default
