"""Folders in the making and folders on their way out, each held by the process that works on it.

What a process leaves behind when it is killed is removed by the next one that changes the store.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.archives.walking import resolved, walk
from headrace.errors import InvalidInput, StoreFailed, shorten

FULL = (errno.ENOSPC, errno.EDQUOT)
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


class Staging:
    """The folder `.staging` of a store, and the lock under which the store is changed.

    No name of an item begins with a dot, so it is never taken for one.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / ".staging"

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep all other processes and threads from changing the store."""
        with _locked(self._root / ".lock"):
            yield

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A new empty folder; what is left of it is removed at the end, or after a crash."""
        with failures("the store"):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
        path = self._folder / secrets.token_hex(8)
        guard = path.with_suffix(".lock")
        with contextlib.ExitStack() as stack:
            try:
                # Under the store's lock, or it would look abandoned before it is locked.
                with failures("the store"), self.changing():
                    stack.enter_context(_locked(guard))
                    path.mkdir()
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
                # Where nothing can be written, that is what is raised; or the next one sweeps.
                with contextlib.suppress(OSError):
                    guard.unlink()

    def _sweep(self) -> None:
        """Remove what killed processes have left."""
        for guard in sorted(self._folder.glob("*.lock")):
            with self.changing():
                file = _taken(guard)
            if file is None:
                continue
            try:
                shutil.rmtree(guard.with_suffix(""), ignore_errors=True)
                guard.unlink(missing_ok=True)
            finally:
                os.close(file)


@contextmanager
def failures(what: str, *, full_only: bool = False) -> Iterator[None]:
    """Turn errors of the file system into `StoreFailed`, with what can be done about them."""
    try:
        yield
    except OSError as error:
        # Raised by a library without a number, it says nothing that is sure.
        if error.errno is None or (full_only and error.errno not in FULL):
            raise
        raise failure(what, error) from error


def failure(what: str, error: OSError) -> StoreFailed:
    """The error for `what` cannot be written or read."""
    place = f" ('{error.filename}')" if error.filename else ""
    if error.errno in FULL:
        return StoreFailed(
            f"{what}: the disk is full, and nothing was kept; free some space, or set "
            f"HEADRACE_HOME to a folder on another disk{place}"
        )
    if error.errno in _UNWRITABLE:
        return StoreFailed(
            f"{what}: {error.strerror}{place}; HEADRACE_HOME names the folder of the store"
        )
    return StoreFailed(f"{what}: {error.strerror}{place}")


def settle(folder: Path) -> None:
    """Make links into files, and write everything to the disk itself.

    Raises:
        InvalidInput: a link leads out of the folder, or to a folder.
    """
    for parent, below, names in walk(folder, top_down=False):
        for name in (*below, *names):
            path = Path(parent, name)
            if path.is_symlink():
                _replace_link(path, folder)
            if path.is_file():
                sync(path)
        sync(Path(parent))


def sync(path: Path) -> None:
    """Write a file or a folder to the disk itself."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file that appears, or is replaced, at once and whole."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(path.parent)


def _replace_link(path: Path, folder: Path) -> None:
    shown = shorten(path.relative_to(folder))
    target = resolved(path)
    if not target.is_relative_to(folder.resolve()):
        raise InvalidInput(f"'{shown}' is a link out of the folder; copy what it points to")
    if not target.is_file():
        raise InvalidInput(f"'{shown}' is a link to something that is not a file; copy it")
    path.unlink()
    os.link(target, path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # Some network file systems lock only files that are open for writing.
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _taken(path: Path) -> int | None:
    """The descriptor of a lock that nobody held, now locked; None if somebody holds it."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file
