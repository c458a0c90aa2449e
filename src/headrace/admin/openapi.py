"""The OpenAPI document of what is served now: the real models, their real inputs."""

from __future__ import annotations

import re
from typing import Any

from headrace import __version__
from headrace.adapters.adapter import Adapter, Route
from headrace.adapters.openapi_parts import PARAMETERS, STRING, Schema, content, json_body, post
from headrace.dataplane import DataPlane
from headrace.errors import HeadraceError
from headrace.http.router import Router
from headrace.protocol.messages import ModelRoute
from headrace.serving.served_model import ServedModel

# A path parameter in braces, with the convertor that Starlette applies to it.
CONVERTOR = re.compile(r"{([a-zA-Z_][a-zA-Z0-9_]*)(:[a-z]+)?}")

SCHEMAS: dict[str, Schema] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": STRING, "code": STRING},
    },
    "Ready": {
        "type": "object",
        "properties": {"name": STRING, "ready": {"type": "boolean"}, "error": STRING},
    },
    "Live": {"type": "object", "properties": {"live": {"type": "boolean"}}},
    "RepositoryIndex": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "version", "state", "reason"],
            "properties": dict.fromkeys(("name", "version", "state", "reason"), STRING),
        },
    },
    "Status": {
        "type": "object",
        "required": ["system", "models"],
        "properties": {
            "system": {"type": "object"},
            "models": {"$ref": "#/components/schemas/RepositoryIndex"},
        },
    },
    "ServerMetadata": {
        "type": "object",
        "required": ["name", "version", "extensions"],
        "properties": {
            "name": STRING,
            "version": STRING,
            "extensions": {"type": "array", "items": STRING},
        },
    },
    "ModelList": {
        "type": "object",
        "required": ["models"],
        "properties": {"models": {"type": "array", "items": STRING}},
    },
    "Statistics": {
        "type": "object",
        "required": ["model_stats"],
        "properties": {"model_stats": {"type": "array", "items": {"type": "object"}}},
    },
    "TritonConfig": {
        "type": "object",
        "required": ["name", "platform", "max_batch_size", "input", "output"],
        "properties": {"name": STRING, "platform": STRING, "max_batch_size": {"type": "integer"}},
    },
    "ModelMetadata": {
        "type": "object",
        "required": ["name", "platform"],
        "properties": {
            "name": STRING,
            "versions": {"type": "array", "items": STRING},
            "platform": STRING,
            "inputs": {"type": "array", "items": {"type": "object"}},
            "outputs": {"type": "array", "items": {"type": "object"}},
            "parameters": PARAMETERS,
        },
    },
}


