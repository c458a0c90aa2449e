"""The inputs, outputs and params of an MLflow signature, as read from `MLmodel`.

Needs only the standard library, so that a worker on any Python can import it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from headrace.errors import InvalidInput, InvalidModel, shorten
from headrace.protocol.mlflow.json_schema import is_required, json_schema

# MLflow column type -> (datatype, content type): MLflow "Model Signature", column-based.
_COLUMN_TYPES = {
    "boolean": ("BOOL", "np"),
    "integer": ("INT32", "np"),
    "long": ("INT64", "np"),
    "float": ("FP32", "np"),
    "double": ("FP64", "np"),
    "string": ("BYTES", "str"),
    "binary": ("BYTES", "base64"),
    "datetime": ("BYTES", "datetime"),
}
_NESTED = ("BYTES", "pd_json")

_TENSOR_TYPES = {
    "bool": "BOOL",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
}
_TEXT_TYPES = ("str", "object", "bytes")


class Spec(NamedTuple):
    """One input or output of a signature.

    `name` is the name on the wire, always a string; `label` is the name in the signature
    (a string, an integer for a DataFrame without names, or None). `type` is MLflow's name
    (`double`, `array`, ...) or `tensor`; `shape` has -1 for a free dimension. `mixed`
    tensors, those of Python objects, hold text, numbers and nulls side by side. With `reads_text`,
    text that is a number stands for it. `json_schema` says what elements in JSON hold.
    """

    name: str
    label: Any
    type: str
    datatype: str
    content_type: str
    shape: tuple[int, ...]
    required: bool = True
    simple: bool = True
    mixed: bool = False
    reads_text: bool = False
    json_schema: str = ""

    @property
    def is_tensor(self) -> bool:
        return self.type == "tensor"

    @property
    def kind(self) -> str:
        """The type by name: MLflow's of a column, the datatype of a tensor."""
        return self.datatype if self.is_tensor else self.type

    @property
    def where(self) -> str:
        """How messages refer to this input."""
        return f"{'input' if self.is_tensor else 'column'} '{shorten(self.name)}'"


class ParamSpec(NamedTuple):
    """One param of a signature; `is_list` is a one-dimensional list of `type`."""

    name: str
    type: str
    default: Any
    is_list: bool


def _listed(raw: Any, part: str) -> list[dict[str, Any]]:
    """The schema of one `part` of a signature as a list of mappings."""
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError as error:
            raise InvalidModel(f"the signature's {part} are not valid JSON") from error
    if not isinstance(raw, list) or not all(isinstance(item, dict) for item in raw):
        raise InvalidModel(f"the signature's {part} must be a list of objects")
    return raw


def _tensor_spec(name: str, raw: dict[str, Any], part: str) -> Spec:
    inner = raw.get("tensor-spec")
    shape = inner.get("shape") if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or not isinstance(shape, (list, tuple)):
        raise InvalidModel(f"the signature's {part}: '{shorten(name)}' has no dtype and shape")
    dtype = str(inner.get("dtype"))
    simple = dtype in _TENSOR_TYPES or dtype.startswith(_TEXT_TYPES)
    return Spec(
        name,
        raw.get("name"),
        "tensor",
        _TENSOR_TYPES.get(dtype, "BYTES"),
        "np",
        tuple(int(dim) for dim in shape),
        simple=simple,
        mixed=dtype == "object",
    )


def _column_spec(name: str, raw: dict[str, Any], part: str) -> Spec:
    kind = raw.get("type")
    if not isinstance(kind, str):
        raise InvalidModel(f"the signature's {part}: '{shorten(name)}' has no type")
    datatype, content_type = _COLUMN_TYPES.get(kind, _NESTED)
    return Spec(
        name,
        raw.get("name"),
        kind,
        datatype,
        content_type,
        (-1, 1),
        is_required(raw) and kind != "any",
        kind in _COLUMN_TYPES,
        json_schema="" if kind in _COLUMN_TYPES else json.dumps(json_schema(raw)),
    )


def parse_specs(raw: Any, part: str, first: int) -> list[Spec] | None:
    """Read `inputs` or `outputs`; unnamed ones are called `input-{first}` and so on.

    Raises:
        InvalidModel: the schema is not one MLflow writes.
    """
    if raw is None or raw == "":
        return None
    specs = []
    for index, item in enumerate(_listed(raw, part), start=first):
        label = item.get("name")
        name = f"{part[:-1]}-{index}" if label is None else str(label)
        build = _tensor_spec if item.get("type") == "tensor" else _column_spec
        specs.append(build(name, item, part))
    return specs


def parse_params(raw: Any) -> list[ParamSpec] | None:
    """Read `params`, whose type is under `type` or, in older models, `dtype`.

    Raises:
        InvalidModel: the schema is not one MLflow writes.
    """
    if raw is None or raw == "":
        return None
    specs = []
    for item in _listed(raw, "params"):
        kind = item.get("type") or item.get("dtype")
        if not isinstance(kind, str) or "name" not in item:
            raise InvalidModel("the signature's params: each needs a name and a type")
        is_list = item.get("shape") is not None
        specs.append(ParamSpec(str(item["name"]), kind, item.get("default"), is_list))
    return specs


def check_shape(shape: Sequence[int], spec: Spec) -> None:
    """Check the rank and the fixed dimensions of a tensor input.

    Raises:
        InvalidInput: the shape does not fit; the message names the input and both shapes.
    """
    fits = len(shape) == len(spec.shape) and all(
        want in (-1, got) for want, got in zip(spec.shape, shape)
    )
    if not fits:
        raise InvalidInput(
            f"{spec.where}: expected shape {list(spec.shape)} (-1 is free), got {list(shape)}"
        )
