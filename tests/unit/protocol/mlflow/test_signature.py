from __future__ import annotations

import json

import numpy as np
import pytest

from headrace.errors import InvalidInput, LoadFailed
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.signature import PAYLOAD, SCORING, Signature
from headrace.protocol.tensor import Tensor, pack_bytes, unpack_bytes

NUMPY = {"BOOL": "?", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "UINT64": "<u8"}
NUMPY.update({"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"})


def columns(**types: str) -> Signature:
    return Signature.parse(
        {"inputs": json.dumps([{"type": kind, "name": name} for name, kind in types.items()])}
    )


def tensors(*specs: tuple[str | None, str, list[int]]) -> Signature:
    raw = [
        {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}
        | ({} if name is None else {"name": name})
        for name, dtype, shape in specs
    ]
    return Signature.parse({"inputs": raw})


def tensor(name: str, datatype: str, values: list, shape: list[int] | None = None) -> Tensor:
    if datatype == "BYTES":
        data = pack_bytes([value.encode() for value in values])
    else:
        data = np.array(values, NUMPY[datatype]).tobytes()
    return Tensor(name, datatype, [len(values)] if shape is None else shape, data)


def values(item: Tensor) -> list:
    if item.datatype == "BYTES":
        return [text.decode() for text in unpack_bytes(item.data, item.shape[0])]
    return np.frombuffer(item.data, NUMPY[item.datatype]).tolist()


def conform(signature: Signature, *inputs: Tensor) -> list[Tensor]:
    return signature.conform(InferenceRequest(list(inputs))).inputs


def test_columns_in_order_and_of_schema_types_pass_untouched():
    given = [tensor("a", "FP64", [1.5]), tensor("b", "INT64", [2])]
    request = columns(a="double", b="long").conform(InferenceRequest(given, id="7"))
    assert request.inputs == given
    assert request.id == "7"
    assert request.content_type == "pd"


def test_columns_come_out_in_schema_order():
    out = conform(
        columns(a="double", b="long"), tensor("b", "INT64", [2]), tensor("a", "FP64", [1])
    )
    assert [item.name for item in out] == ["a", "b"]
    assert [values(item) for item in out] == [[1.0], [2]]


@pytest.mark.parametrize("shape", [[2], [2, 1]], ids=str)
def test_column_of_one_value_per_row_becomes_flat(shape):
    (out,) = conform(columns(a="double"), tensor("a", "FP64", [1, 2], shape))
    assert list(out.shape) == [2]


def test_scalar_counts_as_one_row():
    (out,) = conform(columns(a="double"), tensor("a", "FP64", [1], []))
    assert list(out.shape) == [1]


def test_column_with_two_values_per_row_is_refused():
    with pytest.raises(InvalidInput, match=r"column 'a': expected shape \[N\] or \[N, 1\]"):
        conform(columns(a="double"), tensor("a", "FP64", [1, 2], [1, 2]))


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(InvalidInput, match="column 'b' has 1 rows, but column 'a' has 2"):
        conform(
            columns(a="double", b="double"), tensor("a", "FP64", [1, 2]), tensor("b", "FP64", [1])
        )


def test_missing_column_is_named_with_the_surplus_one():
    with pytest.raises(InvalidInput, match="missing column 'alcohol'; surplus: 'alcool'"):
        conform(columns(alcohol="double"), tensor("alcool", "FP64", [1]))


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["age;city"], "the columns of a table are separated by commas"),
        (["name", "shape", "datatype", "data"], "tensors .* go to /v2/models/MODEL/infer"),
    ],
)
def test_a_table_of_another_format_is_told_which_it_may_be(names, hint):
    with pytest.raises(InvalidInput, match=hint):
        columns(age="double", city="string").check_names(names)


def test_surplus_column_is_named():
    with pytest.raises(InvalidInput, match="surplus column 'b'"):
        conform(columns(a="double"), tensor("a", "FP64", [1]), tensor("b", "FP64", [1]))


def test_repeated_column_is_named():
    with pytest.raises(InvalidInput, match="duplicate column 'a'"):
        conform(columns(a="double"), tensor("a", "FP64", [1]), tensor("a", "FP64", [1]))


# Comparing each with each would take hours.
@pytest.mark.timeout(30)
def test_one_repeated_name_among_very_many_is_found_at_once():
    names = [str(number) for number in range(1_000_000)]
    with pytest.raises(InvalidInput, match="^duplicate column '7'$"):
        columns(a="double").check_names([*names, "7"])


