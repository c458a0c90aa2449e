"""What is counted of a canary and of its stable version, and whether it ends the canary.

The counts are of the canary's present step, so that a version that was fine with a few requests
cannot hide behind them.
"""

from __future__ import annotations

from math import log2

from headrace.sources.follow import Rollback

# Bounds of latencies in seconds, and buckets for each doubling: percentiles are 9 % exact.
SHORTEST = 1e-5
LONGEST = 1000.0
FINENESS = 8
_BUCKETS = int(log2(LONGEST / SHORTEST) * FINENESS) + 2
# After every such part of `min_requests`, percentiles are compared again; the stable version needs
# so many requests before they are.
_PART = 10


class Latencies:
    """Counts of latencies in buckets that grow by a constant factor; about 200 of them."""

    __slots__ = ("_counts", "count")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0

    def add(self, seconds: float) -> None:
        at = int(log2(seconds / SHORTEST) * FINENESS) + 1 if seconds > SHORTEST else 0
        self._counts[min(at, _BUCKETS - 1)] += 1
        self.count += 1

    def percentile(self, part: float) -> float:
        """The latency in seconds that this part of the requests did not exceed; 0 if none."""
        left = part * self.count
        for at, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return SHORTEST * 2.0 ** (at / FINENESS) if self.count else 0.0
        return LONGEST


class Evidence:
    """The requests of one step of a canary.

    `requests` are those that the canary got; `failures` are those among them that it failed by its
    own fault, by the kind of error. `agreed` and `disagreed` count compared answers.
    """

    def __init__(self, rules: Rollback, stable: Latencies | None = None) -> None:
        self._rules = rules
        self.requests = 0
        self.failures: dict[str, int] = {}
        self.canary = Latencies()
        self.stable = stable if stable is not None else Latencies()
        self.agreed = 0
        self.disagreed = 0

    @property
    def failed(self) -> int:
        """The requests that the canary failed, of whatever kind."""
        return sum(self.failures.values())

    def fail(self, kind: str) -> str:
        """Count a request that the canary failed; returns why that ends it, or ""."""
        self.requests += 1
        self.failures[kind] = self.failures.get(kind, 0) + 1
        return self._by_errors()

    def answer(self, seconds: float) -> str:
        """Count a request that the canary answered; returns why that ends it, or ""."""
        self.requests += 1
        self.canary.add(seconds)
        return self._by_errors() or self._by_latency()

    def compare(self, agreed: bool) -> str:
        """Count two answers that were compared; returns why that ends the canary, or ""."""
        if agreed:
            self.agreed += 1
        else:
            self.disagreed += 1
        rules, compared = self._rules, self.agreed + self.disagreed
        if rules.disagreement is None or compared < rules.min_requests:
            return ""
        if self.disagreed <= rules.disagreement * compared:
            return ""
        return (
            f"{self.disagreed} of {compared} compared answers differ, "
            f"more than {rules.disagreement:.3g} of them"
        )

    def _by_errors(self) -> str:
        rules = self._rules
        if rules.error_rate is None or self.requests < rules.min_requests or not self.failures:
            return ""
        failed = self.failed
        if failed <= rules.error_rate * self.requests:
            return ""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.failures.items()))
        return (
            f"{failed} of {self.requests} requests failed, more than {rules.error_rate:.3g} of "
            f"them: {kinds}"
        )

    def _by_latency(self) -> str:
        rules, answered = self._rules, self.canary.count
        if rules.p99_ratio is None or answered < rules.min_requests:
            return ""
        part = max(1, rules.min_requests // _PART)
        if self.stable.count < part or (answered - rules.min_requests) % part:
            return ""
        own, others = self.canary.percentile(0.99), self.stable.percentile(0.99)
        if own <= rules.p99_ratio * others:
            return ""
        return (
            f"the 99th percentile of its latency is {own * 1000:.3g} ms, more than "
            f"{rules.p99_ratio:.3g} times the stable version's {others * 1000:.3g} ms"
        )
