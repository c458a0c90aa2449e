"""Untrusted tar archives: every member is checked before the first byte is written.

Both passes, the one that checks and the one that writes, apply the same checks, so that an
archive that changes in between gains nothing.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from headrace.archives.decompression import CHUNK, Abandoned, Stop, opened
from headrace.archives.members import SPARSE, Tree, parts_of
from headrace.errors import InvalidModel, LoadFailed
from headrace.settings import MIB

# Extended headers hold names and numbers. They are read whole, and global ones are kept.
LARGEST_HEADER = 128 * 1024
MOST_GLOBALS = 100
# An environment's content. Environments compress to about a quarter of their size.
MOST_BYTES = 20 * 1024 * MIB
MOST_RATIO = 100
ALWAYS_ALLOWED = 256 * MIB

_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


Visit = Callable[[tarfile.TarInfo, "IO[bytes] | None"], None]


class Archive:
    """One open archive, which may be read several times.

    Its content may have `most_bytes`, by default what an environment may have.

    Raises, in every method:
        InvalidModel: it is damaged, or has a member that leads out of its folder.
        Abandoned: `stop` was set.
    """

    def __init__(self, file: IO[bytes], stop: Stop, most_bytes: int | None = None) -> None:
        self._file = file
        self._stop = stop
        self._limit = most_content(file, MOST_BYTES if most_bytes is None else most_bytes)

    def check(self, wanted: str) -> None:
        """Read everything once and write nothing; the member `wanted` must be there."""
        if not self._walk(lambda member, content: None).has(wanted):
            raise InvalidModel(f"it has no {wanted} at its top")

    def extract(self, folder: Path) -> None:
        """Write everything into an empty folder."""
        self._walk(lambda member, content: _write(member, content, folder))

    def _walk(self, visit: Visit) -> Tree:
        stream = _Bounded(opened(self._file, self._stop), self._limit)
        tree = Tree()
        try:
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", tarinfo=_Member) as tar:
                while (member := tar.next()) is not None:
                    # A size that is too large is refused before the content is read.
                    stream.expect(member.size)
                    tree.add(member)
                    visit(member, tar.extractfile(member) if member.isreg() else None)
                    # tarfile would keep all of them.
                    tar.members.clear()  # type: ignore[attr-defined]
            # Read to the end of the file, where its checksum is.
            while stream.read(CHUNK):
                pass
        except (LoadFailed, Abandoned):
            raise
        # The parsers of five formats raise whatever their innermost line raises.
        except Exception:
            raise InvalidModel("it is damaged or not a tar archive") from None
        return tree


def most_content(file: IO[bytes], most_bytes: int) -> int:
    """How many bytes an archive may grow to, which depends on its size."""
    size = os.fstat(file.fileno()).st_size
    return min(most_bytes, max(ALWAYS_ALLOWED, MOST_RATIO * size))


def overgrown(limit: int) -> InvalidModel:
    """The error for an archive whose content is over its bound."""
    return InvalidModel(
        f"its content is over {limit} bytes: more than {MOST_RATIO} times its size, or than is "
        "ever needed"
    )


class _Bounded:
    """The uncompressed archive, up to a bound."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self._left = self._limit = limit

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, CHUNK))
        self.expect(len(data))
        self._left -= len(data)
        return data

    def expect(self, size: int) -> None:
        """Refuse if `size` more bytes would exceed the bound."""
        if size < 0:
            raise InvalidModel("it is damaged: a size in it is negative")
        if size > self._left:
            raise overgrown(self._limit)


class _Member(tarfile.TarInfo):
    """A member whose bad headers are refused before they cost memory or pass for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError:
            # Only a block of zeros ends an archive; tarfile would stop at any bad header.
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise InvalidModel("it is damaged, ends too early or is not an archive") from None

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > LARGEST_HEADER:
            raise InvalidModel(f"a header in it is over {LARGEST_HEADER} bytes")
        if len(tar.pax_headers) > MOST_GLOBALS:
            raise InvalidModel(f"it has more than {MOST_GLOBALS} global headers")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise InvalidModel(SPARSE)
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]

    def _proc_gnusparse_10(self, *arguments: object) -> None:
        raise InvalidModel(SPARSE)


def _write(member: tarfile.TarInfo, content: IO[bytes] | None, folder: Path) -> None:
    path = folder.joinpath(*parts_of(member.name))
    try:
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.issym():
            path.symlink_to(member.linkname)
        elif member.islnk():
            target = folder.joinpath(*parts_of(member.linkname))
            os.link(target, path, follow_symlinks=False)
        elif content is not None:
            _write_file(member, content, path)
    except OSError as error:
        reason = error.strerror or "it is damaged"
        raise LoadFailed(f"it cannot be unpacked: {reason}") from error


def _write_file(member: tarfile.TarInfo, content: IO[bytes], path: Path) -> None:
    # Without the bits that change who a program runs as, and always readable by its owner.
    mode = member.mode & 0o755 | 0o600
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        while data := content.read(CHUNK):
            file.write(data)
    path.chmod(mode)
    # Compiled modules are valid only if their sources keep their times.
    os.utime(path, (member.mtime, member.mtime))
