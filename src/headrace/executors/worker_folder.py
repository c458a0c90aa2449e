"""The folder for temporary files that each worker has for itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "headrace-worker-"
# Seconds after which the folder of a server that lives is surely locked.
SETTLED = 60.0


class WorkerFolder:
    """A folder that only its user can read. `TMPDIR` of the worker; removed after its end.

    It stays locked for as long as this process lives, which tells `sweep` to leave it alone.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, uid: int | None = None) -> None:
        self.path = tempfile.mkdtemp(prefix=PREFIX)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if uid is not None:
            os.chown(self.path, uid, uid)

    def remove(self) -> None:
        """Remove it with all that is in it, which may take a while. Twice is fine."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def sweep() -> None:
    """Remove what servers left behind that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            _sweep(path)


def _sweep(path: Path) -> None:
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(lock)
        if time.time() - status.st_mtime > SETTLED:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
