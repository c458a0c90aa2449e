"""The public modules that are imported when they are first used, and how.

Nobody needs all frameworks, and a worker has not the libraries of most.
"""

from __future__ import annotations

import importlib
from types import ModuleType

LAZY_MODULES = frozenset(
    (
        "bundles",
        "catboost",
        "io",
        "keras",
        "lightgbm",
        "mlflow",
        "models",
        "onnx",
        "picklable_model",
        "pytorch",
        "sklearn",
        "tensorflow",
        "torchscript",
        "transformers",
        "xgboost",
    )
)


def imported(path: str, missing: str) -> ModuleType:
    """A module of this package.

    Raises:
        ImportError: it is not part of this installation; the message is `missing`.
    """
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        # What the module itself needs, and where to get it, is for its own message to say.
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        raise ImportError(missing) from None
