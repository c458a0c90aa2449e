"""How large and how old a batch may become, and how much may wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.batching import policy
from headrace.protocol.messages import InferenceRequest


@dataclass(frozen=True)
class BatchLimits:
    """`max_batch_size` counts rows and is inclusive; a batch is held open for `max_batch_time`
    seconds; the queue is bounded in requests and in bytes. Execution is ended `infer_timeout`
    seconds after the request arrived, however impatient its caller; None ends it at the caller's
    deadline. Requests for outputs in `unbatched` are never merged, see `policy.stays_alone`;
    `batch_sizes` has outputs whose batches are smaller than `max_batch_size`.
    """

    max_batch_size: int = 1
    max_batch_time: float = 0.0
    max_queue_size: int = 4096
    max_queue_bytes: int = 512 * 1024 * 1024
    infer_timeout: float | None = None
    unbatched: frozenset[str] = frozenset()
    batch_sizes: Mapping[str, int] = field(default_factory=dict)

    def most_rows(self, request: InferenceRequest) -> int:
        """The most rows in a batch with this request."""
        if not self.batch_sizes:
            return self.max_batch_size
        return policy.most_rows(request, self.batch_sizes, self.max_batch_size)
