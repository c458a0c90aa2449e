from __future__ import annotations

import json

import numpy as np
import pytest

from headrace.errors import InvalidInput, UnsupportedMedia
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.scoring import decode
from headrace.protocol.mlflow.signature import PAYLOAD, SCORING, Signature
from headrace.protocol.tensor import Tensor, unpack_bytes

JSON = "application/json"
NUMPY = {"BOOL": "?", "INT32": "<i4", "INT64": "<i8", "FP32": "<f4", "FP64": "<f8"}


def columns(*names: str, kind: str = "double", required: bool = True) -> Signature:
    return Signature.parse(
        {"inputs": [{"type": kind, "name": name, "required": required} for name in names]}
    )


def tensor_signature(dtype: str, shape: list[int], *names: str) -> Signature:
    spec = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}
    return Signature.parse({"inputs": [{**spec, "name": name} for name in names] or [spec]})


def send(body: object, signature: Signature | None) -> InferenceRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode(raw, JSON, signature).request


def values(item: Tensor) -> list:
    if item.datatype == "BYTES":
        return [text.decode() for text in unpack_bytes(item.data, item.shape[0])]
    return np.frombuffer(item.data, NUMPY[item.datatype]).reshape(item.shape).tolist()


def table(request: InferenceRequest) -> dict[str, list]:
    return {item.name: values(item) for item in request.inputs}


FORMS = {
    "split": {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, 2], [3, 4]]}},
    "split in another order": {
        "dataframe_split": {"columns": ["b", "a"], "data": [[2, 1.5], [4, 3]]}
    },
    "records": {"dataframe_records": [{"a": 1.5, "b": 2}, {"b": 4, "a": 3}]},
    "instances": {"instances": [{"a": 1.5, "b": 2}, {"a": 3, "b": 4}]},
    "inputs": {"inputs": {"a": [1.5, 3], "b": [2, 4]}},
    "inputs as rows": {"inputs": [{"a": 1.5, "b": 2}, {"a": 3, "b": 4}]},
    "inputs of single values": {"inputs": {"a": [[1.5], [3]], "b": [[2], [4]]}},
    "matrix": {"inputs": [[1.5, 2], [3, 4]]},
}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same_typed_columns(body):
    request = send(body, columns("a", "b"))
    assert table(request) == {"a": [1.5, 3.0], "b": [2.0, 4.0]}
    assert [(item.datatype, list(item.shape)) for item in request.inputs] == [("FP64", [2])] * 2
    assert request.parameters == {"content_type": "pd"}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
def test_decoded_request_already_conforms(body):
    signature = columns("a", "b")
    request = send(body, signature)
    assert signature.conform(request).inputs == request.inputs


def test_object_of_single_values_is_one_row():
    assert table(send({"inputs": {"a": 1, "b": 2}}, columns("a", "b"))) == {"a": [1.0], "b": [2.0]}


def test_plain_list_is_the_only_column():
    assert table(send({"inputs": ["x", "y"]}, columns("a", kind="string"))) == {"a": ["x", "y"]}


def test_one_row_of_doubles_reads_null_as_nan():
    request = send({"dataframe_split": {"columns": ["a"], "data": [[None]]}}, columns("a"))
    assert np.isnan(table(request)["a"]).all()


def test_nan_and_infinity_tokens_are_accepted():
    request = send(
        b'{"dataframe_split": {"columns": ["a"], "data": [[NaN], [-Infinity]]}}', columns("a")
    )
    assert np.isnan(table(request)["a"][0])
    assert table(request)["a"][1] == float("-inf")


def test_number_too_large_for_a_double_is_refused():
    with pytest.raises(InvalidInput, match="too large for a double"):
        send(b'{"inputs": {"a": [1e999]}}', columns("a"))


