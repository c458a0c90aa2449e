"""The requests that wait for a model, in groups of those that may share a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from headrace.batching.entry import Entry, expired
from headrace.batching.limits import BatchLimits
from headrace.errors import Overloaded


class Group(deque[Entry]):
    """Requests that may share a batch, the oldest first, with their rows and bytes together."""

    rows = 0
    nbytes = 0


class Waiting:
    """The groups of one model, in the order of their turns; `requests`, `rows` and `nbytes` count
    what is in all of them. `nbytes` has those of requests that are held, too: of streams, whose
    requests are in memory until their last piece.
    """

    def __init__(self) -> None:
        self.groups: dict[Hashable, Group] = {}
        self.requests = 0
        self.rows = 0
        self.nbytes = 0

    def add(self, key: Hashable, entry: Entry) -> None:
        """Let a request wait in the group of this key. Hot."""
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group()
        group.append(entry)
        rows, size = entry.rows, entry.size
        group.rows += rows
        group.nbytes += size
        self.requests += 1
        self.rows += rows
        self.nbytes += size

    def require_room(self, size: int, limits: BatchLimits, now: float) -> None:
        """Refuse a request of `size` bytes for which there is no room.

        Raises:
            Overloaded: too many wait, or they hold too many bytes.
        """
        if self.requests < limits.max_queue_size and self.nbytes + size <= limits.max_queue_bytes:
            return
        self.sweep(now)
        if self.requests >= limits.max_queue_size:
            raise Overloaded(
                f"{self.requests} requests are already waiting for this model (--max-queue-size)"
            )
        self.require_bytes(size, limits, now)

    def require_bytes(self, size: int, limits: BatchLimits, now: float) -> None:
        """Refuse a request of `size` bytes if those that wait or are held have too many.

        One that is alone is never refused.

        Raises:
            Overloaded: they have.
        """
        if self.nbytes and self.nbytes + size > limits.max_queue_bytes:
            self.sweep(now)
        if self.nbytes and self.nbytes + size > limits.max_queue_bytes:
            raise Overloaded("the requests waiting for this model fill --max-queue-bytes")

    def take(self, key: Hashable, limits: BatchLimits) -> list[Entry]:
        """Take the next batch out of a group; requests that nobody waits for are dropped. Hot."""
        group = self.groups.pop(key)
        most = limits.most_rows(group[0].request)
        if group.rows <= most:
            self._leave(len(group), group.rows, group.nbytes)
            return [entry for entry in group if not entry.future.done()]
        batch: list[Entry] = []
        size = 0
        while group:
            entry = group[0]
            if batch and size + entry.rows > most:
                break
            self._remove(group.popleft(), group)
            if not entry.future.done():
                batch.append(entry)
                size += entry.rows
        if group:
            # Behind the other groups, so that each gets its turn.
            self.groups[key] = group
        return batch

    def sweep(self, now: float) -> None:
        """Fail requests whose time is over, and drop those that nobody waits for."""
        for key, group in list(self.groups.items()):
            for entry in group:
                if entry.deadline <= now and not entry.future.done():
                    entry.future.set_exception(expired())
            gone = [entry for entry in group if entry.future.done()]
            if not gone:
                continue
            for entry in gone:
                self._remove(entry, group)
            kept = Group(entry for entry in group if not entry.future.done())
            kept.rows, kept.nbytes = group.rows, group.nbytes
            if kept:
                self.groups[key] = kept
            else:
                del self.groups[key]

    def _remove(self, entry: Entry, group: Group) -> None:
        group.rows -= entry.rows
        group.nbytes -= entry.size
        self._leave(1, entry.rows, entry.size)

    def _leave(self, requests: int, rows: int, nbytes: int) -> None:
        self.requests -= requests
        self.rows -= rows
        self.nbytes -= nbytes