def document(dataplane: DataPlane, router: Router, mounted_at: str = "") -> Schema:
    """OpenAPI 3.1 for the models that are configured at this moment."""
    paths: dict[str, Any] = {
        "/v2": _get("Server metadata", "ServerMetadata"),
        "/v2/models": _get("The names of all models", "ModelList"),
        "/v2/models/stats": _get("What is counted for all models, in Triton's form", "Statistics"),
        "/v2/health/live": _get("Whether the server is alive", "Live"),
        "/v2/health/ready": _get("Whether every model can answer", "Ready", "503"),
        "/ping": _get("Whether MLflow's route can score", None, "503"),
        "/health": _get("The same as /ping", None, "503"),
        "/livez": _probe("Whether the server is alive"),
        "/healthz": _probe("The same as /livez"),
        "/readyz": _probe("Whether every model can answer", "503"),
        "/version": _get("The version of MLflow, or else of the server, as bare text", None),
        "/api/status": _get("This process, and the state of every model", "Status"),
    }
    settings = dataplane.settings
    if settings.metrics_endpoint:
        text = {"200": {"description": "Prometheus text"}}
        paths[settings.metrics_endpoint] = {"get": {"responses": text}}
    paths.update(_repository())
    schemas = dict(SCHEMAS)
    for adapter in router.adapters:
        schemas.update(adapter.schemas)
        for page in adapter.pages:
            paths[page.path] = _page(page.path, page.summary)
    for model in dataplane.models():
        for prefix in _prefixes(dataplane, model):
            pages = {
                prefix: _get("Model metadata", "ModelMetadata", "503"),
                prefix + "/ready": _get("Whether the model can answer", "Ready", "503"),
                prefix + "/stats": _get("What is counted, in Triton's form", "Statistics"),
                prefix + "/config": _get("The configuration in Triton's form", "TritonConfig"),
            }
            paths.update({path: {"get": _of(model, each["get"])} for path, each in pages.items()})
    paths.update(_protocols(dataplane, router))
    for model in dataplane.answering():
        for own in model.model_metadata.routes:
            if not own.is_listed:
                continue
            # What is already there takes precedence, as it does in routing.
            operations = paths.setdefault(CONVERTOR.sub(r"{\1}", own.path), {})
            operations.setdefault(own.method.lower(), _of(model, _own(model, own)))
            schemas.update(
                {name: each for name, each in own.components.items() if name not in schemas}
            )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headrace", "version": __version__},
        # A proxy in front may serve this server under a path of its own.
        "servers": [{"url": settings.root_path or mounted_at or "/"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _of(model: ServedModel, operation: Schema) -> Schema:
    """An operation under its model's name, by which pages group them, or under its own tags."""
    return {"tags": [model.name], **operation}


def _protocols(dataplane: DataPlane, router: Router) -> dict[str, Any]:
    """The adapters' routes, for each model that speaks their protocol."""
    paths: dict[str, Any] = {}
    for adapter, route in router.routes():
        speaking = [model for model in dataplane.models() if adapter.speaks(model)]
        if route.is_nameless:
            speaking = _only(dataplane, adapter)
        for model in speaking:
            path = _path(dataplane, route, model)
            if path is None or (route.streams and not model.model_metadata.streams):
                continue
            paths[path] = {"post": _of(model, adapter.operation(route, model))}
    return paths


def _only(dataplane: DataPlane, adapter: Adapter) -> list[ServedModel]:
    """The model that answers a request which names none; nothing if that would be refused."""
    try:
        return [dataplane.find(None, None, adapter)]
    except HeadraceError:
        return []


def _path(dataplane: DataPlane, route: Route, model: ServedModel) -> str | None:
    """The route's path for one version of a model; None if it leads to another one."""
    if "{version}" not in route.path:
        is_default = route.is_nameless or dataplane.get(model.name) is model
        return route.path.replace("{name}", model.name) if is_default else None
    if model.version is None:
        return None
    return route.path.replace("{name}", model.name).replace("{version}", model.version)


def _prefixes(dataplane: DataPlane, model: ServedModel) -> list[str]:
    named = f"/v2/models/{model.name}"
    found = [] if model.version is None else [f"{named}/versions/{model.version}"]
    if dataplane.get(model.name) is model:
        found.insert(0, named)
    return found


def _page(path: str, summary: str) -> Schema:
    names = CONVERTOR.findall(path)
    found = _get(summary, None, "404", "503")
    if names:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": STRING} for name, _ in names
        ]
    return found


def _own(model: ServedModel, route: ModelRoute) -> Schema:
    """A model's own route; only its handler knows what it takes, unless it says so."""
    if route.operation is not None:
        return route.operation
    operation: Schema = {
        "summary": route.summary or f"A route of {model.name}",
        "responses": {"200": {"description": "OK"}},
    }
    names = [name for name, _ in CONVERTOR.findall(route.path)]
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": STRING} for name in names
        ]
    if route.method in ("POST", "PUT", "PATCH"):
        operation["requestBody"] = {"content": json_body({})}
    return operation


def _repository() -> dict[str, Any]:
    """The model repository extension."""
    ready = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    index = {"post": post("The models and their states", json_body(ready), "RepositoryIndex")}
    name = {"name": "name", "in": "path", "required": True, "schema": STRING}
    found: dict[str, Any] = {"/v2/repository/index": index}
    for verb, summary in (("load", "Load a model again"), ("unload", "Unload a model")):
        operation = post(summary, json_body({"type": "object"}), None)
        for status in ("403", "404", "409", "422"):
            operation["responses"][status] = content("See the error", "Error")
        path = f"/v2/repository/models/{{name}}/{verb}"
        found[path] = {"post": operation, "parameters": [name]}
    for route in found.values():
        route["post"]["requestBody"]["required"] = False
    return found


def _get(summary: str, schema: str | None, *failures: str) -> Schema:
    responses = {"200": content("OK", schema)}
    responses.update({status: content("Not now", schema) for status in failures})
    return {"get": {"summary": summary, "responses": responses}}


def _probe(summary: str, *failures: str) -> Schema:
    """A route whose status is the answer."""
    found = _get(summary, None, *failures)
    for response in found["get"]["responses"].values():
        response["content"] = {"text/plain": {"schema": STRING}}
    return found
