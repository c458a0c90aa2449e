"""Which XGBoost saved a file; one that is older than it loads it without a word."""

from __future__ import annotations

import logging
import os
import re
from typing import Any

logger = logging.getLogger("headrace.worker")

# The version comes last in a file, in JSON and in UBJSON.
_TAIL = 64
_IN_JSON = re.compile(rb'"version"\s*:\s*\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]\s*\}\s*$')
_IN_UBJSON = re.compile(rb"version\[#L\0{7}\x03(i.|I..|l....)(i.|I..|l....)(i.|I..|l....)\}$", re.S)


def saved_by(path: str) -> tuple[int, ...] | None:
    """The version of XGBoost that saved a file; None if the file does not say."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - _TAIL))
        tail = file.read()
    if found := _IN_JSON.search(tail):
        return tuple(map(int, found.groups()))
    if found := _IN_UBJSON.search(tail):
        return tuple(int.from_bytes(number[1:], "big", signed=True) for number in found.groups())
    return None


def warn_if_newer(path: str, xgboost: Any) -> None:
    """Log a warning if a later version than the installed one saved the file."""
    saved = saved_by(path)
    installed = tuple(map(int, re.findall(r"\d+", xgboost.__version__)[:3]))
    if saved and saved[:2] > installed[:2]:
        logger.warning(
            "%s was saved by XGBoost %s, and XGBoost %s loads it, which may pass over what it does "
            "not know; install the later one",
            os.path.basename(path),
            ".".join(map(str, saved)),
            xgboost.__version__,
        )
