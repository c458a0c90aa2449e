"""Packs a folder into one file, byte for byte the same whenever its content is the same."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from headrace.archives.decompression import CHUNK, zstd
from headrace.archives.walking import walk

# By the end of the file's name; the longest that fits counts.
FORMATS = {
    ".tar.zst": "zst",
    ".tar.gz": "gz",
    ".tgz": "gz",
    ".tar.bz2": "bz2",
    ".tbz2": "bz2",
    ".tar.xz": "xz",
    ".txz": "xz",
    ".tar": "tar",
    ".zip": "zip",
    # BentoML's names, which are read here as well.
    ".bentomodel": "xz",
    ".bento": "xz",
}
# The time of every member, and the earliest that a zip file can hold: 1980-01-01.
TIME = 315_532_800

Advance = Callable[[int], object]


def format_of(name: str) -> str | None:
    """The format that a file of that name has; None if its end says nothing."""
    return next((form for end, form in FORMATS.items() if name.lower().endswith(end)), None)


def pack(folder: Path, file: IO[bytes], form: str, advance: Advance) -> None:
    """Write the files and folders in `folder` to `file`; `advance` is called with bytes read.

    Raises:
        MissingDependency: the format needs a library that is not installed.
    """
    members = sorted(_below(folder))
    if form == "zip":
        _pack_zip(folder, members, file, advance)
        return
    with _compressed(file, form) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        for name in members:
            path = folder / name
            info = tarfile.TarInfo(name)
            info.mtime = TIME
            if path.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
                continue
            info.size, info.mode = path.stat().st_size, _mode(path)
            with path.open("rb") as content:
                tar.addfile(info, cast(IO[bytes], _Counted(content, advance)))


def _pack_zip(folder: Path, members: list[str], file: IO[bytes], advance: Advance) -> None:
    date = datetime.fromtimestamp(TIME, UTC).timetuple()[:6]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in members:
            path = folder / name
            if path.is_dir():
                archive.writestr(zipfile.ZipInfo(name + "/", date), b"")
                continue
            info = zipfile.ZipInfo(name, date)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, _mode(path) << 16
            info.file_size = path.stat().st_size
            with path.open("rb") as content, archive.open(info, "w") as target:
                while data := content.read(CHUNK):
                    target.write(data)
                    advance(len(data))


@contextmanager
def _compressed(file: IO[bytes], form: str) -> Iterator[IO[bytes]]:
    if form == "tar":
        yield file
        return
    opened: Any
    if form == "gz":
        # Without the name and the time, which would differ.
        opened = gzip.GzipFile("", "wb", 6, file, mtime=0)
    elif form == "bz2":
        opened = bz2.BZ2File(file, "wb")
    elif form == "xz":
        opened = lzma.LZMAFile(file, "wb", preset=1)  # noqa: SIM115 - entered below
    else:
        module = zstd()
        parameter = module.CompressionParameter
        options = {parameter.compression_level: 3, parameter.checksum_flag: 1}
        opened = module.ZstdFile(file, "wb", options=options)
    with opened:
        yield opened


def _below(folder: Path) -> Iterator[str]:
    for parent, below, names in walk(folder):
        for name in (*below, *names):
            yield Path(parent, name).relative_to(folder).as_posix()


def _mode(path: Path) -> int:
    return 0o755 if os.access(path, os.X_OK) else 0o644


class _Counted:
    """A file whose reads are reported."""

    def __init__(self, file: IO[bytes], advance: Advance) -> None:
        self._file = file
        self._advance = advance

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._advance(len(data))
        return data