@pytest.mark.parametrize("digits", [400, 5000])
def test_number_of_many_digits_is_refused(digits):
    with pytest.raises(
        InvalidInput, match="a number is too long|row 0: expected long, got a number out of range"
    ):
        send(b'{"inputs": {"a": [' + b"1" * digits + b"]}}", columns("a", kind="long"))


@pytest.mark.parametrize(
    ("kind", "cell", "expected"),
    [
        ("long", 3.0, 3),
        ("long", 2**63 - 1, 2**63 - 1),
        ("boolean", True, True),
        ("boolean", 0, False),
        ("float", 0.1, float(np.float32(0.1))),
        ("string", "Käse", "Käse"),
        ("binary", "AAE=", "AAE="),
        ("datetime", "2020-01-01T00:00:00", "2020-01-01T00:00:00"),
    ],
)
@pytest.mark.parametrize("form", ["dataframe_records", "inputs"])
def test_cell_keeps_its_value(form, kind, cell, expected):
    assert table(send({form: [{"a": cell}]}, columns("a", kind=kind))) == {"a": [expected]}


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("long", 1.5),
        ("long", 2**63),
        ("integer", 2**31),
        ("long", None),
        ("long", "1"),
        ("long", True),
        ("float", 1e300),
        ("double", "1.5"),
        ("double", False),
        ("double", [1, 2]),
        ("double", {}),
        ("double", 10**400),
        ("boolean", 2),
        ("boolean", 1.0),
        ("boolean", None),
        ("boolean", "true"),
        ("string", 1),
        ("datetime", 1577836800),
    ],
)
def test_cell_that_would_change_is_refused_by_column(kind, cell):
    signature = columns("a", kind=kind)
    for body in (
        {"dataframe_split": {"columns": ["a"], "data": [[cell]]}},
        {"inputs": {"a": [cell]}},
    ):
        with pytest.raises(InvalidInput, match="column 'a'"):
            send(body, signature)


def test_refusals_never_echo_the_value():
    with pytest.raises(InvalidInput) as caught:
        send({"inputs": {"a": ["s3cr3t"]}}, columns("a"))
    assert "s3cr3t" not in caught.value.message


def test_unpaired_surrogate_is_refused_by_column():
    with pytest.raises(
        InvalidInput, match="column 'a', row 0: expected text .* got half of a surrogate pair"
    ):
        send(b'{"inputs": {"a": ["\\ud800"]}}', columns("a", kind="string"))


def test_missing_column_is_named_with_the_surplus_one():
    with pytest.raises(InvalidInput, match="missing column 'alcohol'; surplus: 'alcool'"):
        send({"dataframe_split": {"columns": ["alcool"], "data": [[1]]}}, columns("alcohol"))


def test_surplus_column_is_refused():
    with pytest.raises(InvalidInput, match="surplus column 'b'"):
        send({"dataframe_records": [{"a": 1, "b": 2}]}, columns("a"))


@pytest.mark.parametrize("kind", ["long", "boolean"])
def test_record_without_a_required_column_that_holds_no_null_is_named(kind):
    with pytest.raises(InvalidInput, match="record 1 has no 'b'"):
        send({"dataframe_records": [{"a": 1, "b": 1}, {"a": 1}]}, columns("a", "b", kind=kind))


def test_a_double_that_a_record_lacks_is_missing():
    request = send({"dataframe_records": [{"a": 1, "b": 2}, {"a": 3}]}, columns("a", "b"))
    assert repr(table(request)) == repr({"a": [1.0, 3.0], "b": [2.0, float("nan")]})


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(InvalidInput, match="column 'b' has 1 rows, but column 'a' has 2"):
        send({"inputs": {"a": [1, 2], "b": [1]}}, columns("a", "b"))


@pytest.mark.parametrize("rows", [[[1, 2], [3]], [[1, 2, 3]]], ids=["short", "long"])
def test_ragged_rows_are_refused(rows):
    with pytest.raises(InvalidInput, match=r"row \d has \d values for 2 columns"):
        send({"dataframe_split": {"columns": ["a", "b"], "data": rows}}, columns("a", "b"))


