"""The arrays that a model of tensors takes and returns, for runtimes that call it as a function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from headrace.codecs.array import array_of, tensor_of
from headrace.codecs.registry import OUTPUT
from headrace.errors import BadModelOutput, InvalidInput, InvalidModel, listing, shorten
from headrace.protocol.casting import cast
from headrace.protocol.messages import InferenceRequest, InferenceResponse, TensorMetadata
from headrace.protocol.tensor import Tensor
from headrace.settings import ModelSettings


class Spec(NamedTuple):
    """One input of a model; an unknown datatype or shape is None, a free dimension -1."""

    name: str
    datatype: Optional[str] = None  # noqa: UP045 -- evaluated by Python 3.9
    shape: Optional[list[int]] = None  # noqa: UP045
    required: bool = True

    def metadata(self, datatype: str = "FP32") -> TensorMetadata:
        """The input as the protocol describes it; `datatype` stands in for an unknown one."""
        parameters = {} if self.required else {"required": False}
        return TensorMetadata(self.name, self.datatype or datatype, self.shape or [-1], parameters)


def declared_specs(settings: ModelSettings) -> list[Spec]:
    """The inputs of `model-settings.json`, which requests are checked against as declared."""
    return [
        Spec(row["name"], row.get("datatype"), list(row["shape"]) if "shape" in row else None)
        for row in settings.inputs
    ]


def is_batchable(settings: ModelSettings, specs: Sequence[Spec]) -> bool:
    """Whether `extra["batchable"]` promises that rows never influence each other.

    Raises:
        InvalidModel: it does, but the first dimension of an input is fixed.
    """
    if not settings.extra.get("batchable"):
        return False
    fixed = [spec.name for spec in specs if spec.shape is not None and spec.shape[:1] != [-1]]
    if fixed:
        raise InvalidModel(
            f"model '{settings.name}' is declared batchable, but the first dimension of input "
            f"{listing(fixed)} is fixed"
        )
    return True


def take(
    request: InferenceRequest, specs: Sequence[Spec], floats: str | None = None
) -> dict[str, Any]:
    """The request's inputs as arrays by the names in `specs`, checked and cast without loss.

    A lone input may have any name when the model takes one, and a table's columns become the
    columns of its matrix. Floating-point inputs of unknown datatype are cast to `floats`.

    Raises:
        InvalidInput: an input is missing, unknown, or of another datatype or shape.
    """
    tensors = request.inputs
    required = [spec for spec in specs if spec.required] or list(specs[:1])
    if len(required) == 1:
        if request.content_type == "pd" and all(len(tensor.shape) == 1 for tensor in tensors):
            return {required[0].name: _matrix(tensors, required[0], floats)}
        if len(tensors) == 1 and tensors[0].name not in {spec.name for spec in specs}:
            return {required[0].name: _array(tensors[0], required[0], floats)}
    by_name = {spec.name: spec for spec in specs}
    taken: dict[str, Any] = {}
    for tensor in tensors:
        spec = by_name.get(tensor.name)
        if spec is None:
            raise InvalidInput(
                f"input '{shorten(tensor.name)}' is unknown, this model takes "
                f"{listing(list(by_name)) or 'none'}"
            )
        taken[tensor.name] = _array(tensor, spec, floats)
    missing = [spec.name for spec in specs if spec.required and spec.name not in taken]
    if missing:
        raise InvalidInput(
            f"missing input {listing(missing)}, got "
            f"{listing([tensor.name for tensor in tensors]) or 'none'}"
        )
    return taken


def describe(request: InferenceRequest) -> str:
    """The inputs of a request for a message: names, datatypes and shapes."""
    return ", ".join(
        f"'{shorten(tensor.name)}' of {tensor.datatype} {list(tensor.shape)}"
        for tensor in request.inputs[:4]
    )


def answer(
    arrays: Any, names: Sequence[str], wanted: Sequence[str] | None = None
) -> InferenceResponse:
    """The response of an array, a list of arrays or a dict of them.

    Outputs of a list are named by `names`, else `output-1`, `output-2`; a dict has its own
    names. `wanted` chooses among them.

    Raises:
        BadModelOutput: the number of outputs differs from the number of names.
        InvalidInput: the model has no such output as wanted.
    """
    if not isinstance(arrays, dict):
        items = list(arrays) if isinstance(arrays, (list, tuple)) else [arrays]
        if names and len(names) != len(items):
            raise BadModelOutput(f"the answer has {len(items)} outputs, expected {len(names)}")
        titles = names or [OUTPUT, *(f"output-{n}" for n in range(2, len(items) + 1))]
        arrays = dict(zip(titles, items))
    for name in wanted or ():
        if name not in arrays:
            raise InvalidInput(
                f"output '{shorten(name)}' is not available, this model has {listing(list(arrays))}"
            )
    tensors = [tensor_of(str(name), np.asarray(arrays[name])) for name in wanted or arrays]
    return InferenceResponse(tensors, {"content_type": "np" if len(tensors) == 1 else "dict"})


def _array(tensor: Tensor, spec: Spec, floats: str | None) -> Any:
    where = f"input '{shorten(tensor.name)}'"
    if spec.shape is not None and not _fits(tensor.shape, spec.shape):
        raise InvalidInput(f"{where}: expected shape {spec.shape}, got {list(tensor.shape)}")
    target = spec.datatype
    if target is None:
        if tensor.datatype == "BYTES":
            raise InvalidInput(f"{where}: expected numbers, got text (datatype BYTES)")
        is_float = tensor.datatype in ("FP16", "BF16", "FP32", "FP64")
        target = floats if floats and is_float else tensor.datatype
    if target != tensor.datatype:
        data = cast(tensor, target, where)
        tensor = Tensor(tensor.name, target, tensor.shape, data)
    return array_of(tensor, writable=True)


def _matrix(columns: Sequence[Tensor], spec: Spec, floats: str | None) -> Any:
    free = Spec(spec.name, spec.datatype, None)
    rows = {tuple(column.shape) for column in columns}
    if len(rows) > 1:
        raise InvalidInput("the columns differ in their number of rows")
    matrix = np.column_stack([_array(column, free, floats) for column in columns])
    if matrix.dtype.kind == "f" and floats == "FP32":
        # Columns of integers and floats together stack to doubles.
        matrix = matrix.astype(np.float32)
    if spec.shape is not None and not _fits(matrix.shape, spec.shape):
        raise InvalidInput(
            f"input '{shorten(spec.name)}': expected shape {spec.shape}, "
            f"got a table of shape {list(matrix.shape)}"
        )
    return matrix


def _fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    return len(shape) == len(expected) and all(
        want in (-1, have) for have, want in zip(shape, expected)
    )
