"""Routes that runtimes declare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

_Handler = TypeVar("_Handler", bound=Callable[..., Any])

MARK = "__custom_handler__"


class CustomHandler(NamedTuple):
    """The route that a method is declared for."""

    rest_path: str
    rest_method: str = "POST"


def custom_handler(rest_path: str, rest_method: str = "POST") -> Callable[[_Handler], _Handler]:
    """Declare a method as the handler of a route of the server."""

    def mark(handler: _Handler) -> _Handler:
        register_custom_handler(CustomHandler(rest_path, rest_method), handler)
        return handler

    return mark


def register_custom_handler(handler: CustomHandler, method: Callable[..., Any]) -> None:
    """Declare a method as the handler of that route."""
    setattr(method, MARK, handler)


def get_custom_handlers(model: object) -> list[tuple[CustomHandler, Callable[..., Any]]]:
    """The routes that the methods of a model are declared for, each with its method."""
    return [(route, getattr(model, name)) for name, route in handlers_of(model).items()]


def handlers_of(model: object) -> dict[str, CustomHandler]:
    """The routes that the methods of a model are declared for, by the names of the methods."""
    cls = type(model)
    methods = {name: getattr(cls, name, None) for name in dir(cls)}
    return {name: getattr(item, MARK) for name, item in methods.items() if hasattr(item, MARK)}