def test_table_without_rows_has_empty_columns():
    body = {"dataframe_split": {"columns": ["a", "b"], "data": []}}
    assert table(send(body, columns("a", "b"))) == {"a": [], "b": []}


def test_unnamed_columns_match_by_position():
    signature = Signature.parse({"inputs": [{"type": "double"}, {"type": "long"}]})
    body = {"dataframe_split": {"columns": ["p", "q"], "data": [[1, 2]]}}
    assert table(send(body, signature)) == {"input-0": [1.0], "input-1": [2]}


def test_unnamed_signature_refuses_an_object():
    with pytest.raises(InvalidInput, match="inputs have no names"):
        send({"inputs": {"a": [1]}}, tensor_signature("float64", [-1]))


@pytest.mark.parametrize("form", ["inputs", "instances"])
def test_nested_list_is_the_only_tensor(form):
    (out,) = send({form: [[1, 2], [3, 4]]}, tensor_signature("float32", [-1, 2])).inputs
    assert (out.name, out.datatype, values(out)) == ("input-0", "FP32", [[1.0, 2.0], [3.0, 4.0]])


def test_large_tensor_equals_a_small_one_row_by_row():
    signature = tensor_signature("float64", [-1, 8])
    rows = np.random.default_rng(0).random((400, 8)).tolist()
    (large,) = send({"inputs": rows}, signature).inputs
    assert values(large) == rows


@pytest.mark.parametrize("rows", [[[1.0] * 7] * 1600, [1.0] * 11200, [[1.0] * 7] * 1599 + [[1.0]]])
def test_large_tensor_of_another_shape_is_refused(rows):
    with pytest.raises(InvalidInput, match="input 'input-0'"):
        send({"inputs": rows}, tensor_signature("float64", [-1, 8]))


def test_ragged_tensor_is_refused():
    with pytest.raises(InvalidInput, match="lists at depth 1 differ in length"):
        send({"inputs": [[1, 2], [3]]}, tensor_signature("float64", [-1, 2]))


def test_rows_of_named_tensors_stack():
    body = {"instances": [{"x": [1, 2], "y": [0, 0]}, {"x": [3, 4], "y": [1, 1]}]}
    request = send(body, tensor_signature("int64", [-1, 2], "x", "y"))
    assert table(request) == {"x": [[1, 2], [3, 4]], "y": [[0, 0], [1, 1]]}
    assert request.content_type == "dict"


def test_table_column_of_scalars_fits_a_tensor_of_width_one():
    body = {"dataframe_split": {"columns": ["x"], "data": [[1], [2]]}}
    assert table(send(body, tensor_signature("float64", [-1, 1], "x"))) == {"x": [[1.0], [2.0]]}


def test_params_join_the_parameters():
    signature = Signature.parse(
        {
            "inputs": [{"type": "double", "name": "a"}],
            "params": [{"name": "p", "type": "long", "default": 1}],
        }
    )
    request = send({"inputs": {"a": [1]}, "params": {"p": 7}}, signature)
    assert request.parameters == {"content_type": "pd", "p": 7}
    with pytest.raises(InvalidInput, match="param 'p'"):
        send({"inputs": {"a": [1]}, "params": {"p": "x"}}, signature)


def test_params_must_be_an_object():
    with pytest.raises(InvalidInput, match="'params' must be a JSON object"):
        send({"inputs": {"a": [1]}, "params": [1]}, columns("a"))


NESTED = Signature.parse({"inputs": [{"type": "array", "items": {"type": "long"}, "name": "a"}]})


