"""The folder of finished environments: for each a folder, a lock, and a record written last.

An environment without a record is half-built, whoever built it, and is never used.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from headrace.errors import LoadFailed
from headrace.settings import ServerSettings, home_folder


@dataclass(frozen=True)
class Record:
    """What is known of a finished environment: sizes in bytes, times in seconds since 1970.

    `requirements` are the first of its requirements, or the name of the tarball, and `archive`
    is the tarball's path, size and time.
    """

    python: str
    requirements: list[str] = field(default_factory=list)
    created: float = 0.0
    seconds: float = 0.0
    size: int = 0
    archive: tuple[str, int, int] | None = None


class Lock:
    """An open file descriptor with a kernel lock, which ends with its last holder.

    A child that inherits the descriptor holds the lock too, even when its parent is gone.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def open(cls, path: Path) -> Lock:
        """Open the file of a lock, without taking it."""
        # Reading is enough, so that an environment made by another user can be shared.
        return cls(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))

    def take(self, *, shared: bool) -> bool:
        """Take or change the lock now; False if somebody else's is in the way."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self.fd, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
        return True

    def release(self) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        # Closing is not enough: what an installation left running may have inherited it.
        self.release()
        os.close(self.fd)


@dataclass(frozen=True)
class Place:
    """Where the environment of one key is, whether or not it exists."""

    folder: Path

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def record_file(self) -> Path:
        """Next to the folder, where nothing that is installed or unpacked can put it."""
        return self.folder.with_name(f"{self.key}.json")

    def lock(self) -> Lock:
        """The lock of the environment: shared by those who use it, exclusive for its builder.

        Its file stays when the environment is removed: a lock on a removed file would keep
        nobody out.
        """
        return Lock.open(self.folder.with_name(f"{self.key}.lock"))

    def record(self) -> Record | None:
        """Its record; None unless it is finished and its Python still exists."""
        try:
            # Another version may share the folder, and its records may have more fields.
            record = msgspec.json.decode(self.record_file.read_bytes(), type=Record)
        except (OSError, ValueError, msgspec.DecodeError):
            return None
        return record if os.access(self.python, os.X_OK) else None

    def finish(self, record: Record) -> None:
        """Write the record, from which on the environment exists. Survives a crash."""
        draft = self.record_file.with_suffix(".draft")
        with draft.open("w") as file:
            json.dump(asdict(record), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.record_file)

    def wipe(self) -> None:
        """Remove it, finished or not; the record first. Needs the exclusive lock."""
        self.record_file.unlink(missing_ok=True)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def is_in_use(self) -> bool:
        """Whether a server uses it, or somebody makes it."""
        lock = self.lock()
        try:
            return not lock.take(shared=False)
        finally:
            lock.close()

    def mark_used(self) -> None:
        """Store the time of the last use, as that of the record's file."""
        with contextlib.suppress(OSError):
            os.utime(self.record_file)

    def last_used(self) -> float:
        """When it was used last, in seconds since 1970; 0 if it does not exist."""
        try:
            return self.record_file.stat().st_mtime
        except FileNotFoundError:
            return 0.0


class Shelf:
    """All environments that a server built or unpacked, and the cache of what it downloaded."""

    def __init__(self, settings: ServerSettings) -> None:
        chosen = settings.environments_dir
        self.folder = (Path(chosen) if chosen else home_folder() / "environments").absolute()
        # Next to the environments, so that files can be shared by links instead of copies.
        self.cache = self.folder / "cache"

    def make(self) -> None:
        """Create the folder.

        Raises:
            LoadFailed: it cannot be created.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LoadFailed(
                f"the folder of environments cannot be created: {error.strerror}; "
                "--environments-dir chooses another"
            ) from None

    def place(self, key: str) -> Place:
        return Place(self.folder / key)

    def places(self) -> Iterator[Place]:
        """Every existing environment, finished or not, by key."""
        with contextlib.suppress(FileNotFoundError):
            for file in sorted(self.folder.glob("*.lock")):
                if file.with_suffix("").is_dir():
                    yield Place(file.with_suffix(""))

    def unpacked_from(self, archive: tuple[str, int, int]) -> str | None:
        """The key of what was unpacked from that file, unless the file has changed since."""
        for place in self.places():
            record = place.record()
            if record is not None and record.archive == archive:
                return place.key
        return None

    def prune(self, place: Place, before: float) -> int | None:
        """Remove an environment that nobody uses, unless it was used after `before`.

        Returns the bytes this freed, or None if it stays. Unfinished ones are always removed.
        """
        lock = place.lock()
        try:
            if not lock.take(shared=False):
                return None
            if place.record() is not None and place.last_used() > before:
                return None
            freed = size_of(place.folder, shared=False)
            place.wipe()
            return freed
        finally:
            lock.close()


def size_of(folder: Path, *, shared: bool = True) -> int:
    """Bytes of all files in a folder, with or without those that are shared by links."""
    sizes = (file.lstat() for file in _files(folder))
    return sum(each.st_size for each in sizes if shared or each.st_nlink == 1)


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)
