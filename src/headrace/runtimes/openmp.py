"""The number of threads for libraries that have no variable of their own for it."""

from __future__ import annotations

import os


def thread_count(otherwise: int) -> int:
    """The number in `OMP_NUM_THREADS`; `otherwise` if there is none.

    The server sets it for workers that may use only a part of the machine's processors.
    """
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(given) if given.isdecimal() and int(given) else otherwise
