"""The metrics of rollouts, which servers with a canary have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace.rollouts.traffic import Traffic

LABELS = ("model", "version")


class RolloutCollector(Collector):
    """Reads what is counted for the rollout of each followed model."""

    def __init__(self, traffic: Mapping[str, Traffic]) -> None:
        self._traffic = traffic

    def describe(self) -> Iterator[Metric]:
        """The metrics that there may be, without values."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        percent = GaugeMetricFamily(
            "headrace_rollout_percent",
            "Percentage of the requests that name no version",
            labels=LABELS,
        )
        failures = CounterMetricFamily(
            "headrace_canary_failures",
            "Requests that a canary failed; the stable version answers them",
            labels=(*LABELS, "code"),
        )
        rollbacks = CounterMetricFamily(
            "headrace_rollbacks", "Canaries that a rule or somebody has ended", labels=("model",)
        )
        for name, traffic in self._traffic.items():
            if traffic.stable is not None:
                percent.add_metric([name, traffic.stable.version or ""], 100 - traffic.percent)
            if traffic.canary is not None:
                percent.add_metric([name, traffic.canary.version or ""], traffic.percent)
            for (version, code), count in traffic.failures.items():
                failures.add_metric([name, version, code], count)
            rollbacks.add_metric([name], traffic.rollbacks)
        yield from (percent, failures, rollbacks)
