"""The version that `/version` answers, a route of MLflow's scoring server."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

from headrace import __version__

# MLflow's distributions that can serve models.
DISTRIBUTIONS = ("mlflow", "mlflow-skinny")


@cache
def scoring_version() -> str:
    """MLflow's version where it is installed beside the server, and otherwise Headrace's.

    MLflow's clients compare it with their own. It is read from the metadata of the package, which
    imports nothing of it.
    """
    for distribution in DISTRIBUTIONS:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return __version__
