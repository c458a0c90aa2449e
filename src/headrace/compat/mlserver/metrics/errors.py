"""The exceptions of `mlserver.metrics.errors`."""

from __future__ import annotations

from headrace.compat.mlserver.errors import MLServerError


class InvalidModelContext(MLServerError):
    """A metric has no model to belong to; nothing raises it here."""

    def __init__(self) -> None:
        super().__init__("metrics are recorded while a model runs", 500)


class MetricNotFound(MLServerError):
    """There is no metric of that name."""

    def __init__(self, metric_name: str) -> None:
        super().__init__(f"No metric found with name '{metric_name}'", 500)
