"""Bundles: services and models packed with all they need, in `$HEADRACE_HOME/bundles`.

Functions take a tag, as those of `headrace.models` do.
"""

from __future__ import annotations

import builtins
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.errors import ConfigurationError, InvalidModel, NotFound, shorten
from headrace.packaging import build_file, bundle_builder
from headrace.packaging.bundle_record import BundleInfo, check
from headrace.runtimes.service import service_file
from headrace.services import Service
from headrace.sources.bundle_source import BundleSource, open_service
from headrace.sources.folder_source import BUILD_FILES
from headrace.sources.service_source import Reference, reference_of
from headrace.store import transfer
from headrace.store.kinds import BUNDLES, is_bundle
from headrace.store.remote import Remote
from headrace.store.store import Item, Store
from headrace.store.tag import Tag

logger = logging.getLogger("headrace.store")

__all__ = [
    "Bundle",
    "BundleInfo",
    "Tag",
    "build",
    "delete",
    "export_bundle",
    "get",
    "import_bundle",
    "list",
    "load",
    "pull",
    "push",
]


class Bundle:
    """One version of a bundle in the store. Two are equal if their tags are."""

    def __init__(self, item: Item, info: BundleInfo, notes: tuple[str, ...] = ()) -> None:
        self._item = item
        self._info = info
        self.notes = notes

    @property
    def tag(self) -> Tag:
        """Its name and version."""
        return self._item.tag

    @property
    def path(self) -> str:
        """Its folder, with a slash at the end."""
        return f"{self._item.path}{os.sep}"

    @property
    def info(self) -> BundleInfo:
        """What is known of it."""
        return self._info

    def verify(self) -> None:
        """Compare its files with the digests that were kept when it was built.

        Raises:
            InvalidModel: a file is missing, was changed, or was added.
        """
        self._item.verify()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bundle) and self.tag == other.tag

    def __hash__(self) -> int:
        return hash(self.tag)

    def __repr__(self) -> str:
        return f'Bundle(tag="{self.tag}")'


def build(
    folder: str | os.PathLike[str] = ".",
    file: str | os.PathLike[str] | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    version: str | None = None,
    wheel: str | os.PathLike[str] | None = None,
    base_image: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Bundle:
    """Build the bundle that a build file describes; by default the one in the folder.

    `options` are the keys of a build file, and are read instead of one. `wheel` is a wheel of
    Headrace to pack instead of one made of what is running, and `base_image` takes precedence over
    the build file's.

    Raises:
        ConfigurationError: there is no build file, or it, or what it names, is wrong.
        NotFound: a model is not in the store.
        Conflict: the version is in the store.
        StoreFailed: the store cannot be written.
        MissingDependency: `headrace[bundles]` is not installed.
    """
    place = Path(folder)
    if options is not None:
        described = build_file.of(options, "options", place, environ)
    else:
        found = Path(file) if file is not None else build_file.find(place)
        if found is None:
            names = ", ".join(BUILD_FILES)
            raise ConfigurationError(f"{place}: there is no build file, expected one of {names}")
        described = build_file.read(found, place, environ)
    built = bundle_builder.build(
        described, version, Path(wheel) if wheel is not None else None, base_image
    )
    return Bundle(built.item, built.info, built.notes)


def load(
    tag: str | Tag | Bundle = ".",
    working_dir: str | os.PathLike[str] | None = None,
    standalone_load: bool = False,
) -> Service:
    """The service of a bundle, imported into this process; its runners are to be made local.

    `tag` may also be `service.py:svc`, `package.module:svc`, or a folder with a build file, in
    `working_dir`. Once a bundle is loaded, its models are found and no others. `standalone_load`
    has no effect.

    Raises:
        InvalidModel, LoadFailed: its module cannot be imported, or defines no such service.
        ConfigurationError: there is no such file or bundle, or it has no service.
    """
    place = str(tag.tag if isinstance(tag, Bundle) else tag)
    reference = _reference(place, Path(working_dir or "."))
    if reference is None:
        raise ConfigurationError(f"'{shorten(place)}' has no service")
    return service_file.load(reference.module, reference.attribute, str(reference.folder))


def _reference(place: str, folder: Path) -> Reference | None:
    reference = reference_of(place, folder)
    if reference is not None:
        return reference
    inside = folder / place
    file = build_file.find(inside) if inside.is_dir() and not is_bundle(inside) else None
    if file is not None:
        service = build_file.read(file, inside).service
        return None if service is None else open_service(inside, service).reference
    source = BundleSource(str(inside) if inside.is_dir() else place).service()
    return None if source is None else source.reference


def list(tag: str | Tag | None = None) -> builtins.list[Bundle]:
    """All bundles, all versions of a name, or the bundle of a tag; sorted by name and version.

    One whose record is wrong is left out, and logged.

    Raises:
        NotFound: there is no bundle of that name.
        InvalidInput: it is not a tag.
    """
    found = []
    for item in Store(BUNDLES).list(tag):
        try:
            found.append(_of(item))
        except NotFound:
            # It was deleted since the store was listed.
            continue
        except InvalidModel as error:
            logger.warning("left out a bundle: %s", error.message)
    return found


def get(tag: str | Tag | Bundle) -> Bundle:
    """The bundle of a tag. Without a version, it is the latest.

    Raises:
        NotFound: it does not exist.
        InvalidInput: it is not a tag, or several versions begin like that.
        InvalidModel: its record is wrong.
    """
    return tag if isinstance(tag, Bundle) else _of(Store(BUNDLES).get(tag))


def delete(tag: str | Tag | Bundle) -> builtins.list[Tag]:
    """Remove the bundle of a tag, or all versions of a name; returns the tags of what was removed.

    Raises:
        NotFound: it does not exist.
        StoreFailed: the store cannot be written.
    """
    return Store(BUNDLES).delete(tag.tag if isinstance(tag, Bundle) else tag)


def import_bundle(path: str | os.PathLike[str], input_format: str | None = None) -> Bundle:
    """Add the bundle in an archive or a folder; see `headrace.models.import_model`."""
    return _of(transfer.import_item(Store(BUNDLES), os.fspath(path), check))


def export_bundle(
    tag: str | Tag | Bundle,
    path: str | os.PathLike[str],
    output_format: str | None = None,
    *,
    overwrite: bool = False,
) -> str:
    """Write a bundle to an archive or a folder; see `headrace.models.export_model`."""
    item = get(tag)._item
    return transfer.export_item(Store(BUNDLES), item, os.fspath(path), output_format, overwrite)


def push(tag: str | Tag | Bundle, url: str) -> bool:
    """Copy a bundle to the object store at `url`; False if it was there already."""
    return Remote(url).push(get(tag)._item)


def pull(tag: str | Tag, url: str) -> Bundle:
    """Copy a bundle from the object store at `url`, and check its digests."""
    remote = Remote(url)
    return _of(remote.pull(remote.get(Tag.parse(tag)), Store(BUNDLES), check))


def _of(item: Item) -> Bundle:
    try:
        with item.held():
            return Bundle(item, BundleInfo.read(item.path))
    except InvalidModel as error:
        raise InvalidModel(f"{item}: {error.message}") from None