@pytest.mark.parametrize(
    ("body", "content_type", "signature", "wrapped"),
    [
        (b"a\n1\n", "text/csv; charset=UTF-8", columns("a"), True),
        (b"PAR1", "application/vnd.apache.parquet", columns("a"), True),
        (b'{"inputs": [1]}', "Application/JSON", None, True),
        (b'{"inputs": [{"a": [1]}]}', JSON, NESTED, True),
        (b'{"dataframe_records": [{"a": null}]}', JSON, columns("a", kind="string"), True),
        (b'{"messages": []}', JSON, columns("a"), False),
        (b'{"prompt": "x"}', JSON, None, False),
        (b'{"input": "x", "inputs": 1}', JSON, None, False),
    ],
    ids=["csv", "parquet", "no signature", "nested", "null text", "messages", "prompt", "input"],
)
def test_what_needs_a_dataframe_is_sent_undecoded(body, content_type, signature, wrapped):
    scoring = decode(body, content_type, signature)
    (payload,) = scoring.request.inputs
    assert (payload.name, unpack_bytes(payload.data, 1)) == (PAYLOAD, [body])
    assert payload.content_type == content_type.lower().split(";")[0]
    assert scoring.request.parameters == {"content_type": SCORING}
    assert scoring.wrapped is wrapped


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        (None, "the Content-Type header is missing; send one of application/json"),
        ("image/png", "'image/png' is not supported"),
        ("multipart/form-data; boundary=x", "'multipart/form-data' is not supported"),
        ("application/json; charset=latin-1", "only utf-8"),
        ("application/json; something=x", "unknown Content-Type parameter 'something'"),
    ],
)
def test_other_content_types_are_unsupported(content_type, says):
    with pytest.raises(UnsupportedMedia, match=says):
        decode(b"{}", content_type, None)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the request body is empty"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid UTF-8"),
        (b"[1]", "must be a JSON object .* got a list"),
        (b"3", "got a single value"),
        (b"{}", "exactly one of the input fields .* received none"),
        (b'{"columns": ["a"], "data": [[1]]}', "these belong in 'dataframe_split'"),
        (b'{"data": 1}', "received 'data'"),
        (b'{"inputs": 1, "instances": 2}', "received 'inputs', 'instances'"),
        (b'{"inputs": ' + b"[" * 100_000, "nests too deeply"),
        (b'{"zz": ' + b'{"a":' * 100_000, "nests too deeply"),
        (b'{"inputs": ["\xff"]}', "not valid UTF-8"),
        (b'{"dataframe_split": [1]}', "dataframe_split must be an object"),
        (b'{"dataframe_split": {"columns": []}}', "'data' is missing"),
        (b'{"dataframe_split": {"data": [], "rows": 1}}', "unknown 'rows'"),
        (b'{"dataframe_split": {"data": 1}}', "'data' must be a list of rows"),
        (b'{"dataframe_split": {"data": [[1]], "columns": 5}}', "'columns' must be a list"),
        (b'{"dataframe_split": {"data": [[1]], "index": []}}', "'index' must be a list of 1"),
        (b'{"dataframe_records": {"a": 1}}', "dataframe_records must be a list of records"),
    ],
    ids=lambda item: str(item)[:40],
)
@pytest.mark.parametrize("signature", [None, columns("a")], ids=["no signature", "signature"])
def test_malformed_body_is_refused(body, says, signature):
    with pytest.raises(InvalidInput, match=says):
        decode(body, JSON, signature)


def test_type_hint_model_takes_inputs_only():
    signature = Signature.parse({"inputs": [{"type": "long"}], "from_type_hint": True})
    with pytest.raises(InvalidInput, match="under 'inputs', received 'instances'"):
        send({"instances": [1]}, signature)


def test_null_in_an_optional_boolean_is_refused_by_name():
    with pytest.raises(InvalidInput, match="column 'a', row 1: expected true or false .*got null"):
        send({"inputs": {"a": [True, None]}}, columns("a", kind="boolean", required=False))


def test_a_table_of_one_column_is_a_tensor_of_one_dimension():
    body = {"dataframe_split": {"data": [[1.5], [2]]}}
    (item,) = send(body, tensor_signature("float64", [-1])).inputs
    assert (item.shape, values(item)) == ([2], [1.5, 2])
