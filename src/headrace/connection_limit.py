"""How many connections a server keeps open, over all its transports."""

from __future__ import annotations

import heapq
import time
from typing import Protocol

# A newcomer to a full server takes the place of an idle connection, and so many more are closed
# with it: one in sixteen.
SHARE = 16
# Seconds until idle connections are looked for again, if there was none.
PAUSE = 0.1
# Whoever has just been answered may be about to ask again. Seconds for which such a connection
# is spared if there are others.
SPARED = 1.0


class LimitedConnection(Protocol):
    """An open connection of any transport."""

    @property
    def idle_since(self) -> float | None:
        """The loop time since when nothing is being received or answered; None if something is."""

    @property
    def is_new(self) -> bool:
        """Whether no request has arrived yet."""

    def make_way(self) -> None:
        """Close; it is idle."""


class ConnectionLimit:
    """Takes `most` connections; those that have been idle for longest make way for others.

    Of those that have been idle for a moment only, the ones that have never been used come first.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: set[LimitedConnection] = set()
        self._searches_at = 0.0

    def add(self, connection: LimitedConnection) -> bool:
        """Count a connection, if there is a place for it."""
        if len(self._open) >= self.most and not self._make_room():
            return False
        self._open.add(connection)
        return True

    def remove(self, connection: LimitedConnection) -> None:
        """A connection is closed."""
        self._open.discard(connection)

    def _make_room(self) -> bool:
        now = time.monotonic()
        if now < self._searches_at:
            return False
        idle = [
            (since > now - SPARED and not each.is_new, since, id(each), each)
            for each in self._open
            if (since := each.idle_since) is not None
        ]
        if not idle:
            self._searches_at = now + PAUSE
            return False
        for *_, each in heapq.nsmallest(max(1, self.most // SHARE), idle):
            self._open.discard(each)
            each.make_way()
        return True
