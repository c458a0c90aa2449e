"""Bodies of MLflow's scoring protocol that only the worker can decode.

Source: MLflow's `/invocations`: CSV, Parquet, JSON for models without a signature or with
nested types, and the LLM forms. Plain typed columns are decoded before they get here.
"""

from __future__ import annotations

import io
from typing import Any, Callable

import numpy as np

from headrace.codecs import csv_rows, frame
from headrace.errors import InvalidInput, MalformedBody, UnsupportedMedia, listing, shorten
from headrace.protocol import records
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow import python_json
from headrace.protocol.mlflow.signature import PAYLOAD, Signature
from headrace.protocol.tensor import Tensor, unpack_bytes
from headrace.runtimes.mlflow import nested_values
from headrace.runtimes.mlflow.nested_table import NestedTable

LLM_KEYS = ("messages", "prompt", "input")
_DOUBLE = {"type": "double"}
_TEXT_COLUMNS = ("string", "binary", "datetime")


class Payload:
    """Decodes raw bodies for one model.

    `schemas` are the input types as written in the signature, and `nested` makes the tables of a
    signature that has arrays, objects, maps or any type, and is None for others.
    """

    def __init__(
        self,
        signature: Signature | None,
        schemas: dict[str, dict[str, Any]],
        typed: Callable[[InferenceRequest], Any],
    ) -> None:
        self._signature = signature
        self._known = frozenset(signature.names if signature is not None else ())
        self._schemas = schemas
        self._typed = typed
        self.nested: NestedTable | None = None
        if signature is not None and _is_nested(signature):
            self.nested = NestedTable(signature, schemas, self._plain_columns)

    def decode(self, request: InferenceRequest) -> tuple[Any, dict[str, Any] | None]:
        """The value for the model's `predict`, and the params.

        Raises:
            InvalidInput: the body does not fit its media type or the signature.
            UnsupportedMedia: the media type is not CSV, Parquet or JSON.
        """
        tensor = next((t for t in request.inputs if t.name == PAYLOAD), None)
        if tensor is None:
            raise InvalidInput(f"content type 'mlflow' takes one input named '{PAYLOAD}'")
        body = unpack_bytes(tensor.data, 1)[0]
        media = tensor.content_type or "application/json"
        if media == "text/csv":
            return self._conformed(self._with_floats(self._csv(body))), None
        if media == "application/vnd.apache.parquet":
            return self._conformed(_parquet(body), from_json=False), None
        if media != "application/json":
            raise UnsupportedMedia(f"media type '{shorten(media)}' is not supported")
        return self._json(body)

    def _json(self, body: bytes) -> tuple[Any, dict[str, Any] | None]:
        data = python_json.loads(body)
        python_json.check_text(data, body)
        if not isinstance(data, dict):
            raise MalformedBody("the body must be a JSON object")
        if any(key in data for key in LLM_KEYS):
            return self._llm(data)
        params = self._params(data.get("params"))
        if self._signature is not None and self._signature.from_type_hint:
            if "inputs" not in data:
                raise InvalidInput("this model takes its data under the key 'inputs'")
            return self.whole(data["inputs"], self._signature.names[0]), params
        for key in ("dataframe_split", "dataframe_records"):
            if key in data:
                return self._table(key, data[key]), params
        for key in ("inputs", "instances"):
            if key in data:
                return self._tensors(key, data[key]), params
        raise MalformedBody(
            "the body must have one of dataframe_split, dataframe_records, inputs, instances"
        )

    def _llm(self, data: dict[str, Any]) -> tuple[Any, dict[str, Any] | None]:
        specs = (self._signature.params if self._signature else None) or []
        names = {spec.name for spec in specs}
        params = {key: value for key, value in data.items() if key in names}
        rest = {key: self.whole(value, key) for key, value in data.items() if key not in names}
        # MLflow gives an empty dict here, but None for the other forms.
        return rest, self._params(params) or {}

    def _params(self, params: Any) -> dict[str, Any] | None:
        if params is not None and not isinstance(params, dict):
            raise MalformedBody("params must be a JSON object")
        if self._signature is None or self._signature.params is None:
            # MLflow drops params that no schema declares.
            return None if params is None else {}
        return self._signature.conform_params(params)

    def _table(self, key: str, value: Any) -> Any:
        import pandas as pd

        orient = key[len("dataframe_") :]
        wanted: Any
        wanted, word = (dict, "object") if orient == "split" else (list, "list of objects")
        if not isinstance(value, wanted):
            raise MalformedBody(f"{key} must be a JSON {word}")
        if orient == "split" and ("data" not in value or set(value) - {"data", "columns", "index"}):
            raise MalformedBody(f"{key} must have 'data' and may have 'columns' and 'index'")
        if orient == "records":
            value = self._known_cells(value, key)
        try:
            table = pd.DataFrame(**value) if orient == "split" else pd.DataFrame(value)
        except (ValueError, TypeError, AssertionError) as error:
            raise MalformedBody(f"{key} is not a table: rows and columns do not agree") from error
        return self._conformed(self._with_floats(table))

    def _known_cells(self, value: list[Any], key: str) -> list[Any]:
        """The rows of a table without what the model does not take.

        Raises:
            InvalidInput: a column is missing, or surplus where that is refused; or the table
                would be far larger than the body.
        """
        if not value or not all(isinstance(row, dict) for row in value):
            return value
        names = records.names_of(value)
        if self._signature is not None and self._signature.is_named:
            taken = [names[index] for _, index in self._signature.order(names)]
            if len(taken) < len(names):
                value = [{name: row[name] for name in taken if name in row} for row in value]
                names = taken
        records.check_size(value, names, key)
        return value

    def _tensors(self, key: str, value: Any) -> Any:
        if self.nested is not None:
            table, as_arrays = self._nested_table(self.nested, key, value)
            return self.nested.conformed(self._with_floats(table), as_arrays)
        if self._signature is not None and self._signature.inputs:
            return self._conformed_arrays(value)
        if isinstance(value, dict):
            return {name: _array(cells, _named(key, name)) for name, cells in value.items()}
        if value and isinstance(value, list) and all(isinstance(row, dict) for row in value):
            if key == "inputs":
                return value
            names = list(dict.fromkeys(name for row in value for name in row))
            if any(set(row) != set(names) for row in value):
                raise InvalidInput("instances: every row must have the same names")
            return {name: _array([row[name] for row in value], _named(key, name)) for name in names}
        return _array(value, key)

    def _nested_table(self, nested: NestedTable, key: str, value: Any) -> tuple[Any, bool]:
        """The table of `inputs` or `instances`: rows, one row as an object, or a lone column.

        And whether its lists are arrays, as MLflow has it for these.
        """
        import pandas as pd

        assert self._signature is not None
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            if self._signature.is_named:
                return pd.DataFrame(self._known_cells(value, key)), key == "inputs"
        elif isinstance(value, dict) and self._signature.is_named:
            return nested.of_inputs(value), True
        if len(self._signature.inputs) > 1:
            raise InvalidInput(
                f"'{key}' must be a list of records or an object of columns; "
                f"the model takes {listing(self._signature.names)}"
            )
        return nested.of_lone(value), True

    def whole(self, value: Any, name: str, from_json: bool = True) -> Any:
        """The value of one input, with whole numbers as its type has them."""
        schema = self._schemas.get(name)
        return value if schema is None else nested_values.whole(value, schema, from_json)

    def _csv(self, body: bytes) -> Any:
        import pandas as pd

        specs = self._signature.inputs if self._signature else []
        texts: Any = {spec.name: object for spec in specs if spec.type in _TEXT_COLUMNS}
        try:
            with csv_rows.whole_rows(lambda: io.BytesIO(body)):
                return pd.read_csv(io.BytesIO(body), dtype=texts, **csv_rows.exactly(pd))
        except csv_rows.BadTable as error:
            raise MalformedBody(f"the CSV table: {error}") from error
        except (ValueError, TypeError, OverflowError, pd.errors.ParserError) as error:
            raise MalformedBody("the body is not a CSV table in UTF-8 with a header row") from error

    def _with_floats(self, table: Any) -> Any:
        """A table of JSON or CSV in which integers for columns of floats are the nearest ones.

        That is what their digits mean there. The integers of Parquet have a type of their own.
        """
        import pandas as pd

        signature = self._signature
        if signature is None or not (signature.is_simple or self.nested is not None):
            return table
        are_floats = {spec.name: DATATYPES[spec.datatype].is_float for spec in signature.inputs}
        by_position = not signature.is_named and all(are_floats.values())
        for position, name in enumerate(table.columns):
            column = table.iloc[:, position]
            if not (by_position or are_floats.get(str(name))) or column.dtype.kind not in "iuO":
                continue
            if column.dtype.kind == "O":
                cells = nested_values.whole(column.tolist(), _DOUBLE)
                table.isetitem(position, pd.Series(cells, table.index, object))
            else:
                table.isetitem(position, column.astype(np.float64))
        return table

    def _conformed(self, table: Any, from_json: bool = True) -> Any:
        """The table with the signature's columns and types, by the same rule as every protocol.

        Its rows keep their labels, and its columns of text their dtype. Without `from_json`, its
        integers have a type of their own.
        """
        signature = self._signature
        if self.nested is not None:
            return self.nested.conformed(table, as_arrays=not from_json, from_json=from_json)
        if signature is None or not signature.is_simple:
            return table
        if signature.is_columns and signature.is_named:
            # Those that the model does not take are not converted first: there may be many.
            names = [str(name) for name in table.columns]
            signature.check_names(names)
            table = table.loc[:, [name in self._known for name in names]]
        return self._plain_columns(table, signature)

    def _plain_columns(self, table: Any, signature: Signature) -> Any:
        """The same for a table without nested types, and this signature or a part of it."""
        sent = table
        for spec in signature.inputs:
            if spec.type in _TEXT_COLUMNS and spec.name in table and table[spec.name].isna().all():
                # Without a text among them, missing values would be numbers.
                sent = sent.assign(**{spec.name: np.full(len(table), None, object)})
        tensors = frame.tensors_of(sent)
        if signature.is_tensors and not signature.is_named and len(tensors) > 1:
            tensors = [_matrix(table)]
        elif not signature.is_named and len(tensors) == len(signature.inputs):
            for tensor, name in zip(tensors, signature.names):
                tensor.name = name
        value = self._typed(signature.conform(InferenceRequest([_untyped(t) for t in tensors])))
        return _labelled(value, table, tensors, signature) if signature.is_columns else value

    def _conformed_arrays(self, value: Any) -> Any:
        from headrace.codecs import encode_response

        assert self._signature is not None
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            return self._table("dataframe_records", value)
        named = value if isinstance(value, dict) else {self._signature.names[0]: value}
        lists = {name: cell if isinstance(cell, list) else [cell] for name, cell in named.items()}
        if self._signature.is_columns:
            texts = {spec.name for spec in self._signature.inputs if spec.type in _TEXT_COLUMNS}
            lists = {
                name: _without_nan(cells) if name in texts else _with_nan(cells)
                for name, cells in lists.items()
            }
        for spec in self._signature.inputs:
            if spec.name in lists and DATATYPES[spec.datatype].is_float:
                lists[spec.name] = nested_values.whole(lists[spec.name], _DOUBLE)
        tensors = [_untyped(t) for t in encode_response(lists).outputs]
        return self._typed(self._signature.conform(InferenceRequest(tensors)))


