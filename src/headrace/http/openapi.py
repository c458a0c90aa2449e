"""The OpenAPI document of what is served now: the real models, their real inputs."""

from __future__ import annotations

import re
from typing import Any

from headrace import __version__
from headrace.dataplane import DataPlane
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.media_types import essence
from headrace.protocol.messages import ModelRoute, TensorMetadata
from headrace.repository.served import ServedModel

Schema = dict[str, Any]

# A part of a path in braces, with what Starlette turns it into.
CONVERTOR = re.compile(r"{([a-zA-Z_][a-zA-Z0-9_]*)(:[a-z]+)?}")

PARAMETERS: Schema = {"type": "object", "additionalProperties": True}
STRING: Schema = {"type": "string"}
SHAPE: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}}
TENSOR: Schema = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": STRING,
        "shape": SHAPE,
        "datatype": {"type": "string", "enum": list(DATATYPES)},
        "parameters": PARAMETERS,
        "data": {"type": "array", "items": {}},
    },
}
SCHEMAS: dict[str, Schema] = {
    "InferenceRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "maxLength": 256},
            "parameters": PARAMETERS,
            "inputs": {
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/components/schemas/Tensor"},
            },
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": STRING, "parameters": PARAMETERS},
                },
            },
        },
    },
    "InferenceResponse": {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": STRING,
            "model_version": STRING,
            "id": STRING,
            "parameters": PARAMETERS,
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        },
    },
    "Tensor": TENSOR,
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": STRING, "code": STRING},
    },
    "ScoringRequest": {
        "type": "object",
        "description": "One of dataframe_split, dataframe_records, instances or inputs.",
        "properties": {
            "dataframe_split": {"type": "object"},
            "dataframe_records": {"type": "array", "items": {"type": "object"}},
            "instances": {"type": "array", "items": {}},
            "inputs": {},
            "params": PARAMETERS,
        },
    },
    "ScoringResponse": {"type": "object", "properties": {"predictions": {}}},
    "ScoringError": {
        "type": "object",
        "required": ["error_code", "message"],
        "properties": {"error_code": STRING, "message": STRING},
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


def document(dataplane: DataPlane) -> Schema:
    """OpenAPI 3.1 for the models that are configured at this moment."""
    paths: dict[str, Any] = {
        "/v2": _get("Server metadata", "ServerMetadata"),
        "/v2/health/live": _get("Whether the server is alive", "Live"),
        "/v2/health/ready": _get("Whether every model can answer", "Ready", "503"),
        "/ping": _get("Whether MLflow's route can score", None, "503"),
        "/health": _get("The same as /ping", None, "503"),
        "/version": _get("The server's version as bare text", None),
        "/api/status": _get("This process, and the state of every model", "Status"),
    }
    settings = dataplane.settings
    if settings.metrics_endpoint:
        text = {"200": {"description": "Prometheus text"}}
        paths[settings.metrics_endpoint] = {"get": {"responses": text}}
    paths.update(_repository())
    models = dataplane.repository.models()
    plugins = [model for model in models if model.model_metadata.payload_type is not None]
    if len({model.name for model in models}) == 1 and not plugins:
        paths["/invocations"] = _scoring(models[0])
    if len({model.name for model in plugins}) == 1:
        paths["/api/predict"] = _raw(dataplane.repository.get(plugins[0].name))
    for model in models:
        for prefix in _prefixes(dataplane, model):
            paths[prefix] = _get("Model metadata", "ModelMetadata")
            paths[prefix + "/ready"] = _get("Whether the model can answer", "Ready", "503")
            paths[prefix + "/infer"] = _infer(model)
            if model in plugins:
                paths[prefix + "/raw"] = _raw(model)
            else:
                paths[prefix + "/invocations"] = _scoring(model)
    for model in dataplane.repository.answering():
        for route in model.model_metadata.routes:
            # What stands there already comes first when a request is routed, too.
            operations = paths.setdefault(CONVERTOR.sub(r"{\1}", route.path), {})
            operations.setdefault(route.method.lower(), _own(model, route))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headrace", "version": __version__},
        # A proxy in front may serve this server under a path of its own.
        "servers": [{"url": settings.root_path or "/"}],
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def _own(model: ServedModel, route: ModelRoute) -> Schema:
    """A route of a model's own; only its handler knows what it takes."""
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
        operation["requestBody"] = {"content": _json_body({})}
    return operation


def _repository() -> dict[str, Any]:
    """The model repository extension."""
    ready = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    index = _post("The models and their states", _json_body(ready), "RepositoryIndex", "Error")
    name = {"name": "name", "in": "path", "required": True, "schema": STRING}
    found: dict[str, Any] = {"/v2/repository/index": index}
    for verb, summary in (("load", "Load a model anew"), ("unload", "Unload a model")):
        operation = _post(summary, _json_body({"type": "object"}), None, "Error")
        for status in ("403", "404", "409", "422"):
            operation["post"]["responses"][status] = _content("See the error", "Error")
        found[f"/v2/repository/models/{{name}}/{verb}"] = {**operation, "parameters": [name]}
    for route in found.values():
        route["post"]["requestBody"]["required"] = False
    return found


def _json_body(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _prefixes(dataplane: DataPlane, model: ServedModel) -> list[str]:
    named = f"/v2/models/{model.name}"
    found = [] if model.version is None else [f"{named}/versions/{model.version}"]
    if dataplane.repository.get(model.name) is model:
        found.insert(0, named)
    return found


def _get(summary: str, schema: str | None, *failures: str) -> Schema:
    responses = {"200": _content("OK", schema)}
    responses.update({status: _content("Not now", schema) for status in failures})
    return {"get": {"summary": summary, "responses": responses}}


def _infer(model: ServedModel) -> Schema:
    request: Schema = {
        "schema": {"$ref": "#/components/schemas/InferenceRequest"},
    }
    inputs = model.model_metadata.inputs
    if inputs:
        request["example"] = {"inputs": [_example(tensor) for tensor in inputs]}
    body = {"application/json": request, "application/octet-stream": {"schema": {}}}
    return _post(f"Infer with {model.name}", body, "InferenceResponse", "Error")


def _scoring(model: ServedModel) -> Schema:
    body = {
        "application/json": {"schema": {"$ref": "#/components/schemas/ScoringRequest"}},
        "text/csv": {"schema": STRING},
        "application/vnd.apache.parquet": {"schema": {}},
    }
    return _post(f"Score with {model.name}", body, "ScoringResponse", "ScoringError")


def _raw(model: ServedModel) -> Schema:
    """A plugin's payload, as the body or as the one file of a form."""
    metadata = model.model_metadata
    wanted = metadata.payload_type or "*/*"
    form = {
        "schema": {"type": "object", "properties": {"file": _payload(wanted)}},
        "encoding": {"file": {"contentType": wanted}},
    }
    body = {wanted: {"schema": _payload(wanted)}, "multipart/form-data": form}
    route = _post(f"Score a payload with {model.name}", body, None, "Error")
    given = metadata.parameters.get("response_content_type") or "*/*"
    route["post"]["responses"]["200"]["content"] = {given: {"schema": _payload(given)}}
    return route


def _payload(media_type: str) -> Schema:
    if essence(media_type) in ("application/json", "*/*"):
        return {}
    return {"type": "string", "contentMediaType": media_type}


def _post(summary: str, body: Schema, answer: str | None, error: str) -> Schema:
    responses = {"200": _content("OK", answer)}
    for status in ("400", "408", "413", "415", "500", "503", "504"):
        responses[status] = _content("See the error", error)
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": body},
            "responses": responses,
        }
    }


def _content(description: str, schema: str | None) -> Schema:
    found: Schema = {} if schema is None else {"$ref": f"#/components/schemas/{schema}"}
    return {"description": description, "content": {"application/json": {"schema": found}}}


def _example(tensor: TensorMetadata) -> Schema:
    shape = [1 if dim < 0 else dim for dim in tensor.shape]
    count = 1
    for dim in shape:
        count *= dim
    value: object = "text" if tensor.datatype == "BYTES" else 0
    value = False if tensor.datatype == "BOOL" else value
    return {
        "name": tensor.name,
        "shape": shape,
        "datatype": tensor.datatype,
        "data": [value] * min(count, 64),
    }
