"""The metrics of user code in this process, for the server's `/metrics`.

A family is a dict of `name`, `type`, `help` and `samples`; a sample is its name, its labels and
its value as text, which can also be NaN or infinity.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

logger = logging.getLogger("headrace.worker")

# About a megabyte; each scrape carries it all.
MOST_SAMPLES = 10_000
# prometheus_client's default collectors, which describe the process and not a model.
OF_THE_PROCESS = ("process_", "python_")

_left_out: set[str] = set()


def families() -> list[dict[str, Any]]:
    """The histograms of `mlserver.log`, its registry, and prometheus_client's default registry.

    Neither library is imported here: one that nobody has imported holds nothing.
    """
    found = []
    own = sys.modules.get("headrace.compat.mlserver.metrics")
    if own is not None:
        found += own.families()
        for registry in own.registries():
            found += _collected(registry)
    library = sys.modules.get("prometheus_client")
    if library is not None:
        found += _collected(library.REGISTRY)
    return _bounded(found)


def _collected(registry: Any) -> list[dict[str, Any]]:
    try:
        return [
            _family(metric)
            for metric in registry.collect()
            if not metric.name.startswith(OF_THE_PROCESS)
        ]
    except Exception:
        # A collector may be the user's own.
        logger.exception("the metrics of prometheus_client could not be collected")
        return []


def _family(metric: Any) -> dict[str, Any]:
    return {
        "name": metric.name,
        "type": metric.type,
        "help": metric.documentation,
        "samples": [
            [sample.name, dict(sample.labels), repr(float(sample.value))]
            for sample in metric.samples
        ],
    }


def _bounded(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = []
    count = 0
    for family in found:
        size = len(family["samples"])
        if count + size <= MOST_SAMPLES:
            count += size
            kept.append(family)
        elif family["name"] not in _left_out:
            _left_out.add(family["name"])
            logger.warning(
                "metric %s is left out: a worker shows %d samples at most",
                family["name"],
                MOST_SAMPLES,
            )
    return kept
