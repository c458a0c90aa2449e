"""Compares the answers of two servers to the same request."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

# An id that the server made, unless the request had one.
OWN = {"id"}
# Lists models in any order: MLServer's is that of its file system.
INDEX = "/v2/repository/index"


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Where `found` first differs from `expected`, in words; empty if it does not.

    Both have the `request`, its `status` and its `answer`. Numbers may differ in their last digits.
    """
    if found["status"] != expected["status"]:
        return f"{found['status']} in place of {expected['status']}: {found['answer']}"
    answers = [found["answer"], expected["answer"]]
    if expected["request"].endswith(INDEX):
        answers = [sorted(models, key=lambda model: model["name"]) for models in answers]
    return next(_differences(*answers, "answer"), "")


def _differences(found: Any, expected: Any, where: str) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted((found.keys() | expected.keys()) - OWN):
            inner = f"{where}.{key}"
            if key not in found or key not in expected:
                yield f"{inner}: {_told(found, key)} in place of {_told(expected, key)}"
            else:
                yield from _differences(found[key], expected[key], inner)
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for at, pair in enumerate(zip(found, expected, strict=True)):
            yield from _differences(*pair, f"{where}[{at}]")
    elif not _same(found, expected):
        yield f"{where}: {found!r} in place of {expected!r}"


def _same(found: Any, expected: Any) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-6)
    return type(found) is type(expected) and bool(found == expected)


def _told(value: dict[str, Any], key: str) -> str:
    return repr(value[key]) if key in value else "nothing"
