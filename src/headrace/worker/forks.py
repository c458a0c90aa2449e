"""Processes that models fork end when they are told to, although the worker does not."""

from __future__ import annotations

import os
import signal
import threading

_SIGNALS = {signal.SIGTERM, signal.SIGINT}


class _Forking(threading.local):
    mask: set[int]


_FORKING = _Forking()


def end_when_told() -> None:
    """Give the signals that this process passes over their defaults in those forked from it.

    A pool of `multiprocessing`, for one, ends its processes with SIGTERM. A signal that comes
    before the process is ready for it waits until it is.
    """
    os.register_at_fork(
        before=_hold_back, after_in_parent=_let_through, after_in_child=_let_through_to_child
    )


def _hold_back() -> None:
    _FORKING.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _FORKING.mask)


def _let_through_to_child() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _let_through()
