"""Lists of one kind of element."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

ListElement = TypeVar("ListElement")


def is_list_of(payload: Any, instance_type: type) -> bool:
    """Whether it is a list and all its elements are of that type."""
    return isinstance(payload, list) and all(isinstance(item, instance_type) for item in payload)


def as_list(payload: Any) -> Iterator[Any]:
    """The elements, or the one value itself."""
    return iter([payload] if isinstance(payload, (str, bytes)) else payload)
