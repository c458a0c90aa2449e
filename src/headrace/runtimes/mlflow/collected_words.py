"""Words of the request in hand that its model does not know and that were dropped."""

from __future__ import annotations

import threading
from collections.abc import Sequence


class CollectedWords(threading.local):
    """Collects them while a request is decoded: each is decoded by one thread, from end to end."""

    def __init__(self) -> None:
        self._words: dict[str, list[str]] = {}

    def add(self, kind: str, words: Sequence[str]) -> None:
        """Take note of words of one kind; see `headrace.protocol.mlflow.signature`."""
        self._words.setdefault(kind, []).extend(words)

    def taken(self) -> dict[str, list[str]]:
        """The words since the last call, by kind."""
        words, self._words = self._words, {}
        return words
