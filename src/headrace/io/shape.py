"""Shapes of arrays with dimensions that may have any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Shape(tuple):  # type: ignore[type-arg]
    """A shape in an annotation: `Annotated[np.ndarray, Shape(-1, 4)]`; -1 stands for any size.

    Raises:
        ValueError: a dimension is not an integer, or is below -1.
    """

    def __new__(cls, *dimensions: int) -> Shape:
        return super().__new__(cls, checked_shape(dimensions))

    def __repr__(self) -> str:
        return f"Shape{tuple(self)!r}"


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape as a tuple.

    Raises:
        ValueError: a dimension is not an integer, or is below -1.
    """
    found = tuple(shape)
    for dimension in found:
        if isinstance(dimension, bool) or not hasattr(dimension, "__index__") or dimension < -1:
            raise ValueError(f"shape: expected integers of at least -1, got {dimension!r}")
    return tuple(int(dimension) for dimension in found)


def matches(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a shape is `wanted`, in which -1 stands for any size."""
    if len(shape) != len(wanted):
        return False
    return all(want in (-1, have) for have, want in zip(shape, wanted))


def nested_schema(shape: Sequence[int] | None, items: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of nested lists of this shape; None is lists of any depth."""
    if shape is None:
        return {"type": "array", "items": {}}
    schema = items
    for dimension in reversed(shape):
        schema = {"type": "array", "items": schema}
        if dimension >= 0:
            schema.update(minItems=dimension, maxItems=dimension)
    return schema
