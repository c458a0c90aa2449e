"""Words in requests that their model does not know, and that are dropped as MLflow drops them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from headrace.errors import MOST_COMPARED, nearest, shorten
from headrace.observability.counters import ModelMetrics
from headrace.protocol.mlflow.scoring import KEYS
from headrace.protocol.mlflow.signature import COLUMN, PARAM, Signature

logger = logging.getLogger("headrace.scoring")

# Callers choose the words, so the memory for them is bounded; later ones are counted, not logged.
MOST_WORDS = 100
# How many comparisons one request may cost: words that are not logged with it are with a later one.
MOST_COMPARISONS = 4 * MOST_COMPARED


class PassedOver:
    """Counts the words of one model, and warns of each by name once."""

    def __init__(self, name: str, metrics: ModelMetrics) -> None:
        self._name = name
        self._metrics = metrics
        self._seen: set[tuple[str, str]] = set()

    def add(self, kind: str, words: Sequence[str], signature: Signature | None) -> None:
        """Count words of a kind, and log those that are new."""
        counts = self._metrics.passed_over
        counts[kind] = counts.get(kind, 0) + len(words)
        if len(self._seen) >= MOST_WORDS:
            return
        known = _known(kind, signature)
        left = MOST_COMPARISONS // min(max(1, len(known)), MOST_COMPARED)
        for word in words[:MOST_WORDS]:
            entry = (kind, shorten(word))
            if entry in self._seen:
                continue
            self._seen.add(entry)
            self._warn(kind, word, known)
            left -= 1
            if not left or len(self._seen) >= MOST_WORDS:
                return

    def _warn(self, kind: str, word: str, known: Sequence[str]) -> None:
        similar = nearest(word, known)
        logger.warning(
            "model '%s' takes no %s '%s': requests are scored without it%s",
            self._name,
            kind,
            shorten(word),
            f"; did the caller mean '{shorten(similar)}'?" if similar else "",
        )


def _known(kind: str, signature: Signature | None) -> Sequence[str]:
    if kind not in (COLUMN, PARAM):
        return KEYS
    if signature is None:
        return ()
    return signature.names if kind == COLUMN else signature.param_names
