"""Routes that runtimes declare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

_Handler = TypeVar("_Handler", bound=Callable[..., Any])

MARK = "_mlserver_custom_handler"


class CustomHandler(NamedTuple):
    """The route that a method is declared for."""

    rest_path: str
    rest_method: str = "POST"


def custom_handler(rest_path: str, rest_method: str = "POST") -> Callable[[_Handler], _Handler]:
    """Declare a method as the handler of a route of the server."""

    def mark(handler: _Handler) -> _Handler:
        setattr(handler, MARK, CustomHandler(rest_path, rest_method))
        return handler

    return mark


def handlers_of(model: object) -> dict[str, CustomHandler]:
    """The routes that the methods of a model are declared for, by the names of the methods."""
    cls = type(model)
    methods = {name: getattr(cls, name, None) for name in dir(cls)}
    return {name: getattr(item, MARK) for name, item in methods.items() if hasattr(item, MARK)}
