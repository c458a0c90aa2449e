"""Inference of SageMaker's multi-model endpoints: MLflow's scoring protocol below another path.

Source: Amazon SageMaker, "Custom containers contract for multi-model endpoints".
"""

from __future__ import annotations

from headrace.adapters.adapter import Route
from headrace.adapters.mlflow_scoring import MLflowScoring


class SageMaker(MLflowScoring):
    """`/invocations` names no model, and this route does. `/invocations` itself is MLflow's."""

    name = "sagemaker"
    named_at = "/models/{name}/invoke"
    routes = (Route("/models/{name}/invoke", may_stream=True),)
    error_paths = ("/models", "/models/{name}")
