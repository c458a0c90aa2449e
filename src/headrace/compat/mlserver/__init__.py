"""MLServer's API for custom runtimes, as of 1.7; workers offer it as `mlserver`."""

from __future__ import annotations

from headrace.compat.mlserver.metrics import log, register
from headrace.compat.mlserver.model import MLModel
from headrace.compat.mlserver.settings import ModelSettings, Settings
from headrace.compat.mlserver.version import __version__

__all__ = ["MLModel", "ModelSettings", "Settings", "__version__", "log", "register"]
