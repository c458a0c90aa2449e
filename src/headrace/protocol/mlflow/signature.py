"""MLflow signatures: what a model takes, and how requests are made to conform to it.

Every protocol runs `Signature.conform`, so a request means the same whichever way it came.
Needs only the standard library and numpy, so that a worker on any Python can import it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Callable

import numpy as np

from headrace.errors import InvalidInput, listing
from headrace.protocol import nullable
from headrace.protocol.casting import cast
from headrace.protocol.datatypes import DATATYPES, element_count
from headrace.protocol.messages import InferenceRequest, TensorMetadata
from headrace.protocol.mlflow.packing import pack
from headrace.protocol.mlflow.params import conform_params, refused_params, unknown_params
from headrace.protocol.mlflow.schema import (
    ParamSpec,
    Spec,
    check_shape,
    parse_params,
    parse_specs,
)
from headrace.protocol.reserved_parameters import BATCH_DIM, JSON_SCHEMA, RESERVED
from headrace.protocol.table_request import TableRequest
from headrace.protocol.tensor import Parameters, Tensor, pack_bytes, unpack_bytes

# A request that is still a raw body of MLflow's scoring protocol has this content type, and one
# tensor of this name: a single BYTES element whose own content type is the media type.
SCORING = "mlflow"
PAYLOAD = "payload"
# The parameter of such a request that has the value of the `scoring` setting, unless it is strict,
# and the parameter of its answer that has the words passed over, by kind.
READS, PASSED_OVER = "scoring", "passed_over"
# The kinds of words that a request may hold and its model not know.
COLUMN, PARAM, KEY = "column", "param", "key"
# Called with a kind of word, and words of a request that are passed over.
PassOver = Callable[[str, Sequence[str]], None]

# The name of columns that are joined, and the bytes of the largest that are: to turn more of them
# from columns into rows would hold up the event loop, and saves less than it takes.
_MATRIX, _MOST_JOINED = "columns", 16 * 1024

_NAME, _DATATYPE, _SHAPE = attrgetter("name"), attrgetter("datatype"), attrgetter("shape")


class Signature:
    """The inputs, outputs and params of a model, as MLflow records them.

    `inputs` and `outputs` are empty and `params` is None where the model declares nothing.
    `content_type` is the Python value the model takes: `pd`, `np`, or `dict` of tensors.
    `is_simple` means that this module knows the type of every input exactly. With `pass_over`, what
    the model does not know is dropped and reported to it instead of refused, and text that is a
    number is one.
    """

    def __init__(
        self,
        inputs: list[Spec] | None = None,
        outputs: list[Spec] | None = None,
        params: list[ParamSpec] | None = None,
        from_type_hint: bool = False,
        pass_over: PassOver | None = None,
    ) -> None:
        self.inputs = inputs or []
        self.pass_over = pass_over
        if pass_over is not None:
            self.inputs = [spec._replace(reads_text=True) for spec in self.inputs]
        self.outputs = outputs or []
        self.params = params
        self.from_type_hint = from_type_hint
        self.is_tensors = bool(self.inputs) and all(spec.is_tensor for spec in self.inputs)
        self.is_columns = bool(self.inputs) and not self.is_tensors
        self.is_named = any(spec.label is not None for spec in self.inputs)
        self._types_inputs = bool(self.inputs) and not from_type_hint
        self.is_simple = self._types_inputs and all(spec.simple for spec in self.inputs)
        tensor_type = "dict" if self.is_named else "np"
        self.content_type = tensor_type if self.is_tensors else "pd"
        self.names = [spec.name for spec in self.inputs]
        self.datatypes = [spec.datatype for spec in self.inputs]
        self._by_name = {spec.name: spec for spec in self.inputs}
        self._count = len(self.inputs)
        self.is_double = self.is_columns and set(self.datatypes) == {"FP64"}
        # Numeric columns that arrive as declared pass without a check of each one.
        self._may_pass = self.is_columns and self.is_simple and "BYTES" not in self.datatypes
        self._may_join = (
            self._may_pass
            and len(set(self.datatypes)) == 1
            and len(set(self.names)) == self._count > 1
        )
        # Those of the columns, if any table with doubles of these names is what the model takes.
        self.table_names = self.names if self._may_join and self.is_double else None

    @classmethod
    def parse(cls, raw: Mapping[str, Any], pass_over: PassOver | None = None) -> Signature:
        """Read the `signature` mapping of an `MLmodel` file.

        `inputs`, `outputs` and `params` are JSON texts or lists; each may be None or absent.
        The extra key `from_type_hint` says that the model checks its input itself.

        Raises:
            InvalidModel: the mapping is not one MLflow writes.
        """
        return cls(
            parse_specs(raw.get("inputs"), "inputs", first=0),
            parse_specs(raw.get("outputs"), "outputs", first=1),
            parse_params(raw.get("params")),
            bool(raw.get("from_type_hint")),
            pass_over,
        )

    def input_metadata(self) -> list[TensorMetadata]:
        """The inputs as the metadata route shows them; optional ones are marked."""
        return [_metadata(spec) for spec in self.inputs]

    def output_metadata(self) -> list[TensorMetadata]:
        """The outputs as the metadata route shows them; unnamed ones are numbered from 1."""
        return [_metadata(spec) for spec in self.outputs]

    def conform(self, request: InferenceRequest) -> InferenceRequest:
        """The same request with its inputs in the order and of the types of the schema.

        Columns come out with shape `[N]`; the request gets the signature's content type and,
        if the model declares params, exactly those. Requests whose inputs cannot be typed here
        (the raw scoring payload, models with type hints or no inputs) keep them.

        Raises:
            InvalidInput: an input is missing, surplus, of the wrong shape, or not
                convertible without loss; the message names it.
        """
        given = request.parameters
        inputs = request.inputs
        if not self._passes(inputs):
            if given and given.get("content_type") == SCORING:
                return request
            if self._types_inputs:
                tensors = self._tensors if self.is_tensors else self._columns
                return InferenceRequest(
                    tensors(inputs), self._parameters(given), request.outputs, request.id
                )
            if self.params is None:
                return request
        return InferenceRequest(inputs, self._parameters(given), request.outputs, request.id)

    def conform_joined(self, request: InferenceRequest) -> InferenceRequest:
        """A request as `conform` returns it, with its columns as one `[N, columns]` matrix.

        Only if it is small and has all columns, which are numbers of one datatype. The matrix is
        cheaper to merge and to send, and `is_matrix` tells the model that it got one. Hot.

        Raises:
            InvalidInput: see `conform`.
        """
        given = request.parameters
        if not self._may_join or given and BATCH_DIM in given:
            return self.conform(request)
        table = request.table if type(request) is TableRequest else None
        if table is not None and table.names == self.table_names:
            rows, data, parameters = table.rows, table.data, self._parameters(given)
        else:
            request = self.conform(request)
            joined = self._joined(request.inputs)
            if joined is None:
                return request
            rows, data, parameters = request.inputs[0].shape[0], joined, request.parameters or {}
        matrix = Tensor(_MATRIX, self.datatypes[0], [rows, self._count], data)
        return InferenceRequest([matrix], parameters, request.outputs, request.id)

    def _joined(self, columns: list[Tensor]) -> bytes | None:
        """The numbers of columns row by row; None if the columns are to stay apart."""
        size = 0
        for column in columns:
            if column.parameters:
                return None
            size += len(column.data)
        if len(columns) != self._count or not 0 < size <= _MOST_JOINED:
            return None
        data = b"".join([column.data for column in columns])
        if columns[0].shape[0] == 1:
            return data
        kind = DATATYPES[self.datatypes[0]].numpy
        return np.frombuffer(data, kind).reshape(self._count, -1).T.tobytes()

    def is_matrix(self, inputs: Sequence[Tensor]) -> bool:
        """Whether the only input of a request is the matrix that `conform_joined` makes."""
        return self._may_join and len(inputs) == 1 and len(inputs[0].shape) == 2

    @property
    def param_names(self) -> list[str]:
        """The names of the params that the model declares."""
        return [param.name for param in self.params or ()]

    def conform_params(self, parameters: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The params the model gets: converted, and defaults filled in.

        If there is no params schema, the given params without the protocol's own keys.

        Raises:
            InvalidInput: a param is unknown, or not of its declared type; the message names it.
        """
        if self.params is not None:
            return self._conform_params(parameters, self.params)
        if not parameters:
            return None
        return {key: value for key, value in parameters.items() if key not in RESERVED} or None

    def check_names(self, given: Sequence[str]) -> None:
        """Check that no input is missing, repeated, or surplus where that is refused.

        Raises:
            InvalidInput: an input is missing, surplus or repeated; the message names it.
        """
        word = "input" if self.is_tensors else "column"
        present = set(given)
        if len(present) != len(given):
            twice = sorted(name for name, times in Counter(given).items() if times > 1)
            raise InvalidInput(f"duplicate {word} {listing(twice)}")
        surplus = [name for name in given if name not in self._by_name]
        missing = [spec.name for spec in self.inputs if spec.required and spec.name not in present]
        if missing:
            message = f"missing {word}{'s' if len(missing) > 1 else ''} {listing(missing)}"
            if surplus:
                message += f"; surplus: {listing(surplus)}{_likely(surplus)}"
            raise InvalidInput(message)
        if surplus and self.pass_over is not None:
            self.pass_over(COLUMN, surplus)
        elif surplus:
            raise InvalidInput(
                f"surplus {word}{'s' if len(surplus) > 1 else ''} {listing(surplus)}, "
                f"the model takes {listing(self.names)}"
            )

    def takes_matrix(self) -> bool:
        """Whether one `[N, columns]` matrix can stand for all columns, in schema order."""
        return self.is_columns and (not self.is_named or len(set(self.datatypes)) == 1)

    def _conform_params(
        self, given: Mapping[str, Any] | None, specs: list[ParamSpec]
    ) -> dict[str, Any]:
        unknown = unknown_params(given, specs)
        if unknown and self.pass_over is not None:
            self.pass_over(PARAM, unknown)
        elif unknown:
            raise refused_params(unknown, specs)
        return conform_params(given, specs)

    def _parameters(self, given: Parameters | None) -> Parameters:
        params = given or {}
        if self.params is not None:
            params = self._conform_params(given, self.params)
        if self._types_inputs:
            return {**params, "content_type": self.content_type}
        if given and "content_type" in given:
            return {**params, "content_type": given["content_type"]}
        return params

    def _passes(self, inputs: list[Tensor]) -> bool:
        if not self._may_pass or len(inputs) != self._count:
            return False
        shape = inputs[0].shape
        return (
            len(shape) == 1
            and list(map(_NAME, inputs)) == self.names
            and list(map(_DATATYPE, inputs)) == self.datatypes
            and list(map(_SHAPE, inputs)) == [shape] * self._count
        )

    def order(self, given: Sequence[str]) -> list[tuple[Spec, int]]:
        """Each spec, in schema order, with the position of its input among `given`.

        If the signature has no names, inputs may have any names and are matched by position.

        Raises:
            InvalidInput: an input is missing, surplus or repeated; the message names it.
        """
        if not self.is_named and not set(self.names) <= set(given):
            surplus = given[self._count :]
            if surplus and self.pass_over is not None:
                self.pass_over(COLUMN, surplus)
            if len(given) == self._count or (surplus and self.pass_over is not None):
                return list(zip(self.inputs, range(self._count)))
        self.check_names(given)
        position = {name: index for index, name in enumerate(given)}
        return [(spec, position[spec.name]) for spec in self.inputs if spec.name in position]

    def _columns(self, inputs: list[Tensor]) -> list[Tensor]:
        if len(inputs) == 1 and self._count > 1 and inputs[0].name not in self._by_name:
            inputs = self._split_matrix(inputs[0])
        order = self.order([tensor.name for tensor in inputs])
        columns = [_column(inputs[index], spec) for spec, index in order]
        check_rows(columns)
        return columns

    def _split_matrix(self, matrix: Tensor) -> list[Tensor]:
        if not self.takes_matrix() or len(matrix.shape) != 2:
            return [matrix]
        if matrix.shape[1] != self._count:
            raise InvalidInput(
                f"the model takes {self._count} columns, got a matrix of {matrix.shape[1]}"
            )
        shape = [matrix.shape[0]]
        kind = DATATYPES[matrix.datatype]
        if kind.itemsize:
            block = np.frombuffer(matrix.data, kind.numpy).reshape(matrix.shape)
            parts = [block[:, index].tobytes() for index in range(self._count)]
        else:
            cells = unpack_bytes(matrix.data, element_count(matrix.shape, matrix.name), matrix.name)
            parts = [pack_bytes(cells[index :: self._count]) for index in range(self._count)]
        return [
            Tensor(name, matrix.datatype, shape, part, matrix.parameters)
            for name, part in zip(self.names, parts)
        ]

    def _tensors(self, inputs: list[Tensor]) -> list[Tensor]:
        order = self.order([tensor.name for tensor in inputs])
        return [_shaped(inputs[index], spec) for spec, index in order]


