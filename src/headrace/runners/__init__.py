"""Handles on stored models: what a service calls to predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace import lazy_modules

if TYPE_CHECKING:
    from headrace.runners.runnable import Runnable
    from headrace.runners.runner import Runner, RunnerMethod

__all__ = ["Runnable", "Runner", "RunnerMethod", "to_runner"]

# Imported when first used: a worker of models needs none of them.
_LAZY = {
    "Runnable": "headrace.runners.runnable",
    "Runner": "headrace.runners.runner",
    "RunnerMethod": "headrace.runners.runner",
}


def to_runner(model: Any, name: str = "", **options: Any) -> Runner:
    """The runner of a stored model; see `Runner` for its options."""
    from headrace.runners.runner import Runner

    return Runner(model, name=name, **options)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'headrace.runners' has no attribute '{name}'")
    return getattr(lazy_modules.imported(_LAZY[name], f"'{name}' is missing"), name)
