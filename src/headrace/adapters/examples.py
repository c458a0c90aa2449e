"""Requests that a model can answer, for the documentation of its routes.

Their values are those of the input example that was logged with the model, or else zeros and
short texts of the types that its metadata and its signature declare. What no request can be made
of has no example: an empty one says more than a wrong one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from csv import writer
from io import StringIO
from math import prod
from typing import Any

import orjson

from headrace.adapters.adapter import ModelView
from headrace.adapters.openapi_parts import Schema
from headrace.protocol.messages import TensorMetadata

# An example with more elements is no help to a reader.
MOST = 4096
# One cell, by MLflow's type of its column.
CELLS: dict[str, Any] = {
    "boolean": False,
    "integer": 0,
    "long": 0,
    "float": 0.0,
    "double": 0.0,
    "string": "text",
    "binary": "YQ==",
    "datetime": "2024-05-07T01:02:03",
    "any": "text",
}
# One BYTES element of a model without a signature, by its content type.
ELEMENTS = {"base64": "YQ==", "datetime": "2024-05-07T01:02:03"}
# Those whose elements are JSON texts; here, such an input has one value for all of them.
AS_JSON = ("json", "pd_json")
_FORMS = ("dataframe_records", "inputs", "instances")


def scoring_body(model: ModelView) -> Schema | None:
    """A body of MLflow's scoring protocol, the one that was logged if there is one."""
    logged = _logged(model)
    if logged is not None:
        return logged
    signature = model.scoring_signature
    if signature is None or not signature.inputs:
        return None
    if signature.is_columns and not signature.from_type_hint:
        row = _row(model)
        return row and {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}
    return _inputs(model)


def scoring_csv(model: ModelView) -> str | None:
    """The same row as CSV, for a model that takes a table of plain columns."""
    signature = model.scoring_signature
    row = _row(model) if signature is not None and signature.is_columns else None
    if row is None or signature is None or signature.from_type_hint or not signature.is_simple:
        return None
    text = StringIO()
    writer(text, lineterminator="\n").writerows([row.keys(), row.values()])
    return text.getvalue()


def predict_body(model: ModelView) -> Schema | None:
    """A body of the first protocol of TensorFlow Serving and KServe."""
    signature = model.signature
    logged = _logged(model) or {}
    if signature is None or not signature.inputs:
        return {key: logged[key] for key in ("inputs", "instances") if key in logged} or None
    if signature.is_columns and not signature.from_type_hint:
        is_table = not logged or any(form in logged for form in (*_FORMS, "dataframe_split"))
        return {"instances": [row]} if is_table and (row := _row(model)) else None
    return _inputs(model)


def infer_body(model: ModelView) -> Schema | None:
    """A body of the Open Inference Protocol, of one row."""
    inputs = model.model_metadata.inputs
    row = _row(model)
    if row is None or not inputs:
        return None
    return {"inputs": [_tensor(each, row[each.name]) for each in inputs if each.name in row]}


def _inputs(model: ModelView) -> Schema | None:
    """The values under `inputs`, by name where the signature has names."""
    row, signature = _row(model), model.signature
    if row is None or signature is None:
        return None
    if signature.from_type_hint:
        return {"inputs": list(row.values())}
    return {"inputs": row if signature.is_named else next(iter(row.values()))}


def _logged(model: ModelView) -> Schema | None:
    """The body that was logged with the model."""
    with suppress(orjson.JSONDecodeError):
        found = orjson.loads(model.model_metadata.example)
        return found if isinstance(found, dict) else None
    return None


def _row(model: ModelView) -> dict[str, Any] | None:
    """One value for each input: a cell of a column, or a whole tensor as nested lists.

    None if there are too many elements for an example.
    """
    inputs = model.model_metadata.inputs
    if sum(prod(_shape(each)) for each in inputs) > MOST:
        return None
    known = _first_row(_logged(model))
    types = _types(model)
    row = {}
    for position, each in enumerate(inputs):
        declared = types[position] if position < len(types) else {}
        is_known = isinstance(known, dict) and each.name in known
        if known is not None and not is_known and each.parameters.get("required") is False:
            continue
        row[each.name] = _value(each, declared)
        if is_known or (known is not None and len(inputs) == 1):
            given = known[each.name] if is_known else known
            row[each.name] = _fitting(given, each, declared, row[each.name])
    return row or None


