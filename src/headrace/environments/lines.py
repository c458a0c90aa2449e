"""Lines of pip's requirement files, with the files they refer to."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement, Requirement

from headrace.archives.walking import resolved
from headrace.errors import InvalidModel, shorten
from headrace.settings import MIB

LARGEST_FILE = 1 * MIB
MOST_FILES = 64
MOST_LINES = 10_000
# Of a project's folder; changes to further files go unnoticed.
MOST_PROJECT_FILES = 10_000

_COMMENT = re.compile(r"(^|\s)#.*$")
_OPTION = re.compile(r"(--?[A-Za-z][\w-]*)(?:\s*=\s*|\s+)?(.*)$")
_INCLUDE = ("-r", "--requirement")
_CONSTRAIN = ("-c", "--constraint")
_EDITABLE = ("-e", "--editable")
_FIND_LINKS = ("-f", "--find-links")
_SHORT = re.compile(r"^(-[rcef])(?=[^\s=])")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ARCHIVES = (".whl", ".tar.gz", ".zip")
# What follows a requirement on its line, such as `--hash=sha256:...`.
_TRAILING = re.compile(r"\s+--.*$")


@dataclass(frozen=True)
class Line:
    """One line after all includes are resolved.

    `text` is the line as written, `install` the same with absolute paths. `requirement` is None
    for options and for whatever names no package. `content` differs if the content of a file
    that the line names does. `is_option` lines install nothing themselves.
    """

    text: str
    install: str
    requirement: Requirement | None = None
    content: str = ""
    is_option: bool = False


def parse(lines: Iterable[str], folder: Path, root: Path | None = None) -> list[Line]:
    """The lines, with included files in place; paths are relative to `folder`.

    Raises:
        InvalidModel: an included file cannot be read or is outside of `root`, or there are too
            many files or lines.
    """
    return _Reader(root).parse(lines, folder)


def read(file: Path, root: Path | None = None) -> list[Line]:
    """The lines of a requirements file and of what it includes.

    Raises:
        InvalidModel: as `parse`; or the file cannot be read.
    """
    return _Reader(root).include(file)


def read_text(file: Path) -> str:
    """A small text file.

    Raises:
        InvalidModel: it is missing, too large or not text.
    """
    shown = shorten(file.name)
    # Reading from a pipe or a device might never end.
    if file.exists() and not file.is_file():
        raise InvalidModel(f"'{shown}' is not a file")
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise InvalidModel(f"'{shown}' is larger than {LARGEST_FILE} bytes")
        # Redirected output of Windows' PowerShell is UTF-16, which pip reads too.
        is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return data.decode("utf-16" if is_wide else "utf-8-sig")
    except OSError as error:
        raise InvalidModel(f"'{shown}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidModel(f"'{shown}' is not UTF-8 text") from None


class _Reader:
    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._seen: set[Path] = set()
        self._count = 0

    def include(self, file: Path) -> list[Line]:
        # Including a file twice is harmless, and so is a cycle.
        if resolved(file) in self._seen:
            return []
        self._seen.add(resolved(file))
        if len(self._seen) > MOST_FILES:
            raise InvalidModel(f"its requirements include more than {MOST_FILES} files")
        return self.parse(read_text(file).splitlines(), file.parent, shorten(file.name))

    def parse(self, lines: Iterable[str], folder: Path, file: str = "") -> list[Line]:
        found: list[Line] = []
        for number, text in _logical(lines):
            self._count += 1
            if self._count > MOST_LINES:
                raise InvalidModel(f"its requirements have more than {MOST_LINES} lines")
            # It may be any file that the server can read, so its lines are not shown.
            shown = f"line {number} of '{file}'" if file else f"'{shorten(text)}'"
            if not text.isprintable():
                raise InvalidModel(f"{shown} has characters that no requirement has")
            option, value = _option(text)
            if option in _INCLUDE and not _URL.match(value):
                if self._root and not resolved(folder / value).is_relative_to(resolved(self._root)):
                    raise InvalidModel(f"{shown} includes a file that is outside the folder")
                found += self.include(folder / value)
            else:
                found.append(_line(text, option, value, folder, shown))
        return found


def _logical(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines without comments, continued ones joined; each with the number of its last line."""
    held = ""
    number = 0
    for number, line in enumerate(lines, 1):
        text = held + _COMMENT.sub("", line).strip().replace("\t", " ")
        if text.endswith("\\"):
            held = text[:-1].rstrip() + " "
            continue
        held = ""
        if text:
            yield number, text
    if held.strip():
        yield number, held.strip()


