"""Virtual time for what follows a registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.sources import artifacts
from support import virtual_time


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a coroutine in virtual time, with a folder of its own for what servers keep."""

    async def fetch(uri: str, *_: Any) -> artifacts.Fetched:
        return artifacts.Fetched(uri)

    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setattr(artifacts, "fetch", fetch)
    return virtual_time.run
