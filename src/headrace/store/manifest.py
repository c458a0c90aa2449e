"""The manifest of an item: the size and the SHA-256 of each file, kept with the files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headrace.archives.members import parts_of
from headrace.archives.walking import walk
from headrace.errors import InvalidInput, InvalidModel, shorten
from headrace.settings import MIB
from headrace.store.progress_bar import ProgressBar

FILE = ".manifest.json"
LARGEST = 256 * MIB
CHUNK = 4 * MIB
# Hashing leaves the interpreter's lock alone; more would wait for the disk.
THREADS = 4


class Entry(msgspec.Struct, frozen=True):
    """One file: its size in bytes, and its SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of an item by their paths, and the folders in it that are empty."""

    files: Mapping[str, Entry]
    folders: tuple[str, ...] = ()
    # The item's creation time, so that a list of many needs no more than their manifests.
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    @property
    def digest(self) -> str:
        """The SHA-256 of everything in the item: of its paths, sizes and digests."""
        lines = [f"{entry.sha256} {entry.size} {path}" for path, entry in self.files.items()]
        lines += [f"folder {path}" for path in self.folders]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """Its JSON."""
        files = {path: msgspec.to_builtins(entry) for path, entry in sorted(self.files.items())}
        content = {"schema": 1, **self.extra, "files": files, "folders": sorted(self.folders)}
        return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def of_bytes(cls, data: bytes) -> Manifest:
        """The manifest in a JSON that may be hostile.

        Raises:
            InvalidModel: it is damaged, or has a path that leads out of the item's folder.
        """
        try:
            raw = msgspec.json.decode(data, type=_Content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidModel(f"its manifest is damaged: {shorten(error, 200)}") from None
        for path in (*raw.files, *raw.folders):
            if "/".join(parts_of(path)) != path or not path or path == FILE:
                raise InvalidModel(f"its manifest has a path '{shorten(path)}'")
        for path, entry in raw.files.items():
            if entry.size < 0 or len(entry.sha256) != 64:
                raise InvalidModel(f"its manifest is damaged at '{shorten(path)}'")
        extra = {"creation_time": raw.creation_time} if raw.creation_time else {}
        return cls(raw.files, tuple(raw.folders), extra)

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest in a folder; None if there is none.

        Raises:
            InvalidModel: it is damaged.
        """
        try:
            with (folder / FILE).open("rb") as file:
                data = file.read(LARGEST + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InvalidModel(f"its manifest cannot be read: {error.strerror}") from None
        if len(data) > LARGEST:
            raise InvalidModel(f"its manifest is larger than {LARGEST} bytes")
        return cls.of_bytes(data)

    @classmethod
    def of_folder(cls, folder: Path, what: str) -> Manifest:
        """The manifest of what is in a folder now; every file is read.

        Raises:
            InvalidInput: a name cannot be kept, or something is neither a file nor a folder.
        """
        paths, folders = [], []
        for parent, below, names in _walk(folder):
            if not below and not names and parent:
                folders.append(parent)
            paths += [f"{parent}/{name}" if parent else name for name in names]
        paths = [path for path in paths if path != FILE]
        for path in paths:
            _check_name(path)
        return cls(_hashed(folder, paths, what), tuple(folders))

    def verify(self, folder: Path, what: str) -> None:
        """Compare the files in a folder with this manifest; every file is read.

        Raises:
            InvalidModel: a file is missing, was changed, or was added; the message names it.
        """
        found = {
            f"{parent}/{name}" if parent else name: folder / parent / name
            for parent, _, names in _walk(folder)
            for name in names
        }
        found.pop(FILE, None)
        for path in found.keys() - self.files.keys():
            raise InvalidModel(f"{what}: file '{shorten(path)}' was added after it was stored")
        for path, entry in self.files.items():
            if path not in found:
                raise InvalidModel(f"{what}: file '{shorten(path)}' is missing")
            size = found[path].stat().st_size
            if size != entry.size:
                raise InvalidModel(
                    f"{what}: file '{shorten(path)}' has {size} bytes instead of {entry.size}"
                )
        for path, entry in _hashed(folder, list(self.files), f"checking {what}").items():
            if entry != self.files[path]:
                raise InvalidModel(
                    f"{what}: file '{shorten(path)}' was changed after it was stored"
                )


class _Content(msgspec.Struct):
    files: dict[str, Entry]
    folders: list[str] = []
    creation_time: str = ""


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each folder's path in `folder`, its folders and its files, in the order of their names."""

    for parent, below, names in walk(os.fspath(folder)):
        below.sort()
        path = Path(parent).relative_to(folder).as_posix()
        for name in below:
            if os.path.islink(os.path.join(parent, name)):
                raise InvalidModel(f"'{shorten(name)}' is a link to a folder")
        yield ("" if path == "." else path), list(below), sorted(names)


def _check_name(path: str) -> None:
    try:
        printable = path.encode().decode().isprintable()
        parts_of(path)
    except (UnicodeError, InvalidModel):
        printable = False
    if not printable:
        raise InvalidInput(
            f"file '{shorten(path)}': its name has characters that not every system can hold"
        )


def _hashed(folder: Path, paths: list[str], what: str) -> dict[str, Entry]:
    total = sum((folder / path).stat().st_size for path in paths)
    with ProgressBar(what, total) as bar, ThreadPoolExecutor(THREADS) as pool:
        entries = pool.map(lambda path: _entry(folder / path, path, bar), paths)
        return dict(zip(paths, entries, strict=True))


def _entry(file: Path, path: str, bar: ProgressBar) -> Entry:
    size, digest = 0, hashlib.sha256()
    # A pipe or a device might never end.
    if file.is_symlink() or not file.is_file():
        raise InvalidInput(f"'{shorten(path)}' is neither a file nor a folder")
    with file.open("rb") as opened:
        while data := opened.read(CHUNK):
            digest.update(data)
            size += len(data)
            bar.advance(len(data))
    return Entry(size, digest.hexdigest())