def _metadata(spec: Spec) -> TensorMetadata:
    parameters: Parameters = {"content_type": spec.content_type}
    if not spec.required:
        parameters["required"] = False
    if spec.json_schema:
        parameters[JSON_SCHEMA] = spec.json_schema
    return TensorMetadata(spec.name, spec.datatype, list(spec.shape), parameters)


def check_rows(columns: Sequence[Tensor]) -> None:
    """Check that all columns have the same number of rows.

    Raises:
        InvalidInput: they do not; the message names the one that differs from the first.
    """
    for column in columns:
        if column.shape[0] != columns[0].shape[0]:
            raise InvalidInput(
                f"column '{column.name}' has {column.shape[0]} rows, "
                f"but column '{columns[0].name}' has {columns[0].shape[0]}"
            )


def _column(tensor: Tensor, spec: Spec) -> Tensor:
    """The tensor as the column `spec`, one element per row."""
    shape = list(tensor.shape)
    if not spec.simple:
        # Only the model's own library knows these types; a row may span the other dimensions.
        if not shape:
            raise InvalidInput(f"{spec.where}: shape must start with the number of rows, got []")
        return Tensor(spec.name, tensor.datatype, shape, tensor.data, _typed(tensor, spec))
    if len(shape) == 2 and shape[1] == 1:
        shape = shape[:1]
    elif not shape:
        shape = [1]
    elif len(shape) != 1:
        raise InvalidInput(f"{spec.where}: expected shape [N] or [N, 1], got {shape}")
    return Tensor(spec.name, spec.datatype, shape, _data(tensor, spec), _typed(tensor, spec))


