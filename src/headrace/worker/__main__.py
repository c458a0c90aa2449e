"""Entry point of a worker process; see `headrace.worker`."""

from __future__ import annotations

import argparse
import ctypes
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from functools import partial

from headrace import garbage
from headrace.observability import logs
from headrace.runtimes import import_lock, trust
from headrace.worker import background, forks, privileges
from headrace.worker.front_connection import Connection
from headrace.worker.host import ModelHost

logger = logging.getLogger("headrace.worker")

PR_SET_PDEATHSIG = 1


def main() -> int:
    """Accept front processes on the inherited socket until one asks to stop or none is left."""
    parser = argparse.ArgumentParser(prog="headrace.worker")
    parser.add_argument("--fd", type=int, required=True, help="inherited listening socket")
    parser.add_argument("--parent", type=int, required=True, help="process to die with")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", default="text")
    parser.add_argument("--background", action="store_true", help="give way to other processes")
    privileges.add_flags(parser)
    parser.add_argument("--import", dest="imports", action="append", help="import at once")
    arguments = parser.parse_args()
    # What a model prints appears at once, although standard output is a pipe.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    logs.configure(arguments.log_level, arguments.log_format)
    _die_with_parent(arguments.parent)
    if arguments.only_formats:
        trust.forbid_pickles()
    if arguments.background:
        # Before there are other threads.
        background.give_way()
    else:
        background.give_way_to_server()
    # The server decides when a worker stops: a signal to the whole group must not kill it first.
    # Handlers, not SIG_IGN, so that programs started by a model get the default back.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    forks.end_when_told()
    import_lock.install()
    if arguments.imports:
        target = partial(_import, arguments.imports)
        threading.Thread(target=target, name="imports", daemon=True).start()
    # Model threads that hold the GIL must not keep the reading threads waiting for long.
    sys.setswitchinterval(0.001)
    _accept(socket.socket(fileno=arguments.fd), ModelHost())
    return 0


def _import(modules: list[str]) -> None:
    """Import what a model will need, so that this does not wait for the server."""
    with garbage.sparing_imports():
        for module in modules:
            try:
                importlib.import_module(module)
            except ModuleNotFoundError:
                # The load will say which package to install.
                return
            except Exception:
                # A second try may fail for another reason, and hide this one.
                logger.exception("importing %s failed", module)


def _accept(listener: socket.socket, host: ModelHost) -> None:
    lock = threading.Lock()
    connected = 0

    def serve(sock: socket.socket) -> None:
        nonlocal connected
        stop, status = True, 0
        try:
            stop = Connection(sock, host).serve()
        except Exception:
            logger.exception("the connection to a front process failed")
            status = 1
        with lock:
            connected -= 1
            last = connected == 0
        if stop or last:
            # Model threads may be deep in native code; nothing here needs a clean exit.
            os._exit(status)

    while True:
        sock, _ = listener.accept()
        with lock:
            connected += 1
        threading.Thread(target=serve, args=(sock,), name="front", daemon=True).start()


def _die_with_parent(parent: int) -> None:
    """Ask the kernel for a SIGKILL when the parent dies; elsewhere the closed socket shows it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
