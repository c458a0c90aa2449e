"""One endpoint of a service: its function, and how bodies become its arguments and its answer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Callable

from headrace.errors import BadModelOutput, InvalidModel
from headrace.protocol.messages import ModelRoute
from headrace.protocol.model_call import ModelAnswer
from headrace.services.service_context import Context

CONTEXT_NAMES = ("ctx", "context")


class Endpoint:
    """A function of a service that is served; `input` and `output` are descriptors.

    An endpoint without input answers GET, every other one POST.
    """

    def __init__(
        self,
        service: str,
        function: Callable[..., Any],
        name: str,
        route: str,
        input: Any,
        output: Any,
        doc: str,
    ) -> None:
        self.service = service
        self.function = function
        self.name = name
        self.route = route
        self.input = input
        self.output = output
        self.doc = doc
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            type(function).__call__
        )
        self._context_name, values = split_parameters(function)
        self._by_name = bool(getattr(input, "by_name", False))
        _check_parameters(name, function, values, input, output, self._by_name)

    @property
    def method(self) -> str:
        return "GET" if self.input is None else "POST"

    @property
    def takes_context(self) -> bool:
        return self._context_name is not None

    def arguments(
        self, body: bytes, headers: Mapping[str, str], context: Context | None
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """What the body decodes to, and the arguments that the function gets.

        `context` may be None where the function takes none.

        Raises:
            InvalidInput, UnsupportedMedia, TooLarge: the body is not what the input describes.
        """
        value = None if self.input is None else self.input.decode(body, headers)
        return (value, *self.called_with(value, context))

    def called_with(
        self, value: Any, context: Context | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the function for a decoded value."""
        named = {} if self._context_name is None else {self._context_name: context}
        if self.input is None:
            return (), named
        if self._by_name:
            return (), {**value, **named}
        return (value,), named

    def release(self, value: Any) -> None:
        """Give back what a decoded value holds, such as the file of a large upload."""
        if self.input is not None:
            self.input.release(value)

    def answer(self, result: Any, context: Context | None) -> ModelAnswer:
        """What the function returned, as it is sent, with what a context adds to it.

        Raises:
            BadModelOutput: it is not what the output describes.
        """
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                # Python would warn later, and far from here, that nobody awaited it.
                result.close()
            raise BadModelOutput(
                f"endpoint '{self.name}' returned a {type(result).__name__}: it has to await what "
                "it returns, such as `return await runner.async_run(...)`, in an `async def`"
            )
        body, media_type, headers = self.output.encode(result)
        status, fields = 200, [["content-type", media_type]]
        if context is not None:
            response = context.response
            status, own = response.status_code, response.fields()
            fields = own if "content-type" in response.headers else own + fields
        if headers:
            fields += [[name, value] for name, value in headers.items()]
        return ModelAnswer(status, fields, body)

    def declared(self, only_body: bool = False) -> ModelRoute:
        """The route as the server and its OpenAPI document have it."""
        summary, _, description = self.doc.partition("\n")
        operation: dict[str, Any] = {
            "operationId": f"{self.service}__{self.name}",
            "summary": summary or f"Endpoint {self.name} of {self.service}",
            "tags": [self.service],
            "responses": {"200": self.output.openapi_response(), **_refusals()},
        }
        if description.strip():
            operation["description"] = description.strip()
        components = dict(self.output.openapi_components())
        if self.input is not None:
            operation["requestBody"] = self.input.openapi_request()
            components.update(self.input.openapi_components())
        return ModelRoute(
            self.route,
            self.method,
            self.name,
            operation["summary"],
            operation,
            components,
            only_body,
        )


def split_parameters(function: Callable[..., Any]) -> tuple[str | None, list[inspect.Parameter]]:
    """The name of the context among a function's parameters, and the others."""
    parameters = inspect.signature(function).parameters
    context = next((name for name in CONTEXT_NAMES if name in parameters), None)
    return context, [each for name, each in parameters.items() if name != context]


def _check_parameters(
    name: str,
    function: Callable[..., Any],
    values: list[inspect.Parameter],
    input: Any,
    output: Any,
    by_name: bool,
) -> None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidModel(f"endpoint '{name}' is a generator; endpoints answer at once")
    required = [
        each
        for each in values
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if input is None and required:
        raise InvalidModel(
            f"endpoint '{name}' has no input, but its function takes '{required[0].name}'"
        )
    if by_name:
        _check_parts(name, function, values, input)
    if input is None or by_name:
        return
    positional = [each for each in values if each.kind is not each.VAR_KEYWORD]
    if not positional:
        raise InvalidModel(f"endpoint '{name}' has an input, but its function takes no argument")
    if len(required) > 1:
        raise InvalidModel(
            f"endpoint '{name}' has one input, but its function takes {len(required)} arguments; "
            "a Multipart input gives each its own part"
        )


def _check_parts(
    name: str, function: Callable[..., Any], values: list[inspect.Parameter], input: Any
) -> None:
    """Whether the function takes each part by its name, and no more."""
    if any(each.kind is each.VAR_KEYWORD for each in values):
        return
    taken = [each.name for each in values]
    needed = [each.name for each in values if each.default is each.empty]
    if untaken := [part for part in input.fields if part not in taken]:
        raise InvalidModel(
            f"endpoint '{name}': its input has the part '{untaken[0]}', which the function does "
            "not take"
        )
    if missing := [each for each in needed if each not in input.fields]:
        raise InvalidModel(
            f"endpoint '{name}': the function takes '{missing[0]}', which is not part of the input"
        )


def _refusals() -> dict[str, Any]:
    schema = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "400": {"description": "The input is not what is described", "content": schema},
        "500": {"description": "The endpoint failed", "content": schema},
        "503": {"description": "Not now", "content": schema},
    }
