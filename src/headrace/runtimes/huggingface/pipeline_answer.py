"""What a Transformers pipeline returned or raised, as rows or as an error for the caller."""

from __future__ import annotations

import re
import traceback
from typing import Any

import numpy as np

from headrace.errors import HeadraceError, InvalidInput, ModelFailed, listing, shorten

_MISFIT = re.compile(r"unexpected keyword argument|missing \d+ required positional argument")
_PACKAGE = re.compile(r"requires (?:the )?([\w.-]+)|`?(\w+)`? is (?:required|not installed)")

# These return the answer to a lone row without the list that they put around several answers.
_UNWRAPPING = {"fill-mask", "keypoint-matching"}

# A pipeline reads its input in `preprocess`, and computes and formats the answer in these.
_BEYOND_INPUT = {"forward", "_forward", "postprocess"}


def rows_of(found: Any, rows: int, task: str) -> list[Any]:
    """One value per row of the input; some pipelines unwrap the only one."""
    if task == "mask-generation":
        found = _with_pictures(found)
    if rows == 1 and task in _UNWRAPPING:
        return [found]
    if isinstance(found, list) and len(found) == rows and rows > 0:
        return found
    return [found] if rows <= 1 else list(found)


def spread(rows: list[Any], names: list[str], task: str) -> list[Any]:
    """The answer to a lone row as MLServer writes it: one text per item that the pipeline lists.

    That is how pipelines answer an input that is not in a list. MLServer passes `args` like
    that, and every other input of one element as a list of one.
    """
    if "args" not in names and task not in _UNWRAPPING:
        return rows
    (row,) = rows
    listed = isinstance(row, list) and all(isinstance(item, dict) for item in row)
    return row if listed else rows


def refusal(error: Exception, task: str, options: dict[str, Any]) -> HeadraceError | None:
    """The error that shows the caller what went wrong; None if the model itself is at fault."""
    names = listing(sorted(options)) or "none"
    if isinstance(error, HeadraceError):
        return None
    if type(error).__name__ == "PipelineException":
        return InvalidInput(f"the task '{task}' refuses the input: {shorten(error, 160)}")
    if "Tesseract" in str(error):
        return InvalidInput(
            "input 'word_boxes' is missing, and the model's environment has no pytesseract to "
            "read the image"
        )
    if isinstance(error, ImportError):
        hit = _PACKAGE.search(str(error))
        package = (hit.group(1) or hit.group(2)) if hit else error.name or "a package"
        return ModelFailed(f"the task '{task}' needs {shorten(package)}, which is not installed")
    if isinstance(error, (ValueError, TypeError, KeyError, IndexError)):
        frames = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
        if frames & _BEYOND_INPUT:
            return None
        if isinstance(error, TypeError) and _MISFIT.search(str(error)):
            return InvalidInput(
                f"the task '{task}' lacks an input, or does not take one of the options {names}"
            )
        return InvalidInput(
            f"the task '{task}' cannot take the input or the value of an option ({names}): "
            f"{type(error).__name__} was raised while it was read"
        )
    return None


def _with_pictures(found: Any) -> Any:
    """The masks as images: written out as booleans, they take hundreds of times the space."""
    if isinstance(found, list):
        return [_with_pictures(row) for row in found]
    from PIL import Image

    masks = [Image.fromarray(np.asarray(mask, np.uint8) * 255) for mask in found["masks"]]
    return {**found, "masks": masks}
