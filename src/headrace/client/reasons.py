"""Why entries of a file failed: each reason once, with how many there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

MOST_SHOWN = 5
# Reasons beyond these are counted together: each may quote another value of the file.
MOST_KEPT = 1000
# How a server names the only row of a request; in tables, an element is a cell.
PLACE = re.compile(r", row 0(?=[\s:,])|\brow 0[:,] |(?<=: )element 0 (?=is )|^element 0: ")
NUMBER = re.compile(r"\d[\d,.]*")


# Where entries begin in their file, by line, for entries that are counted from 0.
Locate = Callable[[Iterable[int]], dict[int, int]]


class Reasons:
    """Counts reasons; those that differ in their numbers only are one.

    `noun` is what an entry is, and `locate` finds the lines that are shown.
    """

    def __init__(self, noun: str = "entry", locate: Locate | None = None) -> None:
        self.noun = noun
        self.total = 0
        self._locate = locate
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
        shown, rest = ordered[:MOST_SHOWN], ordered[MOST_SHOWN:]
        places = self._locate([at for _, at, _ in shown]) if self._locate and shown else {}
        for message, at, count in shown:
            line = f" (line {places[at]:,})" if at in places else ""
            where = f"{self.noun} {at + 1:,}{line}"
            if count > 1:
                where = f"{self.counted(count)}, the first is {where}"
            yield f"{where}: {message}"
        if rest:
            count = sum(found[2] for found in rest)
            yield f"{self.counted(count)} for {len(rest):,} other reasons"

    def counted(self, count: int) -> str:
        """So many entries, in the word of the file."""
        many = {"entry": "entries"}.get(self.noun, f"{self.noun}s")
        return f"{count:,} {many if count != 1 else self.noun}"


def without_place(message: str) -> str:
    """A message about the only row of a request: which row it is, the file knows."""
    return PLACE.sub("", message)
