"""Routes that runtimes declare for themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

_Handler = TypeVar("_Handler", bound=Callable[..., Any])

MARK = "_mlserver_custom_handler"


class CustomHandler(NamedTuple):
    """The route that a method was declared for."""

    rest_path: str
    rest_method: str = "POST"


def custom_handler(rest_path: str, rest_method: str = "POST") -> Callable[[_Handler], _Handler]:
    """Declare a method as the answer to a route. It is kept, but no such route is served."""

    def mark(handler: _Handler) -> _Handler:
        setattr(handler, MARK, CustomHandler(rest_path, rest_method))
        return handler

    return mark


def handlers_of(model: object) -> list[CustomHandler]:
    """The routes that the methods of a model were declared for."""
    methods = [getattr(type(model), name, None) for name in dir(type(model))]
    return [getattr(method, MARK) for method in methods if hasattr(method, MARK)]
