"""The rules for members of an archive: nothing is, leads or points outside its folder."""

from __future__ import annotations

import os
import tarfile

from headrace.errors import InvalidModel, shorten
from headrace.settings import MIB

MOST_MEMBERS = 1_000_000
LONGEST_NAME = 4096
LONGEST_PART = 255
DEEPEST = 128
# Seconds since 1970; the system accepts far later times, but not infinity.
LATEST = 2**40
# All names and the folders above them, which are kept while an archive is read.
MOST_NAME_BYTES = 256 * MIB
SPARSE = "it has sparse files"


class Tree:
    """The members so far, and whether another may join them."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, ...], bytes] = {(): tarfile.DIRTYPE}
        self._bytes = 0
        self._count = 0

    def add(self, member: tarfile.TarInfo) -> None:
        self._count += 1
        if self._count > MOST_MEMBERS:
            raise InvalidModel(f"it has more than {MOST_MEMBERS} members")
        parts = parts_of(member.name)
        self._add_folders(parts, member)
        kind = self._kind(member, parts)
        known = self._kinds.get(parts)
        if known is not None and not known == kind == tarfile.DIRTYPE:
            raise _refusal(member, "appears twice")
        self._remember(parts, kind)

    def has(self, name: str) -> bool:
        """Whether a member of that name was added."""
        return parts_of(name) in self._kinds

    def _add_folders(self, parts: tuple[str, ...], member: tarfile.TarInfo) -> None:
        for end in range(1, len(parts)):
            known = self._kinds.get(parts[:end])
            if known is None:
                self._remember(parts[:end], tarfile.DIRTYPE)
            elif known != tarfile.DIRTYPE:
                raise _refusal(member, "is below something that is not a folder")

    def _remember(self, parts: tuple[str, ...], kind: bytes) -> None:
        if parts not in self._kinds:
            self._bytes += sum(map(len, parts)) + 64
            if self._bytes > MOST_NAME_BYTES:
                raise InvalidModel("it has too many or too long names")
        self._kinds[parts] = kind

    def _kind(self, member: tarfile.TarInfo, parts: tuple[str, ...]) -> bytes:
        if member.issparse():
            raise InvalidModel(SPARSE)
        if member.isdir():
            return tarfile.DIRTYPE
        if not parts:
            raise _refusal(member, "has no name")
        # A comparison with NaN is false.
        if not abs(member.mtime) <= LATEST:
            raise _refusal(member, "has a time that no file can have")
        if member.isreg():
            return tarfile.REGTYPE
        if member.issym():
            _check_link(member, parts)
            return tarfile.SYMTYPE
        if member.islnk():
            if self._kinds.get(parts_of(member.linkname)) != tarfile.REGTYPE:
                raise _refusal(member, "is a link to something that is not an earlier file")
            return tarfile.REGTYPE
        raise _refusal(member, "is neither a file, a folder nor a link")


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a name, as a path below the folder.

    Raises:
        InvalidModel: it leads elsewhere, or no file can have it.
    """
    shown = shorten(name)
    if name.startswith("/") or "\0" in name or len(os.fsencode(name)) > LONGEST_NAME:
        raise InvalidModel(f"it has a member '{shown}', whose name is absolute, broken or too long")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise InvalidModel(f"it has a member '{shown}', whose name leads out of the archive")
    if len(parts) > DEEPEST or any(len(os.fsencode(part)) > LONGEST_PART for part in parts):
        raise InvalidModel(f"it has a member '{shown}', whose name is too deep or too long")
    return parts


def _check_link(member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
    """Allow a link to go up first and then down, but not out.

    It is in a real folder, so that going up is what it seems. What it passes on the way down may
    be links, to which the same rule was applied.
    """
    target = member.linkname
    if not target or "\0" in target or len(os.fsencode(target)) > LONGEST_NAME:
        raise _refusal(member, "is a link to nowhere")
    if target.startswith("/"):
        raise _refusal(member, "is a link to an absolute path")
    steps = [step for step in target.split("/") if step not in ("", ".")]
    up = next((n for n, step in enumerate(steps) if step != ".."), len(steps))
    if up >= len(parts) or ".." in steps[up:]:
        raise _refusal(member, "is a link that leads, or may lead, out of the archive")


def _refusal(member: tarfile.TarInfo, reason: str) -> InvalidModel:
    return InvalidModel(f"its member '{shorten(member.name)}' {reason}")
