"""Untrusted zip files: the rules of tar archives, applied to their members."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import IO

from headrace.archives.archive import most_content, overgrown
from headrace.archives.decompression import CHUNK
from headrace.archives.members import LONGEST_NAME, Tree, parts_of
from headrace.errors import InvalidModel, LoadFailed, shorten
from headrace.settings import MIB

# Python reads the whole directory of a zip file, and each entry costs it more than in the file.
LARGEST_DIRECTORY = 64 * MIB
_END = b"PK\x05\x06"
_END_SIZE = 22
_LONGEST_COMMENT = 65_535
_END_64 = b"PK\x06\x06"
_END_64_SIZE = 56
_LOCATOR_64 = b"PK\x06\x07"
_LOCATOR_64_SIZE = 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def extract_zip(file: IO[bytes], folder: Path, most_bytes: int) -> None:
    """Check every member of a zip file, then write them to an empty folder.

    Raises:
        InvalidModel: it is damaged, or has a member that leads out of its folder.
        LoadFailed: it cannot be written.
    """
    limit = most_content(file, most_bytes)
    _check_directory(file)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            tree, declared = Tree(), 0
            for member in members:
                tree.add(_as_tar(archive, member))
                declared += member.file_size
                if declared > limit:
                    raise overgrown(limit)
            for member in members:
                limit -= _write(archive, member, folder, limit)
    except OSError as error:
        raise LoadFailed(f"it cannot be unpacked: {error.strerror or 'it is damaged'}") from error
    except LoadFailed:
        raise
    # The parsers raise whatever their innermost line raises.
    except Exception:
        raise InvalidModel("it is damaged or not a zip file") from None


def _as_tar(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tarfile.TarInfo:
    """The member as the rules for tar archives see it."""
    shown = shorten(member.filename)
    if member.flag_bits & 0x1:
        raise InvalidModel(f"its member '{shown}' is encrypted")
    if member.compress_type not in _METHODS:
        raise InvalidModel(f"its member '{shown}' is compressed by a method other than deflate")
    info = tarfile.TarInfo(member.filename)
    info.size = member.file_size
    if member.is_dir():
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(mode := member.external_attr >> 16):
        if member.file_size > LONGEST_NAME:
            raise InvalidModel(f"its member '{shown}' is a link to nowhere")
        info.type, info.linkname = tarfile.SYMTYPE, os.fsdecode(archive.read(member))
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise InvalidModel(f"its member '{shown}' is neither a file, a folder nor a link")
    return info


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, limit: int) -> int:
    """Write one member; returns its size."""
    path = folder.joinpath(*parts_of(member.filename))
    if member.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = member.external_attr >> 16
    if stat.S_ISLNK(mode):
        path.symlink_to(os.fsdecode(archive.read(member)))
        return 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    written = 0
    with archive.open(member) as content, os.fdopen(os.open(path, flags, 0o644), "wb") as file:
        while data := content.read(CHUNK):
            written += len(data)
            # A size in the directory may be wrong.
            if written > limit:
                raise overgrown(limit)
            file.write(data)
    path.chmod(mode & 0o755 | 0o600)
    return written


def _check_directory(file: IO[bytes]) -> None:
    """Refuse a directory that would fill the memory, before it is read."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _END_SIZE - _LONGEST_COMMENT)
    file.seek(start)
    tail = file.read()
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < _END_SIZE:
        raise InvalidModel("it is damaged or not a zip file")
    (directory,) = struct.unpack_from("<I", tail, place + 12)
    if tail[place - _LOCATOR_64_SIZE : place].startswith(_LOCATOR_64):
        (where,) = struct.unpack_from("<Q", tail, place - _LOCATOR_64_SIZE + 8)
        with contextlib.suppress(OSError, OverflowError, ValueError):
            file.seek(where)
            record = file.read(_END_64_SIZE)
            if record.startswith(_END_64) and len(record) == _END_64_SIZE:
                (directory,) = struct.unpack_from("<Q", record, 40)
    file.seek(0)
    if directory > LARGEST_DIRECTORY:
        raise InvalidModel(f"its directory is over {LARGEST_DIRECTORY} bytes")
