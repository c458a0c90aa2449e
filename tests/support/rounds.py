"""How often an endurance test repeats, and what keeps the machine busy during it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# One shows that it works; `make test-endurance` asks for many.
ROUNDS = int(os.environ.get("HEADRACE_TEST_ROUNDS", "1"))


@contextmanager
def busy_machine() -> Iterator[None]:
    """Keep every core busy with a process that computes without a pause."""
    burn = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(burn) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