def test_optional_column_may_be_absent():
    raw = [{"type": "double", "name": "a"}, {"type": "double", "name": "b", "required": False}]
    signature = Signature.parse({"inputs": raw})
    assert [item.name for item in conform(signature, tensor("a", "FP64", [1]))] == ["a"]


LOSSLESS = [
    ("long", "INT32", [-3], "INT64", [-3]),
    ("integer", "INT64", [2**31 - 1], "INT32", [2**31 - 1]),
    ("long", "UINT64", [2**63 - 1], "INT64", [2**63 - 1]),
    ("long", "FP64", [3.0], "INT64", [3]),
    ("double", "INT64", [2**53], "FP64", [2.0**53]),
    ("double", "FP32", [0.5], "FP64", [0.5]),
    ("float", "FP64", [0.1], "FP32", [float(np.float32(0.1))]),
    ("float", "FP64", [float("inf")], "FP32", [float("inf")]),
    ("boolean", "INT64", [0, 1], "BOOL", [False, True]),
    ("string", "BYTES", ["Käse"], "BYTES", ["Käse"]),
]


@pytest.mark.parametrize(
    ("kind", "datatype", "given", "result", "expected"), LOSSLESS, ids=lambda item: str(item)
)
def test_value_converts_without_loss(kind, datatype, given, result, expected):
    (out,) = conform(columns(a=kind), tensor("a", datatype, given))
    assert out.datatype == result
    assert values(out) == expected


LOSSY = [
    ("long", "FP64", [1.5], "row 0: expected INT64, got a number that is not whole"),
    ("long", "FP64", [1.0, float("nan")], "row 1: expected INT64, got NaN or infinity"),
    ("long", "FP64", [2.0**63], "row 0: expected INT64, .* out of range"),
    ("integer", "INT64", [0, 2**31], "row 1: expected INT32, .* out of range"),
    ("long", "UINT64", [2**63], "row 0: expected INT64, .* out of range"),
    ("double", "INT64", [2**53 + 1], "row 0: expected FP64, .* more digits"),
    ("float", "FP64", [1e300], "row 0: expected FP32, .* too large"),
    ("double", "BOOL", [True], "row 0: expected FP64, got BOOL"),
    ("boolean", "INT64", [2], "row 0: expected BOOL, got a number other than"),
    ("boolean", "FP64", [1.0], "row 0: expected BOOL, got a floating"),
    ("double", "BYTES", ["1.5", "x"], "row 1: expected FP64, got text"),
    ("string", "FP64", [1.5], "row 0: expected text"),
]


@pytest.mark.parametrize(("kind", "datatype", "given", "says"), LOSSY, ids=lambda item: str(item))
def test_lossy_conversion_is_refused_and_names_the_column(kind, datatype, given, says):
    with pytest.raises(InvalidInput, match=f"column 'a', {says}"):
        conform(columns(a=kind), tensor("a", datatype, given))


def test_exact_integers_beyond_two_to_the_53_become_doubles():
    (out,) = conform(columns(a="double"), tensor("a", "INT64", [2**60]))
    assert values(out) == [2.0**60]


def test_nan_stays_nan_in_a_float_column():
    (out,) = conform(columns(a="float"), tensor("a", "FP64", [float("nan")]))
    assert np.isnan(values(out)).all()


def test_text_column_says_how_its_text_is_written():
    (out,) = conform(columns(a="datetime"), tensor("a", "BYTES", ["2020-01-01"]))
    assert out.parameters == {"content_type": "datetime"}


def test_matrix_is_split_into_the_columns_of_one_type():
    matrix = tensor("x", "FP64", [1, 2, 3, 4], [2, 2])
    out = conform(columns(a="double", b="double"), matrix)
    assert [(item.name, values(item)) for item in out] == [("a", [1, 3]), ("b", [2, 4])]


def test_matrix_of_text_is_split_too():
    out = conform(columns(a="string", b="string"), tensor("x", "BYTES", list("pqrs"), [2, 2]))
    assert [values(item) for item in out] == [["p", "r"], ["q", "s"]]


def test_matrix_of_the_wrong_width_is_refused():
    with pytest.raises(InvalidInput, match="takes 2 columns, got a matrix of 3"):
        conform(columns(a="double", b="double"), tensor("x", "FP64", [1, 2, 3], [1, 3]))


def test_matrix_for_named_columns_of_mixed_types_is_refused():
    with pytest.raises(InvalidInput, match="missing columns 'a', 'b'; surplus: 'x'"):
        conform(columns(a="double", b="long"), tensor("x", "FP64", [1, 2], [1, 2]))


def test_unnamed_columns_match_by_position():
    signature = Signature.parse({"inputs": [{"type": "double"}, {"type": "long"}]})
    out = conform(signature, tensor("p", "FP64", [1.5]), tensor("q", "FP64", [2.0]))
    assert [(item.name, item.datatype) for item in out] == [
        ("input-0", "FP64"),
        ("input-1", "INT64"),
    ]


def test_unnamed_tensor_takes_an_input_of_any_name():
    (out,) = conform(tensors((None, "float32", [-1, 2])), tensor("x", "FP64", [1, 2], [1, 2]))
    assert (out.name, out.datatype, list(out.shape)) == ("input-0", "FP32", [1, 2])


@pytest.mark.parametrize("shape", [[4], [2, 2], [4, 1, 1]], ids=str)
def test_tensor_of_another_shape_is_refused(shape):
    with pytest.raises(InvalidInput, match=r"input 'x': expected shape \[-1, 4\]"):
        conform(tensors(("x", "float64", [-1, 4])), tensor("x", "FP64", [1, 2, 3, 4], shape))


def test_missing_tensor_is_named():
    signature = tensors(("x", "float64", [-1]), ("y", "float64", [-1]))
    with pytest.raises(InvalidInput, match="missing input 'y'"):
        conform(signature, tensor("x", "FP64", [1]))


def test_raw_scoring_payload_passes_untouched():
    payload = Tensor(PAYLOAD, "BYTES", [1], pack_bytes([b"a\n1\n"]), {"content_type": "text/csv"})
    request = InferenceRequest([payload], {"content_type": SCORING})
    assert columns(a="double").conform(request) is request


def test_nested_columns_keep_their_tensors():
    signature = Signature.parse(
        {"inputs": [{"type": "array", "items": {"type": "double"}, "name": "a"}]}
    )
    (out,) = conform(signature, tensor("a", "BYTES", ["[1]"]))
    assert out.parameters == {"content_type": "pd_json"}
    assert not signature.is_simple


def test_type_hint_signature_keeps_its_tensors():
    signature = Signature.parse({"inputs": [{"type": "long"}], "from_type_hint": True})
    given = tensor("whatever", "FP64", [1.5])
    assert conform(signature, given) == [given]
    assert not signature.is_simple


@pytest.mark.parametrize(
    ("signature", "content_type"),
    [
        (columns(a="double"), "pd"),
        (tensors(("a", "float64", [-1])), "dict"),
        (tensors((None, "float64", [-1])), "np"),
    ],
    ids=["columns", "named tensors", "unnamed tensor"],
)
def test_content_type_is_the_python_value_the_model_takes(signature, content_type):
    assert signature.content_type == content_type


@pytest.mark.parametrize(
    ("kind", "datatype", "content_type"),
    [
        ("boolean", "BOOL", "np"),
        ("integer", "INT32", "np"),
        ("long", "INT64", "np"),
        ("float", "FP32", "np"),
        ("double", "FP64", "np"),
        ("string", "BYTES", "str"),
        ("binary", "BYTES", "base64"),
        ("datetime", "BYTES", "datetime"),
        ("map", "BYTES", "pd_json"),
    ],
)
def test_column_metadata_follows_the_table(kind, datatype, content_type):
    (shown,) = columns(a=kind).input_metadata()
    assert (shown.datatype, shown.shape) == (datatype, [-1, 1])
    assert shown.parameters["content_type"] == content_type
    assert set(shown.parameters) <= {"content_type", "json_schema"}


def test_optional_column_is_marked_in_metadata():
    signature = Signature.parse({"inputs": [{"type": "double", "name": "a", "required": False}]})
    assert signature.input_metadata()[0].parameters == {"content_type": "np", "required": False}


def test_unnamed_inputs_count_from_zero_and_outputs_from_one():
    spec = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]
    signature = Signature.parse({"inputs": spec, "outputs": spec})
    assert signature.input_metadata()[0].name == "input-0"
    assert signature.output_metadata()[0].name == "output-1"


def test_signature_without_outputs_has_no_output_metadata():
    assert columns(a="double").output_metadata() == []


@pytest.mark.parametrize("raw", ["{", "{}", '[{"name": "a"}]', "[1]"])
def test_malformed_signature_fails_the_load(raw):
    with pytest.raises(LoadFailed, match="the signature's inputs"):
        Signature.parse({"inputs": raw})
