"""Why entries of a file failed: each reason once, with how many there are."""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST_SHOWN = 5
# Reasons beyond these are counted together: each may quote another value of the file.
MOST_KEPT = 1000
NUMBER = re.compile(r"\d[\d,.]*")


class Reasons:
    """Counts reasons; those that differ in their numbers only are one."""

    def __init__(self) -> None:
        self.total = 0
        self._found: dict[str, tuple[str, int, int]] = {}

    def add(self, message: str, first: int, count: int) -> None:
        """Record that entries `first`, `first + 1`, ... failed, counted from 0."""
        self.total += count
        alike = NUMBER.sub("#", message)
        if alike not in self._found and len(self._found) >= MOST_KEPT:
            alike = message = "for other reasons"
        example, at, so_far = self._found.get(alike, (message, first, 0))
        self._found[alike] = example, at, so_far + count

    def lines(self) -> Iterator[str]:
        """The most frequent reasons, for people; entries are counted from 1."""
        ordered = sorted(self._found.values(), key=lambda found: -found[2])
        for message, at, count in ordered[:MOST_SHOWN]:
            where = (
                f"entry {at + 1:,}" if count == 1 else f"{count:,} entries, the first is {at + 1:,}"
            )
            yield f"{where}: {message}"
        if rest := ordered[MOST_SHOWN:]:
            yield f"{sum(found[2] for found in rest):,} entries for {len(rest):,} other reasons"
