"""How often a test of endurance repeats itself, and what makes the machine busy meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# A few show that it works; `make test-endurance` asks for many.
ROUNDS = int(os.environ.get("HEADRACE_TEST_ROUNDS", "3"))


@contextmanager
def busy_machine() -> Iterator[None]:
    """A process for each core that computes for nothing and gives way to nobody."""
    burn = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(burn) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
