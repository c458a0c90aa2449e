"""The number of threads for libraries that have no variable of their own for it."""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "OMP_NUM_THREADS"


def thread_count(otherwise: int, environ: Mapping[str, str] = os.environ) -> int:
    """The number in `OMP_NUM_THREADS`, or `otherwise` if it is not set to one.

    It may have one for each level of nesting, of which the first is meant. The server sets it for
    workers that may use only a part of the machine's processors.
    """
    given = environ.get(VARIABLE, "").split(",")[0].strip()
    return int(given) if given.isdecimal() and int(given) else otherwise
