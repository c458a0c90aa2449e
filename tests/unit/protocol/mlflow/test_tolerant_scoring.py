"""What `/invocations` accepts beyond a signature, as `mlflow models serve` does."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from headrace.errors import InvalidInput
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.number_text import number_of
from headrace.protocol.mlflow.scoring import decode
from headrace.protocol.mlflow.signature import SCORING, Signature
from headrace.protocol.tensor import Tensor, pack_bytes

NUMPY = {"INT32": "<i4", "INT64": "<i8", "FP32": "<f4", "FP64": "<f8"}


class Tolerant:
    """A signature that passes words over, and those it has passed over."""

    def __init__(self, *inputs: dict[str, Any]) -> None:
        self.passed_over: list[Any] = []
        self.signature = Signature.parse({"inputs": list(inputs)}, self._pass_over)

    def _pass_over(self, kind: str, words: Any) -> None:
        self.passed_over.append((kind, list(words)))

    def send(self, body: Any) -> dict[str, list[Any]]:
        """The inputs that the model gets."""
        request = decode(json.dumps(body).encode(), "application/json", self.signature).request
        return {
            tensor.name: np.frombuffer(tensor.data, NUMPY[tensor.datatype])
            .reshape(tensor.shape)
            .tolist()
            for tensor in request.inputs
        }


def column(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "type": kind}


def strict(*inputs: dict[str, Any]) -> Signature:
    return Signature.parse({"inputs": list(inputs)})


ROW_FORMS = [
    {"dataframe_split": {"columns": ["id", "a"], "data": [["x7", 1.5]]}},
    {"dataframe_records": [{"id": "x7", "a": 1.5}]},
    {"inputs": {"id": ["x7"], "a": [1.5]}},
    {"inputs": [{"id": "x7", "a": 1.5}]},
    {"instances": [{"id": "x7", "a": 1.5}]},
]
FORM_NAMES = ["split", "records", "columns", "rows", "instances"]


@pytest.mark.parametrize("body", ROW_FORMS, ids=FORM_NAMES)
def test_a_surplus_column_is_dropped_and_reported(body):
    model = Tolerant(column("a", "double"))
    assert model.send(body) == {"a": [1.5]}
    assert model.passed_over == [("column", ["id"])]


@pytest.mark.parametrize("body", ROW_FORMS, ids=FORM_NAMES)
def test_a_surplus_column_is_refused_where_scoring_is_strict(body):
    with pytest.raises(InvalidInput, match="surplus column 'id'"):
        decode(json.dumps(body).encode(), "application/json", strict(column("a", "double")))


def test_surplus_columns_of_a_signature_without_names_are_the_last():
    model = Tolerant({"type": "double"}, {"type": "double"})
    body = {"dataframe_split": {"columns": ["p", "q", "r"], "data": [[1, 2, "x"]]}}
    assert model.send(body) == {"input-0": [1.0], "input-1": [2.0]}
    assert model.passed_over == [("column", ["r"])]


def test_surplus_inputs_of_named_tensors_are_dropped():
    spec = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}
    model = Tolerant({**spec, "name": "a"})
    assert model.send({"inputs": {"a": [1], "b": [2]}}) == {"a": [1.0]}
    assert model.passed_over == [("column", ["b"])]


@pytest.mark.parametrize(
    ("kind", "cells", "expected"),
    [
        ("double", ["5.1", 2, " 1e3 "], [5.1, 2.0, 1000.0]),
        ("float", ["0.5"], [0.5]),
        ("long", ["30", 4, "-9223372036854775808"], [30, 4, -(2**63)]),
        ("integer", ["30.0", "+3"], [30, 3]),
        ("double", ["5.1", None], [5.1, float("nan")]),
    ],
)
def test_text_that_is_a_number_is_this_number(kind, cells, expected):
    model = Tolerant(column("a", kind))
    found = model.send({"dataframe_records": [{"a": cell} for cell in cells]})
    assert repr(found) == repr({"a": expected})


def test_text_is_a_number_for_tensors_too():
    model = Tolerant({"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}})
    assert model.send({"inputs": [["1.5", 2]]}) == {"input-0": [[1.5, 2.0]]}


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("long", "1.5"),
        ("long", 1.5),
        ("integer", "9999999999"),
        ("float", "1e300"),
        ("double", "1e999"),
        ("long", None),
        ("long", "nan"),
        ("boolean", "true"),
        ("boolean", ""),
        ("double", ""),
        ("double", "1_000"),
        ("double", "0x10"),
        ("double", "five"),
        ("double", True),
        ("double", "٣"),
    ],
)
def test_what_would_change_a_value_is_refused_by_column_all_the_same(kind, cell):
    model = Tolerant(column("a", kind))
    with pytest.raises(InvalidInput, match="column 'a'"):
        model.send({"dataframe_records": [{"a": cell}]})


def test_text_that_is_no_number_is_refused_by_row():
    model = Tolerant(column("age", "long"))
    rows = [[1]] * 17_204 + [["old"]]
    with pytest.raises(
        InvalidInput, match=r"column 'age', row 17,204: expected a whole number \(long\)"
    ):
        model.send({"dataframe_split": {"columns": ["age"], "data": rows}})


def test_text_stays_text_where_scoring_is_strict():
    body = b'{"dataframe_records": [{"a": "5.1"}]}'
    with pytest.raises(InvalidInput, match="column 'a', row 0: expected a number"):
        decode(body, "application/json", strict(column("a", "double")))


def sent(body: Any, signature: Signature) -> InferenceRequest:
    return decode(json.dumps(body).encode(), "application/json", signature).request


@pytest.mark.parametrize("cell", [["Ulm", "Bonn"], ["Ulm"], {"name": "Ulm"}])
def test_a_list_or_an_object_in_a_column_of_text_is_left_to_the_worker_as_it_is(cell):
    model = Tolerant(column("city", "string"))
    body = {"dataframe_records": [{"city": cell}]}
    assert sent(body, model.signature).content_type == SCORING
    if cell != ["Ulm"]:
        with pytest.raises(InvalidInput, match="column 'city', row 0: expected text"):
            sent(body, strict(column("city", "string")))


@pytest.mark.parametrize("signature", [strict, lambda spec: Tolerant(spec).signature])
def test_nan_in_a_column_of_text_is_missing_as_pandas_writes_it(signature):
    body = {"dataframe_records": [{"city": float("nan")}, {"city": "Ulm"}]}
    assert sent(body, signature(column("city", "string"))).content_type == SCORING


def test_a_single_value_beside_columns_is_repeated_in_every_row():
    model = Tolerant(column("a", "double"), column("b", "long"))
    assert model.send({"inputs": {"a": [1, 2], "b": 3}}) == {"a": [1.0, 2.0], "b": [3, 3]}
    assert model.send({"inputs": {"a": 1, "b": 3}}) == {"a": [1.0], "b": [3]}


def test_text_stays_text_over_v2():
    tensor = Tensor("a", "BYTES", [1], pack_bytes([b"5.1"]))
    with pytest.raises(InvalidInput, match="column 'a', row 0: expected FP64, got text"):
        strict(column("a", "double")).conform(InferenceRequest([tensor]))


@pytest.mark.parametrize("text", ["9" * 5000, "1" + "0" * 400, "--1", "1e", ".", "", "1 2"])
def test_text_is_read_in_bounded_time(text):
    assert number_of(text) is None or len(text) < 1000


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5.0", 5),
        (" 1e3 ", 1000),
        ("9007199254740993.0", 9007199254740993),
        ("-9.007199254740993e15", -9007199254740993),
    ],
)
def test_text_that_is_a_whole_number_is_exact_in_a_column_of_integers(text, number):
    model = Tolerant(column("a", "long"))
    assert model.send({"dataframe_records": [{"a": text}]}) == {"a": [number]}


@pytest.mark.parametrize(
    "text",
    ["1.5", "5.00000000000000000001", "0.99999999999999999999", "1e-999", "1e300", "0e" + "9" * 30],
)
def test_text_that_is_near_a_whole_number_is_refused_in_a_column_of_integers(text):
    model = Tolerant(column("a", "long"))
    with pytest.raises(InvalidInput, match=r"column 'a', row 0: expected a whole number \(long\)"):
        model.send({"dataframe_records": [{"a": text}]})


def test_a_key_beside_the_inputs_that_is_misspelt_is_reported():
    model = Tolerant(column("a", "double"))
    assert model.send({"inputs": {"a": [1]}, "parms": {"x": 1}}) == {"a": [1.0]}
    assert model.passed_over == [("key", ["parms"])]


def test_a_key_beside_the_inputs_that_is_misspelt_is_refused_where_scoring_is_strict():
    body = b'{"inputs": {"a": [1]}, "parms": {"x": 1}}'
    with pytest.raises(InvalidInput, match="no key 'parms'; did you mean 'params'"):
        decode(body, "application/json", strict(column("a", "double")))


FLAT, NESTED = [1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]
CUBE = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2, 3]}}


@pytest.mark.parametrize("cell", [FLAT, NESTED], ids=["flat", "nested"])
@pytest.mark.parametrize("name", [None, "a"], ids=["unnamed", "named"])
def test_a_tensor_may_be_a_column_of_a_table(name, cell):
    spec = CUBE if name is None else {**CUBE, "name": name}
    signature = Signature.parse({"inputs": [spec]})
    for body in (
        {"dataframe_records": [{"a": cell}, {"a": cell}]},
        {"dataframe_split": {"columns": ["a"], "data": [[cell], [cell]]}},
    ):
        (tensor,) = decode(json.dumps(body).encode(), "application/json", signature).request.inputs
        assert tensor.shape == [2, 2, 3]
        assert np.frombuffer(tensor.data).tolist() == [float(n) for n in FLAT * 2]


def test_a_flat_cell_of_another_length_is_refused():
    signature = Signature.parse({"inputs": [CUBE]})
    with pytest.raises(InvalidInput, match=r"expected shape \[-1, 2, 3\]"):
        decode(b'{"dataframe_records": [{"a": [1, 2]}]}', "application/json", signature)


def test_a_key_that_resembles_nothing_is_passed_over_where_scoring_is_strict():
    strict = Signature.parse({"inputs": [{"name": "a", "type": "double"}]})
    body = b'{"inputs": {"a": [1]}, "trace_id": 5}'

    assert decode(body, "application/json", strict).request.inputs[0].name == "a"


@pytest.fixture
def peak():
    """Asks for the most memory that was in use at once, in bytes."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