def _first_row(logged: Schema | None) -> Any:
    """The first row of a body, by column name if the body has names; None if it has no rows."""
    if logged is None:
        return None
    split = logged.get("dataframe_split")
    if isinstance(split, dict):
        names, rows = split.get("columns"), split.get("data")
        cells = rows[0] if isinstance(rows, list) and rows else None
        if not isinstance(cells, list):
            return None
        names = names if isinstance(names, list) else range(len(cells))
        return dict(zip(map(str, names), cells, strict=False))
    for form in _FORMS:
        if form in logged:
            value = logged[form]
            return value[0] if isinstance(value, list) and value else value
    return logged


def _types(model: ModelView) -> list[Schema]:
    """What the signature of the model says of each input."""
    raw = (model.model_metadata.signature or {}).get("inputs")
    with suppress(orjson.JSONDecodeError):
        raw = orjson.loads(raw) if isinstance(raw, str) else raw
    return raw if isinstance(raw, list) else []


def _value(tensor: TensorMetadata, declared: Schema) -> Any:
    """A value for an input of which nothing but its type is known."""
    kind = declared.get("type")
    if isinstance(kind, str) and kind != "tensor":
        return _cell(declared)
    if _content_type(tensor) in AS_JSON:
        return {}
    element: Any = 0
    if tensor.datatype == "BYTES":
        element = ELEMENTS.get(_content_type(tensor), "text")
    elif tensor.datatype == "BOOL":
        element = False
    return _nested(_shape(tensor), element)


def _cell(declared: Schema) -> Any:
    """A value of a type of MLflow's, which may be nested."""
    kind = declared.get("type")
    if kind == "array":
        return [_cell(declared.get("items") or {})]
    if kind == "map":
        return {"key": _cell(declared.get("values") or {})}
    if kind == "object":
        members = (declared.get("properties") or {}).items()
        return {name: _cell(each) for name, each in members if each.get("required", True)}
    return CELLS.get(kind or "", "text")


def _fitting(given: Any, tensor: TensorMetadata, declared: Schema, otherwise: Any) -> Any:
    """A logged value as this input takes it; `otherwise` if it does not fit."""
    if declared.get("type", "tensor") != "tensor" or _content_type(tensor) in AS_JSON:
        return otherwise if given is None else given
    shape = _shape(tensor)
    flat = list(_flat(given))
    if len(flat) != prod(shape) or not all(type(each) is type(flat[0]) for each in flat):
        return otherwise
    return _nested(shape, *flat)


def _nested(shape: list[int], *elements: Any) -> Any:
    """Nested lists of a shape, of as many elements, or of one again and again."""
    values = list(elements) * (prod(shape) if len(elements) == 1 else 1)
    for size in reversed(shape[1:]):
        values = [values[start : start + size] for start in range(0, len(values), size or 1)]
    return values if shape else values[0]


def _tensor(tensor: TensorMetadata, value: Any) -> Schema:
    """An input of the Open Inference Protocol."""
    if _content_type(tensor) in AS_JSON:
        data = [orjson.dumps(value).decode()] * prod(_shape(tensor))
    else:
        data = list(_flat(value))
    if tensor.datatype == "BYTES":
        data = [each if isinstance(each, str) else orjson.dumps(each).decode() for each in data]
    return {
        "name": tensor.name,
        "shape": _shape(tensor),
        "datatype": tensor.datatype,
        "data": data,
    }


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for each in value:
            yield from _flat(each)
    else:
        yield value


def _shape(tensor: TensorMetadata) -> list[int]:
    return [1 if size < 0 else size for size in tensor.shape]


def _content_type(tensor: TensorMetadata) -> str:
    return str(tensor.parameters.get("content_type", ""))
