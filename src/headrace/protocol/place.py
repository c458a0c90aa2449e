"""Where a value is in a tensor, and the one form of a refusal because of its type.

Needs only the standard library, so that a worker on any Python can import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from headrace.errors import InvalidInput


def place(where: str, index: int, shape: Sequence[int] = ()) -> str:
    """Where the element `index`, row-major, is in a tensor of this shape, from 0 on.

    `where` names the input and begins the text: `input 'x', row 17,204, column 3`. A column of a
    table, shape `[N]` or `[N, 1]`, has rows only. With three dimensions or more, all but the first
    are one position: `input 'x', row 2, element [0, 3]`. A scalar has no place of its own.
    """
    if not shape:
        return where
    width = prod(shape[1:])
    row, rest = divmod(index, width) if width else (index, 0)
    parts = [where] if where else []
    parts.append(f"row {row:,}")
    if len(shape) == 2 and width != 1:
        parts.append(f"column {rest:,}")
    elif len(shape) > 2:
        inner = []
        for dim in reversed(shape[1:]):
            rest, position = divmod(rest, dim or 1)
            inner.append(position)
        parts.append(f"element {inner[::-1]}")
    return ", ".join(parts)


def refusal(where: str, index: int, shape: Sequence[int], expected: str, got: str) -> InvalidInput:
    """The error for one element that is not of its tensor's type: where, expected, got."""
    at = place(where, index, shape)
    return InvalidInput(f"{at + ': ' if at else ''}expected {expected}, got {got}")
