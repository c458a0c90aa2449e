"""Headrace on Ray Serve: each replica is a server of its own, with its own batching.

```python
from ray import serve
import headrace.ray

serve.run(headrace.ray.app("models:/wine@champion", num_replicas=2))
```

`headrace.ray:app` is also what `serve run` and Ray's configuration files import.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import fields
from types import ModuleType
from typing import Any

from starlette.middleware import Middleware

from headrace import asgi, configuration
from headrace.asgi import create_app
from headrace.errors import ConfigurationError, MissingDependency, did_you_mean, shorten
from headrace.http.repeating import Repeating
from headrace.model import Model
from headrace.observability import logs
from headrace.ray_metrics import INTERVAL, RayMetrics
from headrace.settings import ServerSettings

logger = logging.getLogger("headrace")

Source = str | os.PathLike[str] | type[Model]

# The name of the deployment, under which a configuration file may set its options.
DEPLOYMENT = "Headrace"
# How many requests a replica may have at once. Ray's own default of 5 leaves little to batch.
MAX_ONGOING_REQUESTS = 128
# How many it has on average where Ray scales. Ray's own default is 2.
TARGET_ONGOING_REQUESTS = 64
# Seconds for requests in flight when a replica stops: as long as a request may take.
DRAIN_TIMEOUT = ServerSettings.infer_timeout

# The settings that nobody can choose here, each with the reason.
DECIDED = {
    **asgi.DECIDED,
    **dict.fromkeys(("host", "http_port"), "Ray's proxy takes the requests"),
    **dict.fromkeys(
        ("allow_repository_api", "load_models_at_startup", "allow_empty", "reload"),
        "it would change one replica and not the others",
    ),
    **dict.fromkeys(("drain_delay", "drain_timeout"), "Ray has graceful_shutdown_timeout_s"),
    "platform": "the platform is Ray",
    "root_path": "Ray has route_prefix",
}
# Those among them that the replica's environment must not choose either.
IN_REPLICAS = {
    "platform": "none",
    "load_models_at_startup": True,
    "allow_repository_api": False,
    "allow_empty": False,
    "reload": False,
}


def app(
    source: Source | Mapping[str, Any] = ".", *, name: str | None = None, **arguments: Any
) -> Any:
    """An application of Ray Serve whose replicas serve what `headrace serve SOURCE` would.

    `source` is a folder, a URI, or a class that can be pickled. `arguments` are settings of the
    server in each replica, which are fields of `ServerSettings`, and options of
    `ray.serve.deployment`, such as `num_replicas` and `autoscaling_config`. Ray's command line
    and its configuration files give all of it as one mapping, whose values may be text.

    Raises:
        MissingDependency: Ray Serve is not installed.
        TypeError: there is no argument of that name.
        ConfigurationError: an argument has a wrong value, or cannot be chosen in a replica.
    """
    if isinstance(source, Mapping):
        return app(**{**source, **arguments})
    serve = _ray_serve()
    options = {key: _read(arguments.pop(key)) for key in _options(serve) if key in arguments}
    _check_settings(arguments, _options(serve))
    return _deployment(serve, options).bind(source, name, arguments)


# Ray passes one mapping, and refuses functions that take more than one argument.
app.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [inspect.Parameter("source", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=".")]
)


def repeat_unanswered() -> list[Middleware]:
    """What makes Ray's proxies send a request again if its replica died before it answered.

    They call it if `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` is
    `headrace.ray:repeat_unanswered`. It is for all applications behind them.
    """
    return [Middleware(Repeating)]


class Replica:
    """One server, in a process of Ray's."""

    def __init__(self, source: Source, name: str | None, settings: dict[str, Any]) -> None:
        self._app = create_app(source, name=name, **{**settings, **IN_REPLICAS})
        if not logging.getLogger().handlers:
            logs.configure(self._app.settings.log_level, self._app.settings.log_format)

    async def __serve_build_asgi_app__(self) -> Any:
        """Load the models; not left to the lifespan events, as Ray does not show why they fail."""
        await self._app.start()
        self._app.require_ready()
        self._exporting = asyncio.create_task(self._export())
        return _without_request_id(self._app)

    async def check_health(self) -> None:
        """Raise if a model cannot answer; Ray replaces replicas that do so repeatedly."""
        self._app.require_ready()

    async def _export(self) -> None:
        from ray.serve import metrics

        exported = RayMetrics(metrics)
        try:
            while True:
                exported.update(self._app.metrics())
                await asyncio.sleep(INTERVAL)
        except Exception:
            logger.exception("metrics are no longer passed on to Ray")


def _without_request_id(app: Any) -> Any:
    """The application without a header that Ray adds to each answer as well."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        async def passed_on(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [each for each in message["headers"] if each[0] != b"x-request-id"]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, passed_on)

    return called


def _ray_serve() -> ModuleType:
    try:
        from ray import serve
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "Ray Serve is not installed: pip install 'headrace[ray]'"
        ) from error
    return serve  # type: ignore[no-any-return]


def _options(serve: ModuleType) -> list[str]:
    """The names of the options of deployments that apply to ours."""
    # A `user_config` is for deployments that change while they run.
    ours = ("_func_or_class", "name", "version", "user_config")
    return [name for name in inspect.signature(serve.deployment).parameters if name not in ours]


def _deployment(serve: ModuleType, options: dict[str, Any]) -> Any:
    options.setdefault("max_ongoing_requests", MAX_ONGOING_REQUESTS)
    options.setdefault("graceful_shutdown_timeout_s", DRAIN_TIMEOUT)
    scaling = options.get("autoscaling_config") or {}
    if isinstance(scaling, Mapping) and (scaling or options.get("num_replicas") == "auto"):
        target = {"target_ongoing_requests": TARGET_ONGOING_REQUESTS}
        options["autoscaling_config"] = {**target, **scaling}
    try:
        return serve.deployment(name=DEPLOYMENT, **options)(serve.ingress()(Replica))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"options of the deployment: {error}") from error


def _check_settings(settings: Mapping[str, Any], options: list[str]) -> None:
    known = [each.name for each in fields(ServerSettings) if each.name not in DECIDED]
    for key in settings:
        if key in DECIDED:
            raise ConfigurationError(f"{key} cannot be set on Ray Serve: {DECIDED[key]}")
        if key not in known:
            hint = did_you_mean(key, ["source", "name", *known, *options])
            raise TypeError(f"app() got an unexpected argument '{shorten(key)}'{hint}")
    # The rest of what counts is known in the replica only.
    configuration.resolve({}, {}, None, keywords=settings)


def _read(value: Any) -> Any:
    """An option of Ray's; text from a command line is JSON where it can be."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            pass
    return value
