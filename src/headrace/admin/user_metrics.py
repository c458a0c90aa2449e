"""Prometheus text for what user code measures in the workers, added up over all of them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from headrace.errors import shorten

logger = logging.getLogger("headrace.http")

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
# What Prometheus adds to the name of a metric for its samples.
SUFFIXES = ("", "_total", "_bucket", "_count", "_sum", "_created", "_info")
# For these types one worker's value stands for all; values of other types are added.
ALIKE = ("info", "stateset")


class UserMetrics:
    """Merges the families of all workers; a name that is taken is left out, with one warning.

    Values live as long as the worker that holds them: a restart begins at zero, which
    Prometheus recognizes as the reset of a counter.
    """

    def __init__(self, server: Iterable[Metric]) -> None:
        self._taken: set[str] = set()
        self._warned: set[str] = set()
        self.reserve(server)

    def reserve(self, server: Iterable[Metric]) -> None:
        """Leave out what has the name of one of these."""
        self._taken |= {metric.name + suffix for metric in server for suffix in SUFFIXES}

    def render(self, workers: Iterable[list[Any]]) -> bytes:
        """The text for one list of families from each worker; see `headrace.worker.measured`."""
        registry = CollectorRegistry()
        registry.register(_Merged(self._merged(workers)))
        return generate_latest(registry)

    def _merged(self, workers: Iterable[list[Any]]) -> list[Metric]:
        found: dict[str, _Family] = {}
        for families in workers:
            for family in families:
                name = family["name"]
                if not self._is_free(name):
                    self._warn(name, "the name is taken by the server, reserved or malformed")
                elif name in found and found[name].type != family["type"]:
                    self._warn(name, "its type is not the same in every worker")
                else:
                    self._add(found, name, family)
        return [family.metric() for family in found.values()]

    def _add(self, found: dict[str, _Family], name: str, family: dict[str, Any]) -> None:
        try:
            shown = found.get(name) or _Family(family)
            shown.add(family["samples"])
        except ValueError as exc:
            # The worker's environment may have another version of the library.
            self._warn(name, shorten(exc, 100))
        else:
            found[name] = shown

    def _is_free(self, name: str) -> bool:
        return (
            NAME.fullmatch(name) is not None
            and not name.startswith("headrace_")
            and not any(name + suffix in self._taken for suffix in SUFFIXES)
        )

    def _warn(self, name: str, why: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            logger.warning("metric %s is not shown: %s", shorten(name), why)


class _Family:
    """One metric and its samples by name and labels."""

    def __init__(self, described: dict[str, Any]) -> None:
        self.type: str = described["type"]
        self._metric = Metric(described["name"], described["help"], self.type)
        self._samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def add(self, samples: list[Any]) -> None:
        """Add all samples.

        Raises:
            ValueError: one of them is not a number; none is added.
        """
        numbers = [(name, labels, float(text)) for name, labels, text in samples]
        for name, labels, number in numbers:
            # The time when a worker began to count says nothing about the sum.
            if not name.endswith("_created"):
                key = name, tuple(sorted(labels.items()))
                before = 0.0 if self.type in ALIKE else self._samples.get(key, 0.0)
                self._samples[key] = before + number

    def metric(self) -> Metric:
        """The metric with the samples that were added; called once."""
        for (name, labels), value in self._samples.items():
            self._metric.add_sample(name, dict(labels), value)
        return self._metric


class _Merged(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics
