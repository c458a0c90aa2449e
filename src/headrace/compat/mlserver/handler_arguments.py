"""Fills a handler's parameters from a request, by FastAPI's rules."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from headrace.compat.mlserver import conversion
from headrace.compat.mlserver.rest.requests import Headers, QueryParams, Request
from headrace.compat.mlserver.types.base import reason
from headrace.errors import InvalidInput, shorten

IN_PATH = re.compile(r"{([a-zA-Z_][a-zA-Z0-9_]*)(?::[a-z]+)?}")
# FastAPI's markers for where a parameter is; its other markers ask for what is not available here.
SOURCES = {"Query": "query", "Path": "path", "Header": "header", "Body": "body"}
REQUEST = "request"

_REQUIRED: Any = inspect.Parameter.empty


class Unservable(Exception):
    """The handler asks for something that cannot be provided; the message says what."""


class Argument(NamedTuple):
    """One parameter: where its value is, under which name, and how it is converted.

    `many` collects every value of a query parameter; `embed` looks inside a JSON object.
    """

    name: str
    source: str
    alias: str
    convert: Callable[[Any], Any]
    default: Any
    annotation: Any
    many: bool = False
    embed: bool = False


class Arguments:
    """The arguments of one handler. All that can be wrong with it is found here, at load."""

    def __init__(self, handler: Callable[..., Any], path: str) -> None:
        try:
            hints = typing.get_type_hints(handler, include_extras=True)
        except Exception as error:
            raise Unservable("the types in its signature cannot be read") from error
        # FastAPI leaves unset fields out of answers of a declared type.
        self.answers_briefly = hints.get("return", Any) is not Any
        in_path = IN_PATH.findall(path)
        found = [
            _argument(parameter, hints.get(parameter.name, Any), in_path)
            for parameter in inspect.signature(handler).parameters.values()
        ]
        bodies = [argument for argument in found if argument.source == "body"]
        if len(bodies) > 1:
            found = [item._replace(embed=item.source == "body") for item in found]
        self._arguments = found
        # A lone text may be the body, where FastAPI only reads a query parameter.
        self._text_is_body = len([item for item in found if item.source != REQUEST]) == 1

    def bind(self, scope: dict[str, Any], body: bytes, receive: Any) -> dict[str, Any]:
        """The arguments for one request, an ASGI scope and its body.

        Raises:
            InvalidInput: one is missing, or not of its type; the message names it.
        """
        bound = {}
        for argument in self._arguments:
            if argument.source == REQUEST:
                bound[argument.name] = argument.annotation(scope, receive)
                continue
            given = self._given(argument, scope, body)
            if given is not _REQUIRED:
                bound[argument.name] = _converted(argument, given)
            elif argument.default is _REQUIRED:
                where = {"query": "query parameter", "body": "body field"}
                kind = where.get(argument.source, argument.source)
                raise InvalidInput(f"the {kind} '{argument.alias}' is missing")
            else:
                bound[argument.name] = argument.default
        return bound

    def _given(self, argument: Argument, scope: dict[str, Any], body: bytes) -> Any:
        if argument.source == "path":
            return scope["path_params"].get(argument.alias, _REQUIRED)
        if argument.source == "header":
            return Headers(scope["headers"]).get(argument.alias, _REQUIRED)
        if argument.source == "query":
            query = QueryParams(scope["query_string"].decode("latin-1"))
            if argument.many:
                return query.getlist(argument.alias) or _REQUIRED
            if argument.alias not in query and argument.annotation is str and self._text_is_body:
                return body or _REQUIRED
            return query.get(argument.alias, _REQUIRED)
        if argument.annotation is bytes:
            return body
        if not body:
            return _REQUIRED
        value = _json(body)
        if not argument.embed:
            return value
        if not isinstance(value, dict):
            raise InvalidInput("the body is not a JSON object with the handler's parameters")
        return value.get(argument.alias, _REQUIRED)


def _argument(parameter: inspect.Parameter, annotation: Any, in_path: list[str]) -> Argument:
    name = parameter.name
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise Unservable(f"its parameter '{name}' takes any number of arguments")
    default = parameter.default
    marker = default if _is_marker(default) else None
    inner = annotation
    bounds: list[Any] = []
    if hasattr(annotation, "__metadata__"):
        inner = annotation.__origin__
        marker = marker or next(filter(_is_marker, annotation.__metadata__), None)
        bounds = [item for item in annotation.__metadata__ if not _is_marker(item)]
    if marker is not None:
        bounds += getattr(marker, "metadata", ())
        if marker is default:
            default = getattr(marker, "default", _REQUIRED)
    # FastAPI writes "required" as `...`, pydantic as an object of its own.
    if default is ... or type(default).__name__ == "PydanticUndefinedType":
        default = _REQUIRED
    request = _request_class(name, inner)
    if request is not None:
        return Argument(name, REQUEST, name, _never, _REQUIRED, request)
    source = _source(name, inner, marker, in_path)
    alias = getattr(marker, "alias", None) or name
    if source == "header" and alias == name:
        alias = name.replace("_", "-")
    try:
        convert = conversion.converter(_bounded(inner, bounds))
    except TypeError as error:
        raise Unservable(f"parameter '{name}': {error}") from error
    many = source == "query" and conversion.is_body(inner)
    embed = source == "body" and bool(getattr(marker, "embed", False))
    return Argument(name, source, alias, convert, default, inner, many, embed)


def _source(name: str, annotation: Any, marker: Any, in_path: list[str]) -> str:
    if name in in_path:
        return "path"
    if marker is not None:
        kind = type(marker).__name__
        if kind not in SOURCES:
            raise Unservable(f"parameter '{name}': {kind} is not supported")
        return SOURCES[kind]
    module = getattr(annotation, "__module__", "")
    if isinstance(module, str) and module.split(".")[0] in ("starlette", "fastapi"):
        raise Unservable(f"parameter '{name}': {annotation.__name__} is not supported")
    return "body" if conversion.is_body(annotation) else "query"


def _bounded(annotation: Any, bounds: list[Any]) -> Any:
    for bound in bounds:
        annotation = typing.Annotated[annotation, bound]
    return annotation


def _is_marker(value: Any) -> bool:
    return type(value).__module__ in ("fastapi.params", "fastapi.param_functions")


def _request_class(name: str, annotation: Any) -> Any:
    """The request class that a parameter takes, or None if it takes something else."""
    if annotation is Any and name == "request":
        return Request
    for cls in getattr(annotation, "__mro__", ()):
        if cls is Request or (cls.__module__, cls.__name__) == ("starlette.requests", "Request"):
            return annotation
    return None


def _never(value: Any) -> Any:
    raise AssertionError("a request is made, not converted; this is a bug")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput("the body is not valid JSON") from None


def _converted(argument: Argument, given: Any) -> Any:
    if isinstance(given, bytes) and argument.annotation is str:
        try:
            return given.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidInput("the body is not UTF-8 text") from None
    if given is argument.default:
        return given
    try:
        return argument.convert(given)
    except (ValueError, TypeError) as error:
        where = "the body" if argument.source == "body" and not argument.embed else ""
        where = where or f"{argument.source} '{shorten(argument.alias)}'"
        raise InvalidInput(f"{where}: {reason(error)}") from error