def _is_nested(signature: Signature) -> bool:
    # A model checks its own type hints.
    return signature.is_columns and not (signature.is_simple or signature.from_type_hint)


def _named(key: str, name: str) -> str:
    return f"{key} '{shorten(name)}'"


def _array(value: Any, where: str) -> Any:
    try:
        return np.array(value)
    except ValueError as error:
        raise InvalidInput(f"{where}: the nested lists differ in length") from error


def _with_nan(cells: list[Any]) -> list[Any]:
    """A column of numbers whose missing values are NaN; any other column as it is."""
    kinds = set(map(type, cells))
    if type(None) not in kinds or not {int, float} & kinds:
        return cells
    return [float("nan") if cell is None else cell for cell in cells]


def _without_nan(cells: list[Any]) -> list[Any]:
    """A column of text whose missing values are None."""
    return [None if type(cell) is float and cell != cell else cell for cell in cells]


def _untyped(tensor: Tensor) -> Tensor:
    """The tensor as a client would send it: the signature decides what its text stands for."""
    if tensor.content_type == "str":
        tensor.parameters = None
    return tensor


def _matrix(table: Any) -> Tensor:
    from headrace.codecs.array import tensor_of

    return tensor_of("input-0", np.ascontiguousarray(table.to_numpy()))


def _parquet(body: bytes) -> Any:
    import pandas as pd

    try:
        return pd.read_parquet(io.BytesIO(body))
    except ImportError as error:
        raise UnsupportedMedia("this model's environment cannot read Parquet") from error
    except Exception as error:
        raise MalformedBody("the body is not a Parquet table") from error


def _labelled(value: Any, table: Any, tensors: list[Tensor], signature: Signature) -> Any:
    """The DataFrame `value` with what tensors do not say of the table they were made of."""
    value.index = table.index
    columns = {tensor.name: column for tensor, (_, column) in zip(tensors, table.items())}
    present = [spec for spec in signature.inputs if spec.name in columns]
    for position, spec in enumerate(present):
        if spec.type == "string" and columns[spec.name].dtype.kind != "f":
            # It holds the same text, and says in its own way that some is missing. Of floats
            # there are only NaN.
            value.isetitem(position, columns[spec.name])
    return value
