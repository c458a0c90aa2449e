"""Handles on stored models: what a service calls to predict."""

from __future__ import annotations

from typing import Any

from headrace.runners.runnable import Runnable
from headrace.runners.runner import Runner, RunnerMethod

__all__ = ["Runnable", "Runner", "RunnerMethod", "to_runner"]


def to_runner(model: Any, name: str = "", **options: Any) -> Runner:
    """The runner of a stored model; see `Runner` for its options."""
    return Runner(model, name=name, **options)
