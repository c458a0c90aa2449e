"""The large tensors of requests, which models read where the front process has them."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Any, Callable

from headrace.protocol.tensor import Buffer
from headrace.worker import frames
from headrace.worker.arena import Arena
from headrace.worker.frame_json import dump
from headrace.worker.frames import Kind

# Bytes that may be read in place at the same time. What exceeds them is copied, so that a model
# that keeps all it is given cannot fill the memory that all workers share.
MOST = 512 * 1024 * 1024


class _Loan(weakref.ref):  # type: ignore[type-arg]
    """A tensor that is read in place; it is over when no view of its array is left."""

    __slots__ = ("is_kept", "offset", "size")
    offset: int
    size: int
    is_kept: bool


class BorrowedTensors:
    """Hands out tensors in place, and says when they may go. Thread-safe.

    A model may keep what it is given after its call has ended: the front is told so before, and
    once more when the last view is gone. That may happen in any thread at any moment, even within
    a method of this class, so nothing waits for a lock then: `wake` is called, and the thread that
    sends the next frame calls `give_back`.
    """

    def __init__(
        self,
        arena: Arena,
        send: Callable[[bytes], None],
        wake: Callable[[], None],
        most: int = MOST,
    ) -> None:
        self._arena = arena
        # Only queues a frame: called with the lock, so that what is kept is known before it is
        # given back.
        self._send = send
        self._wake = wake
        self._most = most
        self._lock = threading.Lock()
        self._by_call: dict[int, list[_Loan]] = {}
        # By their `id`: a reference has the hash of what it refers to, and an array has none.
        self._kept: dict[int, _Loan] = {}
        self._over: deque[_Loan] = deque()
        self._size = 0

    @property
    def has_returned(self) -> bool:
        """Whether there is something to give back."""
        return bool(self._over)

    def borrow(self, call: int, offset: int, size: int) -> Buffer:
        """A tensor of a call: in place, or a copy if too much is read in place already."""
        with self._lock:
            self._settle()
            if self._size + size > self._most:
                return self._arena.fetch(offset, size)
            array = self._arena.view(offset, size)
            loan = _Loan(array, self._on_over)
            loan.offset, loan.size, loan.is_kept = offset, size, False
            self._by_call.setdefault(call, []).append(loan)
            self._size += size
            return array.data

    def end(self, call: int) -> None:
        """A call is about to end; queue a frame with those of its tensors that are kept. Hot."""
        if call not in self._by_call:
            return
        with self._lock:
            kept = []
            for loan in self._by_call.pop(call):
                # In this order: if it is over in between, that is found among those that are over.
                loan.is_kept = True
                if loan() is not None:
                    self._kept[id(loan)] = loan
                    kept.append(loan.offset)
            if kept:
                self._send(b"".join(frames.encode(Kind.KEEP, call, dump(kept))))
            self._settle()

    def give_back(self) -> None:
        """Queue a frame with the tensors that are not kept any more. Hot."""
        if self._over:
            with self._lock:
                self._settle()

    def _settle(self) -> None:
        released = []
        while self._over:
            loan = self._over.popleft()
            self._size -= loan.size
            if self._kept.pop(id(loan), None) is not None:
                released.append(loan.offset)
        if released:
            self._send(b"".join(frames.encode(Kind.RELEASE, 0, dump(released))))

    def _on_over(self, loan: Any) -> None:
        self._over.append(loan)
        # The end of its call says the rest.
        if loan.is_kept:
            self._wake()
