"""Metrics that runtimes record; `families` is what the server's `/metrics` shows of them."""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from typing import Any

from headrace.compat.mlserver.context import model_name_var, model_version_var

# The buckets of prometheus_client's histograms, which MLServer uses.
BOUNDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25),
    *(0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, float("inf")),
)
SELDON_MODEL_NAME_LABEL = "model_name"
SELDON_MODEL_VERSION_LABEL = "model_version"
LABELS = (SELDON_MODEL_NAME_LABEL, SELDON_MODEL_VERSION_LABEL)
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")

_lock = threading.Lock()
_metrics: dict[str, Histogram] = {}


class Series:
    """The values observed for one model: counts per bucket, and the sum."""

    def __init__(self) -> None:
        self.counts = [0] * len(BOUNDS)
        self.sum = 0.0

    def observe(self, amount: float, exemplar: Any = None) -> None:
        """Add one value; exemplars are not kept."""
        amount = float(amount)
        with _lock:
            # NaN belongs to the last bucket, as it does there.
            self.counts[bisect_left(BOUNDS, amount) if amount == amount else -1] += 1
            self.sum += amount


class Histogram:
    """One metric, with a series for each model that observes values."""

    def __init__(self, name: str, description: str = "") -> None:
        self.name = name
        self.description = description
        self._series: dict[tuple[str, ...], Series] = {}

    def labels(self, *values: Any, **names: Any) -> Series:
        """The series of one `model_name` and `model_version`.

        Raises:
            ValueError: there are other labels, or not both of these.
        """
        if names:
            values = tuple(names.pop(label) for label in LABELS if label in names)
        if names or len(values) != len(LABELS):
            raise ValueError(f"the labels are {' and '.join(LABELS)}")
        with _lock:
            return self._series.setdefault(tuple(map(str, values)), Series())

    def observe(self, amount: float, exemplar: Any = None) -> None:
        """Add one value to the series of the running model; with empty labels if there is none."""
        self.labels(model_name_var.get(""), model_version_var.get("")).observe(amount)

    def family(self) -> dict[str, Any]:
        """The metric in Prometheus' terms: its name, type and samples."""
        samples: list[Any] = []
        with _lock:
            for values, series in self._series.items():
                labels = dict(zip(LABELS, values))
                total = 0
                for bound, count in zip(BOUNDS, series.counts):
                    total += count
                    le = "+Inf" if bound == BOUNDS[-1] else str(bound)
                    samples.append([self.name + "_bucket", {**labels, "le": le}, repr(total)])
                samples.append([self.name + "_count", labels, repr(total)])
                samples.append([self.name + "_sum", labels, repr(series.sum)])
        return {
            "name": self.name,
            "type": "histogram",
            "help": self.description,
            "samples": samples,
        }


def register(name: str, description: str) -> Histogram:
    """The histogram of that name, created if there is none.

    Raises:
        ValueError: the name is not a valid name of a Prometheus metric.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"'{name}' cannot be the name of a metric")
    return _metrics.setdefault(name, Histogram(name, description))


def registered(name: str) -> Histogram | None:
    """The histogram of that name, if there is one."""
    return _metrics.get(name)


def log(**metrics: float) -> None:
    """Observe one value for each histogram named; those not registered are created."""
    for name, value in metrics.items():
        register(name, name).observe(value)


def families() -> list[dict[str, Any]]:
    """All histograms of this process."""
    return [metric.family() for metric in list(_metrics.values())]