OWN_KEYS = json.dumps(
    {"dataframe_records": [{"a": 1.5, f"key {number}": 1} for number in range(4000)]}
).encode()


def test_rows_with_keys_of_their_own_take_no_more_memory_than_the_body(peak):
    model = Tolerant({"name": "a", "type": "double"})
    (tensor,) = decode(OWN_KEYS, "application/json", model.signature).request.inputs

    assert tensor.shape == [4000]
    assert len(model.passed_over[0][1]) == 4000
    assert peak() < 20 * len(OWN_KEYS)


def test_rows_with_keys_of_their_own_are_refused_before_a_table_is_made_of_them(peak):
    strict = Signature.parse({"inputs": [{"name": "a", "type": "double"}]})
    with pytest.raises(InvalidInput, match="surplus columns 'key 0', 'key 1'"):
        decode(OWN_KEYS, "application/json", strict)

    assert peak() < 20 * len(OWN_KEYS)


def test_rows_without_values_for_a_table_of_millions_of_cells_are_refused():
    columns = [{"name": f"x{number}", "type": "double"} for number in range(1000)]
    records = [{column["name"]: 1.5 for column in columns}, *[{}] * 30_000]
    body = json.dumps({"dataframe_records": records}).encode()

    with pytest.raises(InvalidInput, match="30,001 objects with 1,000 different keys are a table"):
        decode(body, "application/json", Signature.parse({"inputs": columns}))


def test_a_table_with_many_absent_cells_is_left_to_the_worker():
    columns = [{"name": f"x{number}", "type": "double"} for number in range(200)]
    records = [{column["name"]: 1.5 for column in columns}, *[{"x0": 1.5}] * 1000]
    body = json.dumps({"dataframe_records": records}).encode()

    request = decode(body, "application/json", Signature.parse({"inputs": columns})).request
    assert request.content_type == SCORING
