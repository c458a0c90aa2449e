"""Tables for a signature that has columns of arrays, objects, maps or any type.

Its columns of plain types are converted as those of any other model; the others, cell by cell.
"""

from __future__ import annotations

from itertools import count
from typing import Any, Callable

import numpy as np

from headrace.errors import InvalidInput, MalformedBody
from headrace.protocol.json_words import word_of
from headrace.protocol.mlflow.schema import Spec
from headrace.protocol.mlflow.signature import Signature
from headrace.protocol.place import place
from headrace.runtimes.mlflow.nested_values import fitted, whole

# Makes the columns of plain types of a table, which have other names in the signature.
Plain = Callable[[Any, Signature], Any]


class NestedTable:
    """Makes the tables of one model; `schemas` are its types as written in the signature."""

    def __init__(
        self, signature: Signature, schemas: dict[str, dict[str, Any]], plain: Plain
    ) -> None:
        self._signature = signature
        self._schemas = schemas
        self._plain = plain
        labels = [spec.label for spec in signature.inputs]
        # A table without names has numbers.
        self._by_label = dict(zip(labels if signature.is_named else count(), signature.inputs))

    def of_inputs(self, value: Any) -> Any:
        """The table of `inputs` that are an object: one row, as MLflow reads it, or columns.

        Only if no type is an array, object or map, lists are columns.
        """
        import pandas as pd

        kinds = {spec.type for spec in self._signature.inputs if not spec.simple}
        if kinds - {"any"} or not any(isinstance(cells, list) for cells in value.values()):
            return pd.DataFrame([value])
        try:
            return pd.DataFrame(value)
        except ValueError as error:
            raise MalformedBody("inputs: the columns differ in length") from error

    def of_lone(self, value: Any) -> Any:
        """The table of a model's only column, whose cells `inputs` has without a name.

        A list as deep as the type is one cell, and a deeper one has one for each row.
        """
        import pandas as pd

        (spec,) = self._signature.inputs
        cells = value if isinstance(value, list) else [value]
        if spec.type == "array" and _depth(value) <= _dimensions(self._schemas[spec.name]):
            cells = [value]
        return pd.DataFrame({spec.name: pd.Series(cells, dtype=object)})

    def conformed(self, table: Any, as_arrays: bool = False, from_json: bool = True) -> Any:
        """The table with the signature's columns and types, and its rows' labels.

        `as_arrays` makes numpy arrays of lists, as MLflow does for `inputs` and Parquet. Integers
        `from_json` are the nearest floats where the type is one; others must be exact.

        Raises:
            InvalidInput: a column or a cell does not fit; the message names row and column.
        """
        import pandas as pd

        signature = self._signature
        names = [str(name) for name in table.columns]
        order = signature.order(names)
        simple = [(spec, position) for spec, position in order if spec.simple]
        columns = {}
        if simple:
            part = table.iloc[:, [position for _, position in simple]]
            part.columns = [spec.name for spec, _ in simple]
            plain = self._plain(part, _only(signature, [spec for spec, _ in simple]))
            columns = {spec.name: plain.iloc[:, index] for index, (spec, _) in enumerate(simple)}
        for spec, position in order:
            if not spec.simple:
                cells = self.cells(spec, table.iloc[:, position].tolist(), as_arrays, from_json)
                columns[spec.name] = pd.Series(cells, table.index, object)
        made = pd.DataFrame({spec.name: columns[spec.name] for spec, _ in order})
        labels = {spec.name: label for label, spec in self._by_label.items()}
        made.columns = pd.Index([labels[spec.name] for spec, _ in order])
        return made

    def fit(self, table: Any) -> None:
        """Check the cells of other than plain types in the table of a request over `/v2`.

        They are made fit for MLflow in place. The table has the labels of the model's own.
        """
        import pandas as pd

        for position, label in enumerate(table.columns):
            spec = self._by_label[label]
            if not spec.simple:
                cells = self.cells(spec, table.iloc[:, position].tolist())
                table.isetitem(position, pd.Series(cells, table.index, object))

    def cells(
        self, spec: Spec, cells: list[Any], as_arrays: bool = False, from_json: bool = True
    ) -> list[Any]:
        """The cells of a column, each as MLflow takes it for the column's type."""
        schema = self._schemas[spec.name]
        try:
            cells = whole(_plain(cells), schema, from_json)
            if spec.type == "array":
                _check_lists(spec, cells)
            fit = [
                fitted(cell, schema, place(spec.where, row, [len(cells)]), spec.required)
                for row, cell in enumerate(cells)
            ]
        except RecursionError as error:
            raise InvalidInput(f"{spec.where}: lists or objects are nested too deep") from error
        return [_array(cell) for cell in fit] if as_arrays and spec.type == "array" else fit


def _only(signature: Signature, specs: list[Spec]) -> Signature:
    """A signature of some of the inputs."""
    return Signature(specs, pass_over=signature.pass_over)


def _depth(value: Any) -> int:
    """How deep lists are nested, by their first elements."""
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = value[0] if value else None
    return depth


def _dimensions(schema: dict[str, Any]) -> int:
    """How deep the lists of a type are nested."""
    depth = 0
    while schema.get("type") == "array":
        depth += 1
        schema = schema.get("items") or {}
    return depth


def _plain(cell: Any) -> Any:
    """A cell as JSON has it: lists for the arrays of Parquet, and null for what is missing."""
    if isinstance(cell, np.ndarray):
        # Those of numpy's times would be numbers.
        return [_plain(item) for item in (cell if cell.dtype.kind == "M" else cell.tolist())]
    if isinstance(cell, dict):
        return {name: _plain(item) for name, item in cell.items()}
    if isinstance(cell, list):
        return [_plain(item) for item in cell]
    return None if isinstance(cell, float) and cell != cell else cell


def _array(cell: Any) -> Any:
    try:
        return cell if cell is None else np.array(cell)
    except ValueError:
        # Lists of different lengths.
        return cell


def _check_lists(spec: Spec, cells: list[Any]) -> None:
    """Say what a row holds where the rows are the elements of one row's list."""
    for row, cell in enumerate(cells):
        if cell is not None and not isinstance(cell, list):
            raise InvalidInput(
                f"{place(spec.where, row, [len(cells)])}: expected a list (array), got "
                f"{word_of(type(cell))}; a row holds a whole list, so that the column of one row "
                "is a list in a list"
            )
