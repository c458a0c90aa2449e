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
from types import SimpleNamespace
from typing import Any

from prometheus_client.core import Metric

from headrace import configuration
from headrace.application import Application
from headrace.dataplane.observers.foreign_pages import ForeignPages
from headrace.errors import (
    ConfigurationError,
    LoadFailed,
    ModelNotReady,
    ShuttingDown,
    did_you_mean,
)
from headrace.model import Model
from headrace.settings import ModelSettings, ServerSettings
from headrace.sources.discovery import open_source, settings_folder
from headrace.sources.model_file import FoundModel
from headrace.sources.source import Source
from headrace.sources.supply import Supply, supply

logger = logging.getLogger("headrace")

# The settings that an application cannot have, each with the reason.
DECIDED = {
    **dict.fromkeys(
        (
            *("http_port", "max_connections", "max_header_size"),
            *("header_timeout", "body_timeout", "keep_alive_timeout"),
            *("ssl_certfile", "ssl_keyfile", "ssl_keyfile_password_file", "ssl_ca_certs"),
        ),
        "what runs the application takes the requests",
    ),
    **dict.fromkeys(
        ("grpc_port", "native_grpc", "grpc_connection_age"), "an application is called over HTTP"
    ),
    **dict.fromkeys(("metrics_port", "ready_fd"), "an application listens on no port"),
    **dict.fromkeys(
        ("drain_delay", "drain_timeout"), "what runs the application decides when it stops"
    ),
}


def create_app(
    model: str | os.PathLike[str] | type[Model] = ".",
    *,
    name: str | None = None,
    **settings: Any,
) -> AsgiApp:
    """An application that serves what `headrace serve MODEL` would.

    `model` is a folder, a URI, or a class, which then runs in this process. `settings` are fields
    of `ServerSettings`; environment variables and `settings.json` count as well.

    An application cannot know where its host listens, and believes the setting `host`: with its
    default, which is a loopback address, callers without keys may load and unload models, and a
    model in any format is opened without a warning. Give `host` the address that the host really
    listens on, such as `host="0.0.0.0"`, or set `allow_repository_api` and `trust`.

    Raises:
        TypeError: there is no setting of that name.
        ConfigurationError: a setting or a model's file is wrong, or the setting is one that only
            `headrace serve` can have, such as a port.
    """
    _check_names(settings)
    environ = dict(os.environ)
    if isinstance(model, type):
        source: Source = ClassSource(model, name)
        folder = None
    else:
        source = open_source(os.fspath(model), name, environ)
        folder = settings_folder(source.place)
    resolved = configuration.resolve({}, environ, folder, keywords=settings)
    for warning in resolved.warnings:
        logger.warning("%s", warning)
    return AsgiApp(resolved.settings, supply(source, resolved.settings, resolved.origins))


def _check_names(settings: dict[str, Any]) -> None:
    known = [field.name for field in fields(ServerSettings)]
    for name in settings:
        if name not in known:
            hint = did_you_mean(name, known)
            raise TypeError(f"create_app() got an unexpected keyword argument '{name}'{hint}")
        if name in DECIDED:
            raise ConfigurationError(f"{name} cannot be set in create_app(): {DECIDED[name]}")


# Classes passed to `create_app`, under unique names: those defined in a function have no path.
CLASSES = SimpleNamespace()
_numbers = count(1)


def _named(model: type[Model]) -> str:
    """The `implementation` that names a class of this process, wherever it is defined."""
    name = f"{model.__name__}_{next(_numbers)}"
    setattr(CLASSES, name, model)
    return f"{__name__}:CLASSES.{name}"


class ClassSource(Source):
    """A class of this process, which is one model."""

    def __init__(self, model: type[Model], name: str | None) -> None:
        super().__init__("", name)
        self._settings = ModelSettings(name or model.__name__, _named(model), inline=True)

    def read(self) -> list[FoundModel]:
        """The model."""
        return [FoundModel(self._settings)]


class AsgiApp:
    """Loads its models when its host starts it, and stops its workers when the host stops.

    A host that sends no lifespan events, such as one that mounts it below a path, must call
    `start` and `stop` itself.
    """

    def __init__(self, settings: ServerSettings, supply: Supply) -> None:
        self.settings = replace(settings, ready_fd=None)
        self._supply = supply
        self._application: Application | None = None

    async def start(self) -> None:
        """Load the models.

        Raises:
            LoadFailed: there are models, and none could be loaded.
        """
        if self._application is not None:
            raise RuntimeError("the application is already started")
        application = self._application = Application(self.settings, self._supply)
        # The host listens, and may be known by any name.
        application.calls.observe(ForeignPages(self.settings, is_local=False))
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
            application.drain()
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
