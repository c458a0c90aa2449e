"""One streamed answer on its way to the front process, as fast as the front takes it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing
from typing import Any, Callable

from headrace.protocol.messages import InferenceResponse

# Pieces that may be on their way before the front has taken the first.
WINDOW = 16


class Stream:
    """Sends pieces while the front grants them; each piece that is taken grants another.

    So a caller who reads slowly slows the model down, and no queue grows.
    """

    def __init__(self, send: Callable[[InferenceResponse], None]) -> None:
        self._send = send
        self._grants = threading.Semaphore(WINDOW)
        self._is_withdrawn = False

    def grant(self) -> None:
        """Allow one more piece."""
        self._grants.release()

    def withdraw(self) -> None:
        """Stop at the next piece; nobody takes them any more."""
        self._is_withdrawn = True
        self._grants.release()

    def run(self, pieces: Generator[Any, None, None]) -> None:
        """Send every piece; raises what the model raises."""
        with closing(pieces):
            for piece in pieces:
                self._grants.acquire()
                if self._is_withdrawn:
                    return
                self._send(piece)
