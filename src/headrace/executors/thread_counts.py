"""The variables that tell libraries how many threads to compute with, and how these wait."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.runtimes import openmp

# OpenBLAS, MKL, BLIS, PyTorch, scikit-learn, XGBoost, LightGBM, NumExpr and Arrow follow this one.
OPENMP = openmp.VARIABLE
# These have variables of their own only.
OTHERS = (
    "VECLIB_MAXIMUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
# OpenBLAS reads this when it is imported. Its threads spin for 2^16 cycles when they have nothing
# to do, and not for 2^26, beginning with the import.
BLAS_WAITING = {"OPENBLAS_THREAD_TIMEOUT": "16"}


def variables(environ: Mapping[str, str], processors: int, installed: int) -> dict[str, str]:
    """What to add to `environ` for a process that may use so many of the `installed` processors.

    Nothing if it may use all of them: libraries know their machine best. What is in `environ` stays
    as it is, and a number of threads of OpenMP that is there counts for the others too.
    """
    if processors >= installed:
        return {}
    count = str(openmp.thread_count(processors, environ))
    return {name: count for name in (OPENMP, *OTHERS) if not environ.get(name)}
