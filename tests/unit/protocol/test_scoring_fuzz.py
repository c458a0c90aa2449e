"""Anything that arrives at `/invocations` becomes either a request or one of our errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import HeadraceError
from headrace.protocol.mlflow.scoring import FORMS, decode
from headrace.protocol.mlflow.signature import Signature
from headrace.protocol.tensor import check_size

KINDS = ("boolean", "integer", "long", "float", "double", "string", "binary", "datetime")
SIGNATURES = {
    "doubles": Signature.parse({"inputs": [{"type": "double", "name": name} for name in "ab"]}),
    "mixed": Signature.parse({"inputs": [{"type": kind, "name": kind[0]} for kind in KINDS[3:6]]}),
    "unnamed": Signature.parse({"inputs": [{"type": kind} for kind in KINDS]}),
    "optional": Signature.parse({"inputs": [{"type": "boolean", "name": "a", "required": False}]}),
    "tensor": Signature.parse(
        {"inputs": [{"type": "tensor", "tensor-spec": {"dtype": "int32", "shape": [-1, 2]}}]}
    ),
    "none": None,
}
cells = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
names = st.sampled_from(["a", "b", "f", "d", "s", "columns", "data", "index", "zz"])
trees = st.recursive(
    cells, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)
bodies = st.dictionaries(st.sampled_from([*FORMS, "params"]), trees, min_size=1, max_size=2)


def outcome(body: bytes, signature: Signature | None) -> None:
    try:
        request = decode(body, "application/json", signature).request
    except HeadraceError:
        return
    for tensor in request.inputs:
        check_size(tensor, tensor.name)


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
@settings(max_examples=80, deadline=None)
@given(body=bodies)
def test_any_tree_is_decoded_or_refused(signature, body):
    outcome(json.dumps(body).encode(), signature)


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
@settings(max_examples=50, deadline=None)
@given(cut=st.integers(0, 60), noise=st.binary(max_size=3))
def test_any_damage_is_decoded_or_refused(signature, cut, noise):
    body = b'{"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, 2]]}}'
    outcome(body[:cut] + noise + body[cut + 1 :], signature)


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({"a": cells, "b": cells}), max_size=3))
def test_any_cells_are_decoded_or_refused(signature, rows):
    outcome(json.dumps({"dataframe_records": rows}).encode(), signature)
