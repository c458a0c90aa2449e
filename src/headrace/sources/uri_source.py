"""The model that a URI names, such as `models:/wine@champion`; MLflow's client fetches it."""

from __future__ import annotations

from headrace.sources.model_file import FoundModel, model_of_uri
from headrace.sources.names import name_of_uri
from headrace.sources.source import Source


class UriSource(Source):
    """One MLflow model, wherever its URI leads."""

    def read(self) -> list[FoundModel]:
        """The model. Nothing is fetched before it is loaded."""
        return [model_of_uri(self.place, self.environ, self.name, name_of_uri(self.place))]
