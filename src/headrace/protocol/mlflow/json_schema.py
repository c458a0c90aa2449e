"""What an element of an array, object or map holds, as a JSON Schema, for a model's metadata.

The formats are OpenAPI's. Needs only the standard library, so that a worker on any Python can
import it.
"""

from __future__ import annotations

from typing import Any

_SCALARS: dict[str, dict[str, Any]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "float": {"type": "number", "format": "float"},
    "double": {"type": "number", "format": "double"},
    "string": {"type": "string"},
    "binary": {"type": "string", "contentEncoding": "base64"},
    "datetime": {"type": "string", "format": "date-time"},
}


def json_schema(raw: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a type as written in a signature; `{}` is any value."""
    kind = raw.get("type")
    if kind == "array":
        return {"type": "array", "items": json_schema(_mapping(raw.get("items")))}
    if kind == "map":
        return {
            "type": "object",
            "additionalProperties": json_schema(_mapping(raw.get("values"))),
        }
    if kind == "object":
        properties = {
            str(name): _mapping(inner) for name, inner in _mapping(raw.get("properties")).items()
        }
        return {
            "type": "object",
            "properties": {name: json_schema(inner) for name, inner in properties.items()},
            "required": [name for name, inner in properties.items() if is_required(inner)],
            "additionalProperties": False,
        }
    return dict(_SCALARS.get(str(kind), {}))


def is_required(raw: dict[str, Any]) -> bool:
    """Whether a column, or a property of an object, must be there."""
    # MLflow has written `required` since 2.6, and `optional` before.
    return bool(raw.get("required", not raw.get("optional", False)))


def _mapping(raw: Any) -> dict[str, Any]:
    return raw if isinstance(raw, dict) else {}