def _option(text: str) -> tuple[str, str]:
    """The option a line consists of and its value, unquoted; both empty for a requirement."""
    match = _OPTION.match(_SHORT.sub(r"\1 ", text, count=1)) if text.startswith("-") else None
    return (match[1], match[2].strip().strip("\"'")) if match else ("", "")


def _line(text: str, option: str, value: str, folder: Path, shown: str) -> Line:
    if option in _CONSTRAIN + _FIND_LINKS and not _URL.match(value):
        path = folder / value
        return Line(text, f"{option} {path}", None, _offer(option, path, value), True)
    if option in _EDITABLE and not _URL.match(value):
        path = folder / value.partition("[")[0]
        # The environment will point to the project's folder.
        return Line(text, f"{option} {folder / value}", None, f"{_digest(path)} {path}")
    if option:
        return Line(text, text, None, "", option not in _INCLUDE + _EDITABLE)
    return _requirement(text, folder, shown)


def _offer(option: str, path: Path, value: str) -> str:
    """What distinguishes two files of constraints, or two folders that packages come from."""
    if option in _CONSTRAIN:
        return _digest(path)
    # Like an index, a folder is known by its path, unless that is relative to the model.
    if Path(value).is_absolute() or not path.is_dir():
        return ""
    with os.scandir(path) as entries:
        offered = sorted(
            (entry.name, entry.stat(follow_symlinks=False).st_size) for entry in entries
        )
    return hashlib.sha256(repr(offered).encode("utf-8", "surrogateescape")).hexdigest()


def _requirement(text: str, folder: Path, shown: str) -> Line:
    try:
        requirement = Requirement(_TRAILING.sub("", text))
    except InvalidRequirement:
        requirement = None
    url = text if _URL.match(text) else (requirement.url if requirement else None) or ""
    if url.startswith("file:"):
        path = Path(unquote(url.removeprefix("file://").partition("#")[0]))
        return Line(text, text, requirement, _digest(path))
    if url:
        return Line(text, text, requirement)
    # If the text parses as a name, only an archive counts: a folder may be called `numpy`.
    path = folder / text.partition(" ;")[0].partition("[")[0].strip()
    if requirement is None or (text.endswith(_ARCHIVES) and path.is_file()):
        if not path.exists():
            raise InvalidModel(f"{shown} is neither a valid requirement nor a file")
        return Line(text, str(folder / text), None, _digest(path))
    return Line(text, text, requirement)


def _digest(path: Path) -> str:
    """What changes when the file, or a file of the project's folder, changes."""
    shown = shorten(path.name)
    try:
        if path.is_dir():
            return _project_digest(path)
        # A device, such as one of endless zeros, has no content.
        if path.exists() and not path.is_file():
            raise InvalidModel(f"'{shown}', which its requirements name, is not a file")
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise InvalidModel(f"'{shown}', which its requirements name: {error.strerror}") from None


def _project_digest(folder: Path) -> str:
    found = hashlib.sha256()
    for file in islice(_files(folder), MOST_PROJECT_FILES):
        status = file.lstat()
        entry = (str(file.relative_to(folder)), status.st_size, status.st_mtime_ns)
        found.update(repr(entry).encode())
    return found.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        yield from (Path(parent, name) for name in sorted(names))
