"""A bundle: a service with its models, or models alone, packed by `headrace build`."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.errors import ConfigurationError, HeadraceError
from headrace.sources.folder_source import FolderSource
from headrace.sources.model_file import FoundModel
from headrace.sources.service_source import Reference, ServiceSource
from headrace.sources.source import Source
from headrace.sources.store_source import StoreSource
from headrace.store import transfer
from headrace.store.kinds import BUNDLE_VARIABLE, BUNDLES, MODELS, is_bento, is_bundle
from headrace.store.record_yaml import read_record
from headrace.store.store import Item, Store
from headrace.store.tag import Tag

SOURCES = "src"


class BundleSource(Source):
    """What a bundle serves. `place` is its tag, or a folder with its record in it.

    Reading it makes this process, and those that it starts, find stored models in the bundle
    alone.
    """

    def read(self) -> list[FoundModel]:
        """The models of the bundle's service and the service, or the bundle's models.

        Raises:
            ConfigurationError: there is no such bundle, or its files are not as they were built.
        """
        source = self.service()
        if source is not None:
            return source.read()
        item = self._item()
        return [*self._of_folder(item), *self._of_store(item)]

    def service(self) -> ServiceSource | None:
        """The bundle's service; None if it has only models.

        Raises:
            ConfigurationError: there is no such bundle, or its files are not as they were built.
        """
        try:
            item = self._item()
            record = read_record(item.path / BUNDLES.record)
            if os.environ.get(BUNDLE_VARIABLE) != str(item.path):
                item.verify()
        except ConfigurationError:
            raise
        except HeadraceError as error:
            raise ConfigurationError(f"MODEL '{self.place}': {error.message}") from None
        os.environ[BUNDLE_VARIABLE] = str(item.path)
        # What Python writes next to a module would be a file that was added.
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        service = record.get("service")
        if service is None:
            return None
        found = open_service(item.path / SOURCES, str(service), self.name, dict(self.environ))
        found.trust = self.trust
        return found

    def settings_folder(self) -> Path | None:
        """The folder of its sources; None if there is no such bundle."""
        try:
            return self._item().path / SOURCES
        except HeadraceError:
            return None

    def _item(self) -> Item:
        path = Path(self.place)
        if is_bento(path):
            raise ConfigurationError(f"MODEL '{self.place}': {transfer.BENTO}")
        if not is_bundle(path):
            return Store(BUNDLES).get(self.place)
        record = read_record(path / BUNDLES.record)
        tag = Tag(str(record.get("name")), str(record.get("version")))
        return Item(tag, path.resolve(), BUNDLES)

    def _of_folder(self, item: Item) -> list[FoundModel]:
        return FolderSource(str(item.path / SOURCES), self.name, self.environ).read()

    def _of_store(self, item: Item) -> list[FoundModel]:
        stored = Store(MODELS, item.path / MODELS.folder).list()
        return [
            found
            for model in stored
            for found in StoreSource(str(model.tag), self.name, self.environ).read()
        ]


def open_service(
    sources: Path,
    service: str,
    name: str | None = None,
    environ: dict[str, str] | None = None,
) -> ServiceSource:
    """The service that `module:attribute` or `file.py:attribute` names among a bundle's sources.

    Raises:
        ConfigurationError: the file is not among them.
    """
    module, _, attribute = service.partition(":")
    if module.endswith(".py"):
        file = sources / module
        if not file.is_file():
            raise ConfigurationError(
                f"service: '{service}': there is no file {module} among the sources; does include "
                "take it?"
            )
        reference = Reference(file.stem, attribute, file.parent)
    else:
        reference = Reference(module, attribute, sources)
    return ServiceSource(service, reference, name, environ)


def is_stored_bundle(place: str) -> bool:
    """Whether the store has a bundle of the name in a tag."""
    name, _, version = place.lower().partition(":")
    return "/" not in version and Store(BUNDLES).has(name)
