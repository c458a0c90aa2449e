"""The server as an ASGI application, for other servers to run and for tests.

```python
from headrace.asgi import create_app

app = create_app("models", parallel_workers=2)
```
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client.core import Metric

from headrace import configuration
from headrace.errors import LoadFailed, ModelNotReady, ShuttingDown, did_you_mean
from headrace.model import Model
from headrace.repository.repository import Find
from headrace.server import Application
from headrace.settings import ModelSettings, ServerSettings
from headrace.sources.discovery import open_source

logger = logging.getLogger("headrace")


def create_app(
    model: str | os.PathLike[str] | type[Model] = ".",
    *,
    name: str | None = None,
    **settings: Any,
) -> AsgiApp:
    """An application that serves what `headrace serve MODEL` would.

    `model` is a folder, a URI, or a class, which then runs in this process. `settings` are fields
    of `ServerSettings`; environment variables and `settings.json` count as well.

    Raises:
        TypeError: there is no setting of that name.
        ConfigurationError: a setting or a model's file is wrong.
    """
    _check_names(settings)
    environ = dict(os.environ)
    if isinstance(model, type):
        own = ModelSettings(name or model.__name__, _named(model), inline=True)
        resolved = _resolved(environ, None, settings)
        return AsgiApp(resolved, [own], lambda wanted: [own] if wanted == own.name else [])
    place = os.fspath(model)
    resolved = _resolved(environ, Path(place) if os.path.isdir(place) else None, settings)
    source = open_source(place, name, environ)
    return AsgiApp(resolved, source.settings(), source.find)


def _resolved(
    environ: dict[str, str], folder: Path | None, settings: dict[str, Any]
) -> ServerSettings:
    resolved = configuration.resolve({}, environ, folder, keywords=settings)
    for warning in resolved.warnings:
        logger.warning("%s", warning)
    return resolved.settings


def _check_names(settings: dict[str, Any]) -> None:
    known = [field.name for field in fields(ServerSettings)]
    for name in settings:
        if name not in known:
            hint = did_you_mean(name, known)
            raise TypeError(f"create_app() got an unexpected keyword argument '{name}'{hint}")


# Classes passed to `create_app`, under unique names: those defined in a function have no path.
CLASSES = SimpleNamespace()
_numbers = count(1)


def _named(model: type[Model]) -> str:
    """The `implementation` that names a class of this process, wherever it is defined."""
    name = f"{model.__name__}_{next(_numbers)}"
    setattr(CLASSES, name, model)
    return f"{__name__}:CLASSES.{name}"


class AsgiApp:
    """Loads its models when its host starts it, and stops its workers when the host stops.

    A host that sends no lifespan events, such as one that mounts it below a path, must call
    `start` and `stop` itself.
    """

    def __init__(self, settings: ServerSettings, models: list[ModelSettings], find: Find) -> None:
        self.settings = replace(settings, ready_fd=None)
        self._arguments = (self.settings, models, find)
        self._application: Application | None = None

    async def start(self) -> None:
        """Load the models.

        Raises:
            LoadFailed: there are models, and none could be loaded.
        """
        if self._application is not None:
            raise RuntimeError("the application is already started")
        application = self._application = Application(*self._arguments)
        if not await application.load():
            failed = application.dataplane.not_ready()
            await self.stop()
            raise LoadFailed(f"no model could be loaded: {_listed(failed)}")

    def require_ready(self) -> None:
        """Check that every model can answer now.

        Raises:
            ModelNotReady: one cannot; the message has the reasons.
        """
        if self._application is None:
            raise ModelNotReady("the application is not started")
        if reasons := self._application.dataplane.not_ready():
            raise ModelNotReady(f"models are not ready: {_listed(reasons)}")

    def metrics(self) -> list[Metric]:
        """The metrics of the server and its models, as far as they are known in this process."""
        application = self._application
        page = application.metrics if application is not None else None
        return [] if page is None else list(page.collector.collect())

    async def stop(self) -> None:
        """Stop the workers. Requests that still wait or run fail at once."""
        application, self._application = self._application, None
        if application is not None:
            application.dataplane.draining = True
            for model in application.repository.models():
                model.abandon(ShuttingDown("the application is stopping"))
            await application.close()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._application is None:
            raise RuntimeError("the application is not started: await its start() first")
        else:
            await self._application.http(scope, receive, send)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            if self._application is None:
                await self.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items()))
