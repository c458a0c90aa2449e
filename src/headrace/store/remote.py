"""Copies of items in an object store that a team shares.

    NAME/VERSION/manifest.json      its manifest, written last: from then on, the item is there
    NAME/VERSION/DIGEST/...         its files, below 16 digits of what is in it

Two processes that push different contents under one tag write to different places, and the first
manifest stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from headrace.errors import (
    Conflict,
    InvalidInput,
    InvalidModel,
    LoadFailed,
    NotFound,
    StoreFailed,
    listing,
)
from headrace.store import object_store
from headrace.store.manifest import LARGEST, Manifest
from headrace.store.progress_bar import ProgressBar
from headrace.store.staging import failures
from headrace.store.store import Item, Store
from headrace.store.tag import Tag, is_name, is_version

MANIFEST = "manifest.json"
# Transfers at once; each may itself send several parts.
TRANSFERS = 4


class RemoteItem(NamedTuple):
    """A version in an object store: its tag, and its manifest."""

    tag: Tag
    manifest: Manifest

    @property
    def creation_time(self) -> str:
        """When it was made, in ISO 8601."""
        return str(self.manifest.extra.get("creation_time", ""))

    @property
    def folder(self) -> str:
        """The keys of its files begin with this."""
        return f"{self.tag.name}/{self.tag.version}/{self.manifest.digest[:16]}"


class Remote:
    """The items below a URL.

    Raises, in every method:
        MissingDependency: obstore is not installed.
        StoreFailed: the object store cannot be reached, read or written.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._store = object_store.open_url(url)

    def list(self, name: str | None = None) -> Items:
        """All items, or those of a name, sorted by name and version."""
        names = [name] if name is not None else self._below(None)
        tags = [
            Tag(each, version)
            for each in names
            if is_name(each)
            for version in self._below(each)
            if is_version(version)
        ]
        with ThreadPoolExecutor(TRANSFERS) as pool:
            found = pool.map(self._find, sorted(tags))
            return [item for item in found if item is not None]

    def get(self, tag: Tag) -> RemoteItem:
        """The item of a tag: its version, the beginning of just one version, or the latest.

        Raises:
            NotFound: it does not exist.
            InvalidInput: several versions begin like that.
        """
        if not tag.is_latest:
            exact = self._find(tag)
            if exact is not None:
                return exact
        found = self.list(tag.name)
        if tag.is_latest and found:
            return max(found, key=_age)
        matching = [each for each in found if str(each.tag.version).startswith(str(tag.version))]
        if len(matching) > 1:
            versions = [str(each.tag.version) for each in matching]
            raise InvalidInput(
                f"{len(matching)} versions begin like that of '{tag}': {listing(versions)}"
            )
        if not matching or tag.is_latest:
            raise NotFound(f"'{object_store.safe(self._url)}' has no '{tag}'")
        return matching[0]

    def push(self, item: Item) -> bool:
        """Copy an item there; False if it was there already.

        Raises:
            InvalidModel: the files of the item are not as they were stored.
            Conflict: its version is there with another content.
        """
        item.verify()
        own = item.manifest() or Manifest.of_folder(item.path, f"reading {item.tag}")
        own = replace(own, extra={"creation_time": item.creation_time.isoformat()})
        there = self._find(item.tag)
        if there is not None:
            self._require_same(there.manifest, own, item.tag)
            return False
        new = RemoteItem(item.tag, own)
        with object_store.failing(self._url):
            with item.held(), ProgressBar(f"pushing {item.tag}", own.size) as bar:
                self._each(own, lambda path: self._put(new, path, item.path / path, bar))
            key = f"{item.tag.name}/{item.tag.version}/{MANIFEST}"
            if not self._create(key, own.to_bytes()):
                winner = self._find(item.tag)
                if winner is None:
                    raise StoreFailed(f"'{item.tag}' was removed while it was pushed")
                self._require_same(winner.manifest, own, item.tag)
                return False
            keys = [f"{new.folder}/{path}" for path in own.files]
            object_store.sweep(self._store, [*keys, key])
        return True

    def pull(self, there: RemoteItem, store: Store, check: Callable[[Path], object]) -> Item:
        """Copy an item from there into a store; one that is there already stays as it is.

        `check` gets the folder with the record and raises if it is wrong.

        Raises:
            InvalidModel: its files are not those of its manifest, or its record is wrong.
            Conflict: the store has its version with another content.
        """
        with store.incoming() as folder, failures(f"{store.kind.word} '{there.tag}'"):
            content = folder / "content"
            for path in there.manifest.folders:
                (content / path).mkdir(parents=True)
            for path in there.manifest.files:
                (content / path).parent.mkdir(parents=True, exist_ok=True)
            size = there.manifest.size
            with object_store.failing(self._url), ProgressBar(f"pulling {there.tag}", size) as bar:
                self._each(there.manifest, lambda path: self._get(there, path, content / path, bar))
            try:
                check(content)
                return store.adopt(content, there.tag)
            except LoadFailed as error:
                raise type(error)(f"'{there.tag}' in the object store: {error.message}") from None

    def _each(self, manifest: Manifest, work: Any) -> None:
        with ThreadPoolExecutor(TRANSFERS) as pool:
            futures = [pool.submit(work, path) for path in manifest.files]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _put(self, item: RemoteItem, path: str, file: Path, bar: ProgressBar) -> None:
        object_store.put(self._store, f"{item.folder}/{path}", file, bar)

    def _get(self, item: RemoteItem, path: str, file: Path, bar: ProgressBar) -> None:
        entry, digest = item.manifest.files[path], hashlib.sha256()
        for data in object_store.get(self._store, f"{item.folder}/{path}", file, entry.size, bar):
            digest.update(data)
        if digest.hexdigest() != entry.sha256:
            raise InvalidModel(f"'{item.tag}': file '{path}' was changed in the object store")

    def _find(self, tag: Tag) -> RemoteItem | None:
        import obstore

        key = f"{tag.name}/{tag.version}/{MANIFEST}"
        try:
            with object_store.failing(self._url):
                if obstore.head(self._store, key)["size"] > LARGEST:
                    raise InvalidModel(f"'{tag}': its manifest is larger than {LARGEST} bytes")
                data = bytes(obstore.get(self._store, key).bytes())
        except NotFound:
            return None
        return RemoteItem(tag, Manifest.of_bytes(data))

    def _create(self, key: str, data: bytes) -> bool:
        """Write an object unless it exists; False if it does."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            obstore.put(self._store, key, data, mode="create")
        except AlreadyExistsError:
            return False
        except NotImplementedError:
            # Some servers cannot; there, the last of two that push at once wins.
            obstore.put(self._store, key, data)
        return True

    def _below(self, name: str | None) -> Names:
        import obstore

        with object_store.failing(self._url):
            found = obstore.list_with_delimiter(self._store, name)["common_prefixes"]
        return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in found)

    def _require_same(self, there: Manifest, own: Manifest, tag: Tag) -> None:
        if there.digest != own.digest:
            raise Conflict(
                f"'{object_store.safe(self._url)}' has '{tag}' with another content; push it "
                "under another version"
            )


Items = list[RemoteItem]
Names = list[str]


def _age(item: RemoteItem) -> tuple[float, str]:
    try:
        created = datetime.fromisoformat(item.creation_time).timestamp()
    except ValueError:
        created = 0.0
    return created, str(item.tag.version)
