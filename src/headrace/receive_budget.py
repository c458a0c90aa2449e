"""The memory for what is being received, which all connections of a server share.

Back-pressure comes first: above five eighths of the budget, the oldest upload goes on alone, so
that one of them always completes and makes room. Nobody who waits is refused before its deadline,
unless there is no other way for the oldest to complete.
"""

from __future__ import annotations

from collections.abc import Callable

from headrace.errors import Overloaded

# Bytes up to which an upload is neither paused nor refused for the sake of others.
SMALL = 64 * 1024
# Bytes that a connection may bring before it hears that it is paused.
SEGMENT = 256 * 1024

# Bytes of uploads that may be left with the C library once they are freed.
LEFT_OVER = 16 * 1024 * 1024


class ReceiveBudget:
    """At most `total` bytes that have arrived, of requests that are not answered yet."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0
        # Above the first, uploads wait for the oldest; above the second, it waits for answers.
        self._calm = total * 5 // 8
        self._full = total * 6 // 8
        # What is between them is for newcomers, who have to wait; the rest is for small uploads.
        self._most = total * 7 // 8
        # The most that was held since memory was last given back.
        self._peak = 0
        # Bytes of uploads that have arrived; they are released by themselves.
        self._served = 0
        # Larger uploads that are arriving, the oldest first; each is running or paused.
        self._arriving: dict[Upload, None] = {}
        self._running: dict[Upload, None] = {}
        self._paused: dict[Upload, None] = {}

    @property
    def step(self) -> int:
        """Bytes that one upload may be allowed to send before it is asked to wait."""
        return max(SEGMENT, (self._calm - self.held) // 64)

    def leaves_memory(self) -> bool:
        """Whether much of what was held is free by now, and worth giving back; says so once."""
        if self._peak < LEFT_OVER or self.held > self._peak // 4:
            return False
        self._peak = self.held
        return True

    def error(self) -> Overloaded:
        """What an upload is refused with."""
        return Overloaded(
            f"the requests being received have more than {self.total} bytes together "
            "(--max-receive-bytes)"
        )

    def _oldest(self) -> Upload | None:
        return next(iter(self._arriving), None)

    def _hold(self, upload: Upload, size: int) -> None:
        is_large = upload.held + size > SMALL
        if is_large and upload not in self._arriving:
            self._arriving[upload] = self._running[upload] = None
        may_use_all = not is_large or upload is self._oldest()
        if self.held + size > (self.total if may_use_all else self._most):
            raise self.error()
        self.held += size
        upload.held += size
        self._peak = max(self._peak, self.held)
        if self.held > self._calm:
            self._hold_back()

    def _hold_back(self) -> None:
        oldest = self._oldest()
        for each in [each for each in self._running if each is not oldest]:
            self._pause(each)
        if self.held <= self._full or oldest is None:
            return
        if self._served:
            if oldest in self._running:
                self._pause(oldest)
        elif self.held > self._most and (newest := next(reversed(self._arriving))) is not oldest:
            # Nothing else would ever make room.
            newest.refuse(self.error())

    def _pause(self, upload: Upload) -> None:
        del self._running[upload]
        self._paused[upload] = None
        upload.has_waited = True
        upload.pause()

    def _go_on(self) -> None:
        """Let as many uploads go on as there is room for, and in any case the oldest."""
        oldest = self._oldest()
        if oldest in self._paused and (self.held <= self._full or not self._served):
            self._resume(oldest)
        room = self._calm - self.held
        while room > 0 and self._paused:
            self._resume(next(iter(self._paused)))
            room -= SEGMENT

    def _resume(self, upload: Upload) -> None:
        del self._paused[upload]
        self._running[upload] = None
        upload.resume()

    def _settle(self, upload: Upload) -> None:
        """An upload is complete, or over."""
        if upload in self._arriving:
            del self._arriving[upload]
            self._running.pop(upload, None)
            if upload in self._paused:
                del self._paused[upload]
                upload.resume()


class Upload:
    """A request as it arrives, and what it holds until it is answered.

    `pause` and `resume` control its client; `refuse` is called if it has to make room for another,
    and has to call `release`. `has_waited` says whether it was ever paused.
    """

    __slots__ = ("_budget", "_has_arrived", "has_waited", "held", "pause", "refuse", "resume")

    def __init__(
        self,
        budget: ReceiveBudget,
        pause: Callable[[], None],
        resume: Callable[[], None],
        refuse: Callable[[Overloaded], None],
    ) -> None:
        self._budget = budget
        self._has_arrived = self.has_waited = False
        self.held = 0
        self.pause = pause
        self.resume = resume
        self.refuse = refuse

    @property
    def is_paused(self) -> bool:
        """Whether its client waits because there is no room."""
        return self in self._budget._paused

    def hold(self, size: int) -> None:
        """Count bytes that have arrived.

        Raises:
            Overloaded: there is no room for them.
        """
        if self._has_arrived:
            self._has_arrived = False
            self._budget._served -= self.held
        self._budget._hold(self, size)

    def unpack(self, size: int) -> None:
        """Count bytes that were made of what has arrived.

        Raises:
            Overloaded: there is no room for them.
        """
        budget = self._budget
        if budget.held + size > budget._most:
            raise budget.error()
        budget.held += size
        self.held += size
        budget._peak = max(budget._peak, budget.held)
        if self._has_arrived:
            budget._served += size

    def arrived(self) -> None:
        """It is complete, and is held until `release`."""
        if not self._has_arrived:
            self._has_arrived = True
            self._budget._served += self.held
            self._budget._settle(self)
            self._budget._go_on()

    def release(self, kept: int = 0) -> None:
        """Stop counting all but `kept` bytes of it; with 0, it is over."""
        budget = self._budget
        freed = self.held - kept
        self.held = kept
        budget.held -= freed
        if self._has_arrived:
            budget._served -= freed
        if not kept:
            budget._settle(self)
        budget._go_on()
