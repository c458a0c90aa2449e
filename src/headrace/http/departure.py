"""Callers who leave before their answer: their requests are withdrawn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

# In the scope of a request whose caller left, if the connection belongs to another server.
LEFT = "headrace.left"


@contextmanager
def withdrawn_with_caller(scope: Any, receive: Any) -> Iterator[None]:
    """Cancel the current task if its caller leaves."""
    connection = scope.get("headrace.connection")
    task = asyncio.current_task()
    assert task is not None, "an ASGI application runs in one"
    if connection is None:
        # Another server's connection: only the disconnect can still arrive after the body.
        watching = asyncio.ensure_future(receive())
        watching.add_done_callback(partial(_on_left, scope, task))
        try:
            yield
        finally:
            watching.cancel()
        return
    connection.on_disconnect = task.cancel
    try:
        yield
    finally:
        connection.on_disconnect = None


async def settled(scope: Any, receive: Any, future: asyncio.Future[T]) -> T:
    """The answer of a model; a caller who leaves withdraws the request."""
    connection = scope.get("headrace.connection")
    if connection is None:
        # Another server's connection: only the disconnect can still arrive after the body.
        watching = asyncio.ensure_future(receive())
        watching.add_done_callback(partial(_on_left, scope, future))
        try:
            return await future
        finally:
            watching.cancel()
            del future
    connection.on_disconnect = future.cancel
    try:
        return await future
    finally:
        connection.on_disconnect = None
        # Its error has this frame in its traceback: each would hold the other, and with it the
        # request, until the garbage is collected.
        del future


def _on_left(scope: Any, future: asyncio.Future[Any], watching: asyncio.Future[Any]) -> None:
    if not watching.cancelled() and watching.exception() is None and not future.done():
        scope[LEFT] = True
        future.cancel()


def has_left(scope: Any) -> bool:
    """Whether the caller of a request has gone."""
    connection = scope.get("headrace.connection")
    if connection is None:
        return LEFT in scope
    left: bool = connection.has_left()
    return left
