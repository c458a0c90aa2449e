"""Fixtures for every test; data and models are defined in the tests themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Frameworks that train in a test share the processors with other tests: their threads would spin
# for ten times as long as they compute. Workers wait like this in any case.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of data sets too large for this repository; skips if there is none."""
    folder = os.environ.get("HEADRACE_TEST_DATA")
    if not folder:
        pytest.skip("HEADRACE_TEST_DATA is not set")
    return Path(folder)
