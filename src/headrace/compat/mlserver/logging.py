"""The logger that runtimes import."""

from __future__ import annotations

import logging
from typing import Any

# Below `headrace`, so that it follows the level that the server was started with.
LOGGER_NAME = "headrace.mlserver"
logger = logging.getLogger(LOGGER_NAME)


def get_logger() -> logging.Logger:
    """The logger of all runtimes."""
    return logger


def configure_logger(settings: Any = None) -> logging.Logger:
    """The logger as it is: the server has configured it."""
    return logger
