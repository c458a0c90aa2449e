"""Small tables of doubles, which are decoded in one pass: to what the usual way makes of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import HeadraceError, TooLarge
from headrace.protocol.mlflow import scoring
from headrace.protocol.mlflow.signature import Signature
from headrace.protocol.open_inference.counts import COUNTS, Counts
from headrace.protocol.open_inference.rest_data import LARGE
from headrace.protocol.open_inference.rest_json import decode_request
from headrace.protocol.table_request import Table, TableRequest

NAMES = ["a", "b"]
# Spaces after a body mean nothing, but make it too large for one pass.
SPACES = b" " * LARGE

cells = st.one_of(
    st.floats(),
    st.integers(),
    st.none(),
    st.text(max_size=2),
    st.booleans(),
    st.lists(st.floats(), max_size=1),
)
numbers = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-9, 9), st.none())
columns = st.one_of(
    st.just(NAMES), st.permutations(NAMES), st.lists(st.sampled_from("abc"), max_size=3)
)


def signature(*kinds, names=NAMES, **more):
    pairs = zip(kinds, names, strict=True)
    return Signature.parse({"inputs": [{"type": t, "name": n} for t, n in pairs], **more})


DOUBLES = signature("double", "double")


def outcome(decode, *arguments):
    """What became of a request: everything that is in it, or the error."""
    try:
        decoded = decode(*arguments)
    except HeadraceError as error:
        return type(error), error.message
    request = decoded.request
    inputs = [(t.name, t.datatype, t.shape, bytes(t.data), t.parameters) for t in request.inputs]
    if inputs[0][0] == "payload":
        # The body itself, after its length.
        inputs = [bytes(request.inputs[0].data)[4:].strip()]
    binary = [name in getattr(decoded, "binary_outputs", ()) for name in ("out", "other")]
    return inputs, request.parameters, request.outputs, request.id, binary


@st.composite
def infer_bodies(draw):
    """Bodies for inference, of which most have something that only the usual way takes."""
    rows = draw(st.integers(0, 3))
    usual = draw(st.booleans())
    inputs = []
    for name in draw(columns):
        shape = [rows] if usual else draw(st.sampled_from([[rows], [rows, 1], [1], [], [-1]]))
        data = draw(st.lists(numbers if usual else cells, min_size=rows, max_size=rows))
        datatype = "FP64" if usual else draw(st.sampled_from(["FP64", "FP32", "INT64", "BYTES"]))
        tensor = {"name": name, "shape": shape, "datatype": datatype, "data": data}
        inputs.append({**tensor, **draw(st.sampled_from([{}, {}, {"parameters": {"x": 1}}]))})
    more = [
        {"id": "one"},
        {"parameters": {"content_type": "pd"}},
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "out", "parameters": {"binary_data": True}}]},
        {"unknown": 1},
    ]
    return {"inputs": inputs, **draw(st.sampled_from([{}, {}, *more]))}


@given(infer_bodies())
def test_a_body_of_columns_means_the_same_in_one_pass(content):
    body = json.dumps(content).encode()
    assert outcome(decode_request, body, None, COUNTS, NAMES) == outcome(
        decode_request, body + SPACES
    )


@st.composite
def split_bodies(draw):
    """Bodies with a `dataframe_split`, of which most have something special."""
    names = draw(columns)
    usual = draw(st.booleans())
    width = len(names) if usual else draw(st.sampled_from([len(names), 1]))
    row = st.lists(numbers if usual else cells, min_size=width, max_size=width)
    split = {"columns": names, "data": draw(st.lists(row, max_size=3))}
    more = [{}, {"index": [0]}, {"index": [5]}, {"index": None}, {"more": 1}]
    outer = [{}, {"params": {"p": 2}}, {"instances": []}, {"other": 1}]
    split |= draw(st.sampled_from(more))
    return {"dataframe_split": split, **draw(st.sampled_from([{}, *outer]))}


@given(split_bodies(), st.sampled_from([{}, {"params": [{"name": "p", "type": "long"}]}]))
def test_a_split_table_means_the_same_in_one_pass(content, more):
    takes = signature("double", "double", **more)
    body, kind = json.dumps(content).encode(), "application/json"
    assert outcome(scoring.decode, body, kind, takes) == outcome(
        scoring.decode, body + SPACES, kind, takes
    )


def infer_body(names=NAMES, data=(1.5,)):
    shared = {"shape": [len(data)], "datatype": "FP64", "data": data}
    return json.dumps({"inputs": [{"name": name, **shared} for name in names]}).encode()


def split_body(names=NAMES):
    return json.dumps({"dataframe_split": {"columns": names, "data": [[1.5, 1.5]]}}).encode()


def decoded_table(body, takes):
    if b"inputs" in body:
        return decode_request(body, None, COUNTS, takes.table_names).request
    return scoring.decode(body, "application/json", takes).request


@pytest.mark.parametrize("body", [infer_body(), split_body(), infer_body(data=(1.5, None))])
def test_a_table_reaches_its_model_without_a_tensor_for_each_column(body):
    request = decoded_table(body, DOUBLES)
    assert type(request) is TableRequest
    matrix = DOUBLES.conform_joined(request)
    assert request.table is not None
    assert DOUBLES.is_matrix(matrix.inputs)


@pytest.mark.parametrize("body", [infer_body(), split_body(), infer_body(data=(1.5, None))])
@pytest.mark.parametrize(
    "other",
    [
        DOUBLES,
        signature("double", "double", names=["b", "a"]),
        signature("float", "double"),
        signature("long", "long", names=["b", "a"]),
        signature("double", "double", "double", names=["a", "b", "c"]),
        signature("double", names=["a"]),
    ],
)
def test_a_table_decoded_for_one_model_is_checked_by_the_one_that_replaced_it(body, other):
    request = decoded_table(body + SPACES, DOUBLES)
    table = decoded_table(body, DOUBLES)
    assert conformed(other, table) == conformed(other, request)


def conformed(takes, request):
    try:
        inputs = takes.conform_joined(request).inputs
    except HeadraceError as error:
        return error.message
    return [(tensor.name, tensor.datatype, tensor.shape, bytes(tensor.data)) for tensor in inputs]


@pytest.mark.parametrize("counts", [Counts(inputs=1), Counts(parameters=0)])
def test_a_table_has_the_bounds_of_every_request(counts):
    body = infer_body()[:-1] + b', "parameters": {"content_type": "pd"}}'
    with pytest.raises(TooLarge):
        decode_request(body, None, counts, NAMES)


def test_inputs_that_were_changed_are_what_the_model_gets():
    request = TableRequest(Table.of(NAMES, [[1.0, 2.0]]))
    request.inputs[0].data = request.inputs[1].data
    assert request.table is None
    (matrix,) = DOUBLES.conform_joined(request).inputs
    assert memoryview(matrix.data).cast("d").tolist() == [2.0, 2.0]
