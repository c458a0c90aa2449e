"""How fast a model gets through its batches while requests wait for it. Pure."""

from __future__ import annotations

# Batches before anything is concluded, and how many of the last ones the average is over.
ENOUGH = 8
REMEMBERED = 16
# A model is slow if its last few batches took so many seconds on average.
FEW = 4
SLOW = 0.005


class Pace:
    """The average time from the end of one batch to the end of the next.

    Only batches that end while requests wait are counted: between those the model was never idle.
    `took` and `is_slow` are about batches of any kind.
    """

    __slots__ = ("_average", "_batches", "_ended", "_since", "interval", "is_slow", "took")

    def __init__(self) -> None:
        self._ended = 0.0
        # Seconds that the last few batches took on average.
        self.took = 0.0
        self.is_slow = False
        self._since: float | None = None
        self._batches = 0
        self._average = 0.0
        # Seconds; 0 until enough batches have been counted.
        self.interval = 0.0

    def batch_ended(self, began: float, now: float, more_wait: bool) -> None:
        """Count a batch that ran from `began` to `now`, in seconds of any clock."""
        # One that was begun before the last one had ended has waited for it.
        self.took += (now - max(began, self._ended) - self.took) / FEW
        self._ended = now
        self.is_slow = self.took >= SLOW
        since, self._since = self._since, now if more_wait else None
        if since is None:
            # It may have had fewer rows than one that follows another, so it says little, but a
            # model that was slow for a while would otherwise seem so until requests wait for it;
            # and they are refused because it seems slow.
            if now - began < self.interval:
                self.interval = self._average = (self._average + now - began) / 2
            return
        self._batches += 1
        took = now - max(since, began)
        self._average += (took - self._average) / min(self._batches, REMEMBERED)
        if self._batches >= ENOUGH:
            self.interval = self._average

    def interrupted(self) -> None:
        """Leave out the batch that runs: it takes longer for a reason that will not recur."""
        self._since = None
