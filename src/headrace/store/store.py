"""Items of one kind below a root folder: each version appears whole, and disappears whole.

    NAME/latest             the latest version, as text
    NAME/VERSION/...        an item: its record, its files, and their manifest

An item is made in `.staging`, written to the disk, and then renamed. Reading takes no lock, and
works where nothing can be written. `latest` is written before the version that it names appears,
and after the one that it named has gone: when it names none, the latest one is looked for, so that
it is right whenever a process ends.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import Conflict, HeadraceError, InvalidInput, InvalidModel, NotFound, listing
from headrace.store.kinds import BUNDLES, MODELS, Kind, root_of
from headrace.store.manifest import FILE as MANIFEST
from headrace.store.manifest import Manifest
from headrace.store.model_info import time_of
from headrace.store.record_yaml import read_record
from headrace.store.staging import Staging, failures, settle, sync, write_whole
from headrace.store.tag import LATEST, Tag, generated_version, is_name, is_version


@dataclass(frozen=True)
class Item:
    """One stored version: its tag, which has a version, and its folder."""

    tag: Tag
    path: Path
    kind: Kind

    def __str__(self) -> str:
        return f"{self.kind.word} '{self.tag}'"

    @property
    def creation_time(self) -> datetime.datetime:
        """When it was made, as its record says.

        Raises:
            InvalidModel: the record is wrong.
        """
        return time_of(read_record(self.path / self.kind.record))

    def manifest(self) -> Manifest | None:
        """Its manifest; None for an item that another program put there.

        Raises:
            InvalidModel: it is damaged.
        """
        return Manifest.read(self.path)

    def verify(self) -> None:
        """Compare its files with its manifest, if it has one.

        Raises:
            InvalidModel: a file is not as it was stored.
            NotFound: it was deleted meanwhile.
        """
        with self.held(), failures(str(self)):
            manifest = self.manifest()
            if manifest is not None:
                manifest.verify(self.path, str(self))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Notice that another process deletes the item while the block reads its files.

        Raises:
            NotFound: it does; what the block has read may be a part.
        """
        try:
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._deleted() from None
        try:
            yield
        except (OSError, HeadraceError) as error:
            if self._is_at(folder):
                raise
            raise self._deleted() from error
        else:
            if not self._is_at(folder):
                raise self._deleted()
        finally:
            os.close(folder)

    def _is_at(self, folder: int) -> bool:
        """Whether its path still leads to an open folder, which was not replaced by another."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(folder))
        except FileNotFoundError:
            return False

    def _deleted(self) -> NotFound:
        return NotFound(f"{self} was deleted while it was read")


@dataclass(frozen=True)
class Draft:
    """An item in the making: its tag, which has a version, and a folder to write it to."""

    tag: Tag
    path: Path


# In the class, `list` is the method.
Items = list[Item]
Tags = list[Tag]


class Store:
    """The items of one kind; `root` is by default their folder in `HEADRACE_HOME`."""

    def __init__(self, kind: Kind = MODELS, root: Path | None = None) -> None:
        self.kind = kind
        self.root = (root or root_of(kind)).absolute()
        self._staging = Staging(self.root)

    def list(self, tag: str | Tag | None = None) -> Items:
        """All items, those of a name, or the one of a tag, sorted by name and version.

        Raises:
            NotFound: there is no item of that name.
            InvalidInput: it is not a tag.
        """
        if tag is None:
            names = sorted(name for name in _folders(self.root) if is_name(name))
            return [item for name in names for item in self._versions(name)]
        wanted = Tag.parse(tag)
        found = self._versions(wanted.name)
        if not found:
            raise self._missing(wanted)
        if wanted.version is None:
            return found
        if wanted.version == LATEST:
            return [self._latest(found)]
        return [item for item in found if item.tag == wanted]

    def get(self, tag: str | Tag) -> Item:
        """The item of a tag: its version, the beginning of just one version, or the latest.

        Raises:
            NotFound: it does not exist.
            InvalidInput: it is not a tag, or several versions begin like that.
        """
        wanted = Tag.parse(tag)
        found = self._versions(wanted.name)
        if not found:
            raise self._missing(wanted)
        if wanted.is_latest:
            return self._latest(found)
        version = str(wanted.version)
        matching = [item for item in found if str(item.tag.version).startswith(version)]
        for item in matching:
            if item.tag == wanted:
                return item
        if len(matching) > 1:
            raise InvalidInput(
                f"{len(matching)} versions begin like that of '{wanted}': "
                f"{listing([str(item.tag.version) for item in matching])}"
            )
        if not matching:
            raise self._missing(wanted, found)
        return matching[0]

    def has(self, name: str) -> bool:
        """Whether there is an item of that name; text that cannot be a name is none."""
        return is_name(name) and bool(self._versions(name))

    @contextmanager
    def create(self, tag: str | Tag) -> Iterator[Draft]:
        """A folder that becomes the item of `tag` when the block ends without an exception.

        Without a version, one is made. The block has to write the record.

        Raises:
            Conflict: the version exists.
            StoreFailed: the disk is full, or the store cannot be written.
            InvalidInput: the version is reserved, or there is something that cannot be kept.
        """
        wanted = Tag.parse(tag)
        if wanted.version == LATEST:
            raise InvalidInput(
                f"'{wanted}': the version '{LATEST}' is reserved; leave it out to make one"
            )
        final = Tag(wanted.name, wanted.version or generated_version())
        if self._folder_of(final).exists():
            raise self._conflict(final)
        what = f"{self.kind.word} '{final}'"
        with self.incoming() as path:
            # Other errors of the block are its own.
            with failures(what, full_only=True):
                yield Draft(final, path)
            with failures(what):
                (path / MANIFEST).unlink(missing_ok=True)
                self._commit(Item(final, path, self.kind))

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A new empty folder on the disk of the store, which is gone when the block ends.

        Raises:
            StoreFailed: the store cannot be written.
        """
        with self._staging.folder() as path:
            yield path

    def adopt(self, folder: Path, expected: Tag | None = None) -> Item:
        """Make a folder below an `incoming` one, which has a record, the item that it describes.

        If that item exists and has the same content, nothing changes.

        Raises:
            InvalidModel: its record is wrong, or has another tag than is expected; or its files are
                not those of its manifest.
            Conflict: the version exists with another content.
            StoreFailed: the store cannot be written.
        """
        record = read_record(folder / self.kind.record)
        tag = Tag(str(record.get("name")), str(record.get("version")))
        if expected not in (None, tag):
            raise InvalidModel(f"it holds {self.kind.word} '{tag}'")
        if tag.is_latest:
            raise InvalidModel(f"'{self.kind.record}': '{tag}' has no version of its own")
        with failures(f"{self.kind.word} '{tag}'"):
            return self._commit(Item(tag, folder, self.kind), known=True)

    def delete(self, tag: str | Tag) -> Tags:
        """Remove the item of a tag, or all versions of a name; returns what was removed.

        Raises:
            NotFound: it does not exist.
            StoreFailed: the store cannot be written.
        """
        wanted = Tag.parse(tag)
        with self._staging.folder() as trash, failures(f"{self.kind.word} '{wanted}'"):
            with self._staging.changing():
                if wanted.version is None:
                    gone = self.list(wanted)
                    (self.root / wanted.name).rename(trash / wanted.name)
                else:
                    gone = [self.get(wanted)]
                    gone[0].path.rename(trash / "item")
                    self._after_removal(wanted.name, trash)
                sync(self.root)
            return [item.tag for item in gone]

    def _commit(self, draft: Item, known: bool = False) -> Item:
        """Make the item visible. Unless `known`, one of that tag must not exist."""
        if not (draft.path / self.kind.record).is_file():
            raise InvalidModel(f"{draft} has no {self.kind.record}")
        created = draft.creation_time
        stated = draft.manifest()
        (draft.path / MANIFEST).unlink(missing_ok=True)
        settle(draft.path)
        manifest = Manifest.of_folder(draft.path, f"storing {draft.tag}")
        if stated is not None and stated.digest != manifest.digest:
            raise InvalidModel(f"{draft}: its files are not those of its manifest")
        write_whole(draft.path / MANIFEST, manifest.to_bytes())
        final = Item(draft.tag, self._folder_of(draft.tag), self.kind)
        with self._staging.changing():
            if known and self._is_same(final, manifest):
                return final
            # An empty folder is replaced; one that is not may hold something of value.
            if final.path.exists() and any(final.path.iterdir()):
                raise self._conflict(draft.tag)
            self._show(draft, created)
        return final

    def _show(self, draft: Item, created: datetime.datetime) -> None:
        """Move a finished item to its place. Needs the lock."""
        final = self._folder_of(draft.tag)
        final.parent.mkdir(exist_ok=True)
        try:
            others = self._versions(draft.tag.name)
            # A second tag has the time of the first, and leaves it the latest.
            if not others or created > _age(self._latest(others))[0]:
                self._write_latest(draft.tag)
            os.rename(draft.path, final)
        except BaseException:
            if not self._versions(draft.tag.name):
                (final.parent / LATEST).unlink(missing_ok=True)
                # Only an empty folder can be removed like this.
                with contextlib.suppress(OSError):
                    final.parent.rmdir()
            raise
        sync(final.parent)
        sync(self.root)

    def _is_same(self, item: Item, manifest: Manifest) -> bool:
        if not (item.path / self.kind.record).is_file():
            return False
        stored = item.manifest()
        if stored is None:
            stored = Manifest.of_folder(item.path, f"reading {item.tag}")
        return stored.digest == manifest.digest

    def _after_removal(self, name: str, trash: Path) -> None:
        folder = self.root / name
        left = self._versions(name)
        if left:
            self._write_latest(self._latest(left).tag)
        elif not list(_folders(folder)):
            folder.rename(trash / name)

    def _write_latest(self, tag: Tag) -> None:
        write_whole(self.root / tag.name / LATEST, str(tag.version).encode())

    def _latest(self, items: Items) -> Item:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            named = (items[0].path.parent / LATEST).read_text().strip()
            for item in items:
                if item.tag.version == named:
                    return item
        return max(items, key=_age)

    def _versions(self, name: str) -> Items:
        folder = self.root / name
        items = [
            Item(Tag(name, version), folder / version, self.kind)
            for version in _folders(folder)
            if is_version(version) and (folder / version / self.kind.record).is_file()
        ]
        return sorted(items, key=lambda item: item.tag)

    def _folder_of(self, tag: Tag) -> Path:
        return self.root / tag.name / str(tag.version)

    def _conflict(self, tag: Tag) -> Conflict:
        whole = (self._folder_of(tag) / self.kind.record).is_file()
        state = "exists" if whole else "has a folder without a record, which is in the way"
        return Conflict(
            f"{self.kind.word} '{tag}' {state}; delete it first, or choose another version"
        )

    def _missing(self, tag: Tag, others: Items | None = None) -> NotFound:
        there = [str(item.tag.version) for item in others or ()]
        hint = f"its versions are {listing(there)}" if there else "there is none of that name"
        hint += "".join(
            f", but a {kind.word}"
            for kind in (MODELS, BUNDLES)
            if not there and kind is not self.kind and Store(kind).has(tag.name)
        )
        return NotFound(
            f"{self.kind.word} '{tag}' is not in the store: {hint}; `headrace {self.kind.folder} "
            "list` shows what is, and `pull` and `import` bring more"
        )


def item_at(path: Path) -> Item | None:
    """The item that a file or folder belongs to; None if it is outside the stores."""
    for kind in (MODELS, BUNDLES):
        root = root_of(kind)
        if path.is_relative_to(root):
            name, version, *_ = (*path.relative_to(root).parts, "", "")
            folder = root / name / version
            if is_name(name) and is_version(version) and (folder / kind.record).is_file():
                return Item(Tag(name, version), folder, kind)
    return None


def _age(item: Item) -> tuple[datetime.datetime, str]:
    try:
        created = item.creation_time
    except InvalidModel:
        # Broken from outside; it must not hide the sound ones.
        created = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    return created, str(item.tag.version)


def _folders(folder: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        yield from (entry.name for entry in found if entry.is_dir())