def _data(tensor: Tensor, spec: Spec) -> Any:
    """The tensor's data as the datatype of `spec`."""
    if tensor.datatype == spec.datatype:
        return tensor.data
    in_json = tensor.content_type == "pd_json" and nullable.datatype_of(tensor) is None
    if tensor.datatype == "BYTES" and (spec.reads_text or in_json):
        return pack(_cells(tensor), spec, tensor.shape)
    return cast(tensor, spec.datatype, spec.where)


def _cells(tensor: Tensor) -> list[Any]:
    """The elements of a BYTES tensor: text, or the JSON values of a mixed column."""
    elements = unpack_bytes(tensor.data, element_count(tensor.shape, tensor.name), tensor.name)
    if tensor.content_type == "pd_json":
        return [json.loads(element) for element in elements]
    return [element.decode("utf-8", "replace") for element in elements]


def _shaped(tensor: Tensor, spec: Spec) -> Tensor:
    """The tensor as the tensor input `spec`: shape checked, datatype converted."""
    check_shape(tensor.shape, spec)
    if not spec.simple or spec.mixed or tensor.datatype == spec.datatype:
        datatype, data = tensor.datatype, tensor.data
    else:
        datatype, data = spec.datatype, _data(tensor, spec)
    return Tensor(spec.name, datatype, list(tensor.shape), data, tensor.parameters)


def _typed(tensor: Tensor, spec: Spec) -> Parameters | None:
    """The tensor's parameters; text gets the content type of `spec` unless it has its own."""
    if tensor.datatype != "BYTES" or tensor.content_type is not None:
        return tensor.parameters
    return {**(tensor.parameters or {}), "content_type": spec.content_type}


def _likely(surplus: Sequence[str]) -> str:
    """What may have happened to a request whose names are these, if that can be told."""
    if len(surplus) == 1 and (";" in surplus[0] or "\t" in surplus[0]):
        return "; the columns of a table are separated by commas"
    if {"name", "shape", "datatype"} <= set(surplus):
        return "; tensors of the Open Inference Protocol go to /v2/models/MODEL/infer"
    return ""
