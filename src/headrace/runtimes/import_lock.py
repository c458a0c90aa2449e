"""One import at a time, in a process whose models load and run in threads.

Python has a lock per module. Two threads that enter an import cycle from two sides each hold a
lock that the other waits for; Python detects that and lets one of them continue with a module that
is half loaded: `cannot import name 'ElasticNet' from partially initialized module`. Packages also
import late, in a first `predict` or while a pickle is read, so a lock around the loading of a
model would not be enough. This one is held from the first module that a thread imports to the last.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Callable

FindAndLoad = Callable[[str, Any], ModuleType]

# After this many seconds in which no import ends, other threads stop waiting for the one under
# way: it may itself be waiting for a thread that has to import something.
PATIENCE = 10.0


class ImportLock:
    """A reentrant lock for the whole import system that no thread waits for indefinitely.

    The main thread never waits: it runs an event loop, or accepts connections.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._lock = threading.RLock()
        # How many imports have ended. While it does not change, there is no progress.
        self._ended = 0
        # How deep the holder is in imports, its number among all holders, and the one given up on.
        self._depth = 0
        self._holder = 0
        self._stuck = -1

    def renew(self) -> None:
        """Forget the holder of the lock: a child process has none of the other threads."""
        self._lock = threading.RLock()
        self._depth = 0

    def acquire(self) -> Any:
        """Take the lock; returns what must be released, or None if the wait was given up."""
        lock = self._lock
        waits = threading.current_thread() is not threading.main_thread()
        while True:
            ended, holder = self._ended, self._holder
            patience = self._patience if waits and holder != self._stuck else 0
            if lock.acquire(timeout=patience):
                self._depth += 1
                if self._depth == 1:
                    self._holder += 1
                return lock
            if not patience:
                return None
            if (ended, holder) == (self._ended, self._holder):
                self._stuck = holder
                return None

    def release(self, lock: Any) -> None:
        """Release what `acquire` returned."""
        if lock is not None:
            self._ended += 1
            self._depth -= 1
            lock.release()

    def guard(self, find_and_load: FindAndLoad) -> FindAndLoad:
        """The same function, holding the lock."""

        def guarded(name: str, import_: Any) -> ModuleType:
            lock = self.acquire()
            try:
                return find_and_load(name, import_)
            finally:
                self.release(lock)

        return guarded

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock while changing what imports find."""
        lock = self.acquire()
        try:
            yield
        finally:
            self.release(lock)


IMPORTS = ImportLock()


def install() -> None:
    """Make every import of this process take the lock, however it is started.

    Import statements, `importlib` and `pickle` all go through `_find_and_load`, which is called
    only for modules that are not imported yet: others cost nothing. It is private, but has had its
    name and arguments since Python 3.3; without it, imports would be as safe as Python makes them.
    """
    bootstrap: Any = importlib._bootstrap
    find_and_load = getattr(bootstrap, "_find_and_load", None)
    if find_and_load is not None and not hasattr(find_and_load, "is_guarded"):
        guarded: Any = IMPORTS.guard(find_and_load)
        guarded.is_guarded = True
        # Like Python's own frames, it is then left out of tracebacks and of warnings' locations.
        file = find_and_load.__code__.co_filename
        guarded.__code__ = guarded.__code__.replace(co_filename=file)
        bootstrap._find_and_load = guarded
        os.register_at_fork(after_in_child=IMPORTS.renew)
