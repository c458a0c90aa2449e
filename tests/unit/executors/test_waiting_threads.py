"""Threads that compute for a model, and wait for the next request."""

from __future__ import annotations

import os
from typing import Any

import pytest

from headrace.executors.worker_program import WorkerProgram


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT"])
def test_threads_do_not_spin_unless_the_environment_says_so(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(name, raising=False)
    assert name not in os.environ
    assert variables()[name] in ("PASSIVE", "16")

    monkeypatch.setenv(name, "given")
    assert variables()[name] == "given"


def variables() -> dict[str, Any]:
    return WorkerProgram("python").variables()
