"""Helpers that runtimes import from `mlserver.utils`."""

from __future__ import annotations

import asyncio
import os
import urllib.parse
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from headrace.compat.mlserver.errors import InvalidModelURI
from headrace.compat.mlserver.settings import ModelSettings
from headrace.compat.mlserver.types.dataplane import (
    InferenceRequest,
    InferenceResponse,
    Parameters,
)


async def get_model_uri(settings: ModelSettings, wellknown_filenames: Sequence[str] = ()) -> str:
    """The path of a model's artefact: a file, or a folder without any well-known file.

    URIs of other schemes are returned as they are.

    Raises:
        InvalidModelURI: none is configured, or the path does not exist.
    """
    uri = settings.parameters.uri if settings.parameters else None
    if not uri:
        raise InvalidModelURI(settings.name)
    parts = urllib.parse.urlparse(uri, scheme="file")
    if parts.scheme != "file":
        return uri
    path = to_absolute_path(settings, parts.path)
    if not (os.path.isfile(path) or os.path.isdir(path)):
        raise InvalidModelURI(settings.name, path)
    candidates = [os.path.join(path, name) for name in wellknown_filenames]
    return next(filter(os.path.isfile, candidates), path)


def to_absolute_path(model_settings: ModelSettings, uri: str) -> str:
    """A path relative to the settings file, or unchanged if there is no such file."""
    if model_settings._source is None:
        return uri
    return os.path.normpath(os.path.join(os.path.dirname(model_settings._source), uri))


def get_wrapped_method(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside all decorators that set `__wrapped__`."""
    while hasattr(f, "__wrapped__"):
        f = f.__wrapped__
    return f


def insert_headers(parametrised_obj: InferenceRequest, headers: dict[str, str]) -> InferenceRequest:
    """Put headers into the parameters of a request, in the place of those there."""
    if parametrised_obj.parameters is None:
        parametrised_obj.parameters = Parameters()
    parametrised_obj.parameters.headers = headers
    return parametrised_obj


def extract_headers(parametrised_obj: InferenceResponse) -> dict[str, str] | None:
    """Take the headers out of the parameters of an answer; None if it has none."""
    parameters = parametrised_obj.parameters
    if parameters is None:
        return None
    headers, parameters.headers = parameters.headers, None
    return headers


def generate_uuid() -> str:
    """A new random id."""
    return str(uuid.uuid4())


def install_uvloop_event_loop() -> None:
    """Nothing: the worker owns its event loops."""


def schedule_with_callback(
    coro: Coroutine[Any, Any, Any], cb: Callable[[asyncio.Task[Any]], Any]
) -> asyncio.Task[Any]:
    """Run a coroutine as a task, and call the callback when it is done."""
    task = asyncio.create_task(coro)
    task.add_done_callback(cb)
    return task
