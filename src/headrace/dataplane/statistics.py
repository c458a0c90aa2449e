"""What is counted for models in the form of Triton's statistics.

Source: Triton's "Statistics extension" of the Open Inference Protocol.
"""

from __future__ import annotations

import time
from typing import Any

from headrace.observability.counters import BatchCounts
from headrace.serving.served_model import ServedModel

Duration = dict[str, int]
# Of a model that has no version: perf_analyzer reads versions as numbers, and ends on an empty one.
UNVERSIONED = "1"


def model_statistics(model: ServedModel) -> dict[str, Any]:
    """The statistics of one version of a model since the server started; durations are in ns.

    `compute_input` is the time that requests took to become one batch, `compute_output` that of
    its answer to become theirs, and `compute_infer` is all between: the way to the worker and
    back, what the runtime converts, and the model. A stream is an execution of one row, and its
    `compute_infer` ends with its last piece. `last_inference` is in milliseconds since 1970.
    """
    metrics = model.metrics
    batching = metrics.batching
    sizes = batching.by_size
    requests = sum(size.requests for size in sizes.values())
    failures = sum(metrics.failures.values())
    return {
        "name": model.name,
        "version": model.version or UNVERSIONED,
        "last_inference": _last(batching),
        "inference_count": sum(size.rows for size in sizes.values()),
        "execution_count": sum(size.batches for size in sizes.values()),
        "inference_stats": {
            "success": _duration(metrics.successes, metrics.duration.total - metrics.failed_for),
            "fail": _duration(failures, metrics.failed_for),
            "queue": _duration(requests, batching.queued),
            "compute_input": _duration(requests, batching.merged),
            "compute_infer": _duration(requests, batching.computed),
            "compute_output": _duration(requests, batching.divided),
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": _duration(counts.batches, counts.merged),
                "compute_infer": _duration(counts.batches, counts.computed),
                "compute_output": _duration(counts.batches, counts.divided),
            }
            for size, counts in sorted(sizes.items())
        ],
    }


def _last(batching: BatchCounts) -> int:
    if not batching.last:
        return 0
    return int((time.time() - (time.perf_counter() - batching.last)) * 1000)


def _duration(count: int, seconds: float) -> Duration:
    return {"count": count, "ns": max(0, round(seconds * 1e9))}
