"""`Service`: endpoints of a user's own, over models that the server runs."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, Callable, TypeVar, overload

from headrace.errors import InvalidModel, shorten
from headrace.runners import Runner
from headrace.runners.runner import checked_name
from headrace.services import endpoint_names
from headrace.services.endpoint import Endpoint, split_parameters
from headrace.services.wsgi_app import WsgiApp

Function = TypeVar("Function", bound=Callable[..., Any])


class Service:
    """A Python API over stored models.

    ```python
    iris = headrace.models.get("iris:latest").to_runner()
    svc = headrace.Service("iris_classifier", runners=[iris])

    @svc.api(input=NumpyNdarray(dtype="float64", shape=[-1, 4]), output=NumpyNdarray())
    async def classify(rows):
        return await iris.predict.async_run(rows)
    ```

    `headrace serve service.py:svc` serves it: the endpoints in a process of their own, and each
    runner's model in the server's workers. `models` are stored models that the service loads
    itself, so that they are packed with it.

    Raises:
        InvalidModel: the name is not one, two runners have the same, or what is given as a runner
            or a model is none.
    """

    def __init__(
        self,
        name: str,
        *,
        runners: Sequence[Runner] | None = None,
        models: Sequence[Any] | None = None,
    ) -> None:
        self.name = checked_name(name, "a service")
        self.runners = self._listed("runners", runners)
        self.models = self._listed("models", models)
        self.apis: dict[str, Endpoint] = {}
        self.middlewares: list[tuple[Any, dict[str, Any]]] = []
        self.mounts: dict[str, Any] = {}
        self.startup_hooks: list[Callable[..., Any]] = []
        self.shutdown_hooks: list[Callable[..., Any]] = []
        # How many of `startup_hooks` come first.
        self._deployment_hooks = 0
        self._check_runners()
        self._check_models()

    @overload
    def api(self, function: Function) -> Function: ...
    @overload
    def api(
        self,
        *,
        input: Any = None,
        output: Any = None,
        name: str | None = None,
        doc: str | None = None,
        route: str | None = None,
    ) -> Callable[[Function], Function]: ...
    def api(
        self,
        function: Any = None,
        *,
        input: Any = None,
        output: Any = None,
        name: str | None = None,
        doc: str | None = None,
        route: str | None = None,
    ) -> Any:
        """Serve a function, plain or async, as an endpoint; returns the function unchanged.

        `input` and `output` are descriptors of `headrace.io`. Without them, the types in the
        function's signature decide. The function takes the input, or each part of a `Multipart`
        by name, and a `Context` as `ctx` or `context` if it has such a parameter.

        `name` is the function's by default, and `route` is `/` and the name. `doc` is for the
        OpenAPI document, the function's docstring by default.

        Raises:
            InvalidModel: the name or the route is taken or reserved, or the function does not fit
                the input.
        """

        def add(function: Function) -> Function:
            self._add(function, input, output, name, doc, route)
            return function

        return add if function is None else add(function)

    def add_asgi_middleware(self, middleware: Any, **options: Any) -> None:
        """Wrap the endpoints and mounted applications in an ASGI middleware class.

        The one that is added first sees a request first. What an endpoint raises passes them as
        the answer that its caller gets.
        """
        self.middlewares.append((middleware, options))

    def mount_asgi_app(self, app: Any, path: str = "/", name: str | None = None) -> None:
        """Answer everything below `path` that nothing else answers with an ASGI application.

        `app` is sent lifespan events, and what it streams leaves as it comes. A request's body is
        read whole before. `name` is accepted and has no effect.

        Raises:
            InvalidModel: the path is not one, or it is taken.
        """
        found = endpoint_names.checked_route(path, "a mounted application")
        if found in self.mounts:
            raise InvalidModel(f"service '{self.name}': two applications are mounted at {found}")
        self.mounts[found] = app

    def mount_wsgi_app(self, app: Any, path: str = "/", name: str | None = None) -> None:
        """The same with a WSGI application, such as one of Flask; it runs in threads.

        Raises:
            InvalidModel: the path is not one, or it is taken.
        """
        self.mount_asgi_app(WsgiApp(app), path, name)

    def on_startup(self, hook: Function) -> Function:
        """Run a function, plain or async, in the service's process before its first request.

        It takes a `Context` if it has a parameter; requests find what it puts into `state`.
        """
        self.startup_hooks.append(hook)
        return hook

    def on_deployment(self, hook: Function) -> Function:
        """Run a function when the service's process starts, before the hooks of `on_startup`."""
        self.startup_hooks.insert(self._deployment_hooks, hook)
        self._deployment_hooks += 1
        return hook

    def on_shutdown(self, hook: Function) -> Function:
        """Run a function after the last request, as `on_startup` does before the first."""
        self.shutdown_hooks.append(hook)
        return hook

    def _add(
        self,
        function: Callable[..., Any],
        input: Any,
        output: Any,
        name: str | None,
        doc: str | None,
        route: str | None,
    ) -> None:
        name = endpoint_names.checked_name(name or str(getattr(function, "__name__", "")))
        route = endpoint_names.checked_route(route or name, f"endpoint '{name}'")
        if name in self.apis:
            raise InvalidModel(f"service '{self.name}' has two endpoints named '{name}'")
        for other in self.apis.values():
            if other.route == route:
                raise InvalidModel(
                    f"endpoints '{other.name}' and '{name}' of service '{self.name}' are both at "
                    f"{shorten(route)}"
                )
        if input is None and output is None:
            input, output = _from_types(function, name)
        elif output is None:
            raise InvalidModel(f"endpoint '{name}' has an input and no output; give it both")
        for what, given in (("input", input), ("output", output)):
            if given is not None and not hasattr(type(given), "openapi_schema"):
                hint = f"; call it: {given.__name__}()" if isinstance(given, type) else ""
                raise InvalidModel(
                    f"endpoint '{name}': its {what} must be a descriptor such as JSON(), got "
                    f"{shorten(getattr(given, '__name__', type(given).__name__))}{hint}"
                )
        text = inspect.getdoc(function) if doc is None else doc
        self.apis[name] = Endpoint(self.name, function, name, route, input, output, text or "")

    def _listed(self, what: str, given: Any) -> list[Any]:
        if given is None:
            return []
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise InvalidModel(
                f"service '{self.name}': {what} must be a list, got "
                f"{shorten(type(given).__name__)}; write {what}=[...]"
            )
        return list(given)

    def _check_runners(self) -> None:
        names: set[str] = set()
        for runner in self.runners:
            if not isinstance(runner, Runner):
                raise InvalidModel(
                    f"service '{self.name}': runners must be runners, such as those of "
                    f"to_runner(), got {shorten(type(runner).__name__)}"
                )
            if runner.name in names:
                raise InvalidModel(
                    f"service '{self.name}': found duplicate name '{runner.name}', which another "
                    "runner has too; to_runner(name=...) sets it"
                )
            names.add(runner.name)

    def _check_models(self) -> None:
        for model in self.models:
            if not hasattr(model, "tag"):
                raise InvalidModel(
                    f"service '{self.name}': models must be stored models, such as those of "
                    f"headrace.models.get(), got {shorten(type(model).__name__)}"
                )

    def __repr__(self) -> str:
        return f"Service(name={self.name!r}, endpoints={list(self.apis)})"


def _from_types(function: Callable[..., Any], name: str) -> tuple[Any, Any]:
    """The descriptors that the signature of a function stands for; no input without parameters."""
    # The package imports more than a service without a typed endpoint needs.
    from headrace.io import endpoint_descriptors

    _, values = split_parameters(function)
    try:
        found = endpoint_descriptors(function)
    except (TypeError, ValueError) as error:
        raise InvalidModel(f"endpoint '{name}': {error}") from error
    return (found.input if values else None), found.output
