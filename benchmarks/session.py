"""How a benchmark is run: alone on the machine, and without servers left behind when it ends."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NoReturn

from benchmarks import environments, servers
from benchmarks.result_files import NoResult

LOCK = environments.ENVIRONMENTS / "lock"
# What a shell reports for a program that Ctrl-C has ended.
INTERRUPTED = 128 + signal.SIGINT
NO_RESULT = 2


def run(main: Callable[[], int], alone: bool = True) -> NoReturn:
    """Exit with the status of `main`, 2 if it has no result, or 130 after Ctrl-C.

    However it ends, its servers do too. Unless `alone` is false, another benchmark of the same user
    is refused meanwhile, because the figures of both would be wrong.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        if not Path("/proc/self/stat").exists():
            raise NoResult("processor time and memory are read from /proc, which only Linux has")
        with _turn(LOCK) if alone else nullcontext():
            status = main()
    except NoResult as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        status = NO_RESULT
    except KeyboardInterrupt:
        print("benchmarks: interrupted; its servers are stopped", file=sys.stderr)
        status = INTERRUPTED
    finally:
        servers.stop_all()
    sys.exit(status)


def count(text: str) -> int:
    """What a flag for rounds, seconds or models takes."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


@contextmanager
def _turn(lock: Path) -> Iterator[None]:
    """Hold the lock, which holds who has it.

    Raises:
        NoResult: somebody else has it, or it cannot be opened.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+")
    except OSError as error:
        raise NoResult(
            f"{lock}, which keeps two benchmarks apart, cannot be opened: {error.strerror}; "
            "XDG_CACHE_HOME names another folder"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise NoResult(
                f"another benchmark is running ({file.read()}), and both would measure each other; "
                "wait until it ends"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}: {' '.join(sys.argv)}")
        file.flush()
        yield
