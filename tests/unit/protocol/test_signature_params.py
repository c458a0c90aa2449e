from __future__ import annotations

import pytest

from headrace.errors import InvalidInput
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.signature import Signature


def with_param(kind: str, default: object = None, shape: object = None) -> Signature:
    return Signature.parse(
        {"params": [{"name": "p", "type": kind, "default": default, "shape": shape}]}
    )


def test_defaults_fill_in():
    assert with_param("long", 3).conform_params({"content_type": "pd"}) == {"p": 3}
    assert with_param("long", 3).conform_params(None) == {"p": 3}


def test_an_undeclared_param_is_refused_with_the_nearest_one():
    signature = Signature.parse({"params": [{"name": "scale", "type": "double", "default": 1.0}]})
    with pytest.raises(InvalidInput, match="no param 'scael'; did you mean 'scale'"):
        signature.conform_params({"scael": 2})
    with pytest.raises(InvalidInput, match="no params 'a', 'b'; it takes 'scale'"):
        signature.conform(InferenceRequest([], {"a": 1, "b": 2, "scale": 3}))


def test_an_undeclared_param_is_reported_where_it_is_passed_over():
    reported = []
    raw = {"params": [{"name": "scale", "type": "double", "default": 1.0}]}
    signature = Signature.parse(raw, lambda *words: reported.append(words))
    assert signature.conform_params({"scael": 2}) == {"scale": 1.0}
    assert reported == [("param", ["scael"])]


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("double", 1, 1.0),
        ("long", 2.0, 2),
        ("boolean", True, True),
        ("string", "x", "x"),
        ("datetime", "2020-01-01T00:00:00", "2020-01-01T00:00:00"),
        ("object", {"a": 1}, {"a": 1}),
        ("long", None, None),
    ],
)
def test_param_converts_without_loss(kind, given, expected):
    converted = with_param(kind).conform_params({"p": given})["p"]
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("long", 1.5),
        ("long", True),
        ("long", "1"),
        ("long", 2**63),
        ("integer", 2**31),
        ("long", float("nan")),
        ("double", "x"),
        ("double", 10**400),
        ("double", float("nan")),
        ("float", float("-inf")),
        ("boolean", 1),
        ("string", 1),
        ("datetime", "soon"),
        ("datetime", 5),
        ("long", [1]),
    ],
)
def test_param_of_another_type_is_refused_by_name(kind, given):
    with pytest.raises(InvalidInput, match="param 'p': expected a value of type"):
        with_param(kind).conform_params({"p": given})


def test_list_param_converts_each_item():
    assert with_param("double", [1.0], [-1]).conform_params({"p": [1, 2.5]}) == {"p": [1.0, 2.5]}


def test_single_value_for_a_list_param_is_refused():
    with pytest.raises(InvalidInput, match="param 'p': expected a list of double"):
        with_param("double", [1.0], [-1]).conform_params({"p": 1.0})


def test_conform_gives_the_request_its_params():
    request = InferenceRequest([], {"content_type": "pd", "p": 5})
    assert with_param("long", 3).conform(request).parameters == {"content_type": "pd", "p": 5}


def test_without_a_params_schema_parameters_stay():
    signature = Signature.parse({})
    assert signature.conform_params({"p": 5, "headers": {}, "content_type": "pd"}) == {"p": 5}
    request = InferenceRequest([], {"p": 5})
    assert signature.conform(request) is request


@pytest.mark.parametrize(
    ("kind", "given", "got"),
    [
        ("long", True, "true or false"),
        ("double", "x", "text"),
        ("string", 5, "a number"),
        ("double", [1], "a list"),
        ("boolean", {}, "an object"),
        ("long", 1.5, "a number that does not convert without loss"),
        ("float", float("nan"), "a number that is not finite"),
    ],
)
def test_a_refused_param_is_described_in_the_words_of_json(kind, given, got):
    with pytest.raises(InvalidInput) as refused:
        with_param(kind).conform_params({"p": given})

    assert refused.value.message == f"param 'p': expected a value of type {kind}, got {got}"
