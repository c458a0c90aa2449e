"""Models that a platform names while the server runs, each with its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from headrace.errors import InvalidModel, shorten
from headrace.settings import ModelSettings
from headrace.sources.discovery import open_source
from headrace.sources.variables import PREFIXES


class HostedSource:
    """The folder of each model, by its name, which may be any text.

    `environ` fills in what settings files leave out, such as the implementation. Of a model outside
    of `trusted` folders, only its format is trusted.
    """

    def __init__(self, environ: Mapping[str, str], trusted: Sequence[str] = ()) -> None:
        self._trusted = trusted
        # The platform says where each model is, and what it is called.
        own = {prefix + key for prefix in PREFIXES for key in ("MODEL_URI", "MODEL_NAME")}
        self._environ = {name: value for name, value in environ.items() if name not in own}
        self.places: dict[str, str] = {}

    def find(self, name: str) -> list[ModelSettings]:
        """The model as its folder describes it now; none if no folder is known.

        Raises:
            LoadFailed: the folder holds no model, several, or one whose settings are wrong.
        """
        place = self.places.get(name)
        if place is None:
            return []
        if not os.path.isdir(place):
            raise InvalidModel(f"'{shorten(place)}' is not a folder")
        source = open_source(place, None, self._environ)
        # Also for what is code before it is a model.
        source.trust = trust = self._trust_in(place)
        models = source.settings()
        if len(models) != 1:
            count = f"{len(models)} models" if models else "no model"
            raise InvalidModel(f"'{shorten(place)}' holds {count}, expected one")
        return [replace(models[0], name=name, trust=trust)]

    def _trust_in(self, place: str) -> str:
        folder = Path(place).resolve()
        is_trusted = any(folder.is_relative_to(Path(each).resolve()) for each in self._trusted)
        return "any" if is_trusted else "formats"

    def size(self, name: str) -> int:
        """The bytes of all files of a model; a folder that is not there has none.

        Raises:
            InvalidModel: it cannot be read, or changes meanwhile.
        """
        place = self.places[name]
        if not os.path.isdir(place):
            return 0
        try:
            return sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())
        except OSError as error:
            raise InvalidModel(f"'{shorten(place)}' cannot be read: {error.strerror}") from error
