"""One thread imports at a time, in a process whose models load and run in threads.

Python locks each module by itself. Two threads that enter a circle of packages from two sides
each hold what the other waits for; Python sees that and lets one of them go on with a module that
is half there: `cannot import name 'ElasticNet' from partially initialized module`. Packages
import late as well, in a first `predict` or while a pickle is read, so a lock around the loading
of a model would not do. This one is held from the first module that a thread asks for to the last.
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

# Seconds in which no import ends, after which the others no longer wait for the one under way: it
# may itself wait for a thread that wants to import.
PATIENCE = 10.0


class ImportLock:
    """A lock for the whole of the import system, reentrant, which nobody waits for in vain.

    The main thread never waits: it runs an event loop, or accepts connections.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._lock = threading.RLock()
        # Imports that have ended. While it does not change, nothing goes on.
        self._ended = 0
        # How deep the holder is in imports, which of all holders it is, and the one given up on.
        self._depth = 0
        self._holder = 0
        self._stuck = -1

    def renew(self) -> None:
        """Forget who holds the lock: in a child process, none of the other threads is there."""
        self._lock = threading.RLock()
        self._depth = 0

    def acquire(self) -> Any:
        """Take the lock; returns what is to be released, None when the wait was given up."""
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
        """Hold the lock for a change of what an import finds."""
        lock = self.acquire()
        try:
            yield
        finally:
            self.release(lock)


IMPORTS = ImportLock()


def install() -> None:
    """Let every import of this process take the lock, however it comes about.

    `_find_and_load` is where Python's compiler, `importlib` and `pickle` meet, and is called only
    for what is not imported yet: what is costs nothing. It is private, and has had its name and
    arguments since Python 3.3; where it were gone, imports would be as safe as Python makes them.
    """
    bootstrap: Any = importlib._bootstrap
    find_and_load = getattr(bootstrap, "_find_and_load", None)
    if find_and_load is not None and not hasattr(find_and_load, "is_guarded"):
        guarded: Any = IMPORTS.guard(find_and_load)
        guarded.is_guarded = True
        # As one of Python's own frames, which it leaves out of tracebacks and of warnings' places.
        file = find_and_load.__code__.co_filename
        guarded.__code__ = guarded.__code__.replace(co_filename=file)
        bootstrap._find_and_load = guarded
        os.register_at_fork(after_in_child=IMPORTS.renew)
