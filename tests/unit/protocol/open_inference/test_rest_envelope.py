"""Large bodies are read as small ones are, and nothing is made of what is too much."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import HeadraceError, InvalidInput, TooLarge
from headrace.protocol.open_inference import rest_envelope, rest_json
from headrace.protocol.open_inference.counts import COUNTS

MIB = 1024 * 1024
VALUES = st.none() | st.booleans() | st.integers(-3, 3) | st.just(1.5) | st.text(max_size=3)
NESTED = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=2), max_leaves=4)
PARAMETERS = st.none() | st.dictionaries(st.sampled_from(["a", "other", "b"]), NESTED, max_size=2)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    def maybe(whole: dict[str, Any]) -> dict[str, Any]:
        if draw(st.booleans()):
            whole["parameters"] = draw(PARAMETERS)
        return {**whole, **draw(st.sampled_from([{}] * 4 + [{"else": 1}, {"shap": [1]}]))}

    shape = draw(st.sampled_from([[1]] * 4 + [[2], [], [1.5], None, 1, [-1], [2**31], [1] * 33]))
    body = {"inputs": [maybe({"name": "x", "shape": shape, "datatype": "INT8", "data": [1]})]}
    if draw(st.booleans()):
        body["outputs"] = [maybe({"name": "y"})]
    written = json.dumps(maybe(body)).encode()
    if draw(st.booleans()):
        return written
    place = draw(st.integers(0, len(written) - 1))
    return written[:place] + draw(st.sampled_from([b"", b"1", b"]", b'"'])) + written[place + 1 :]


def read(body: bytes) -> Any:
    try:
        found = rest_json.decode_request(body)
    except HeadraceError as error:
        return type(error), error.message
    request = found.request
    inputs = [(each.shape, bytes(each.data), each.parameters) for each in request.inputs]
    return inputs, request.parameters, request.outputs, found.binary_outputs


@given(bodies())
def test_a_large_body_is_read_as_a_small_one(body: bytes) -> None:
    small = read(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rest_envelope, "UNCOUNTED", 0)
        assert read(body) == small


def large(**more: Any) -> bytes:
    tensor = {"name": "x", "shape": [1], "datatype": "INT8", "data": [1], **more.pop("input", {})}
    return json.dumps({"inputs": [tensor], **more}).encode() + b" " * MIB


MANY = [[]] * 200_000


@pytest.mark.parametrize(
    "body",
    [
        large(parameters={"a": MANY}),
        large(parameters={"a": [1.5] * 200_000}),
        large(parameters={"a": MANY, "b": '["'}),
        large(input={"parameters": {"a": MANY}}),
        large(outputs=[{"name": "y", "parameters": {"a": MANY}}]),
        large(parameters={"a": MANY}, other=1),
    ],
    ids=["lists", "numbers", "texts", "of an input", "of an output", "beside another key"],
)
def test_values_in_parameters_are_counted_before_they_are_made(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(text: Any) -> Any:
        raise AssertionError("parameters are read")

    monkeypatch.setattr(rest_envelope, "_parameters", never)
    with pytest.raises(TooLarge, match="50000 values; --max-parameters raises the cap"):
        rest_json.decode_request(body)


def test_as_many_values_as_are_allowed_are_read_whatever_is_in_texts() -> None:
    texts = ['[,{\\"'] * (COUNTS.parameters - 2)
    found = rest_json.decode_request(large(parameters={"a": texts}))

    assert found.request.parameters == {"a": texts}


def test_the_numbers_of_a_long_shape_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_envelope, "_shape", None)
    with pytest.raises(InvalidInput, match="shape has 200000 dimensions, at most 32 allowed"):
        rest_json.decode_request(large(input={"shape": [1] * 200_000}))


def test_parameters_that_are_given_twice_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (json.dumps({"a": each}).encode() for each in (MANY, [1]))
    body = large()[:-MIB].replace(b"{", b'{"parameters":%b,"parameters":%b,' % (first, second), 1)
    read: list[bytes] = []

    def noted(text: Any) -> Any:
        read.append(bytes(text))
        return msgspec.json.decode(text)

    monkeypatch.setattr(rest_envelope, "_parameters", noted)
    monkeypatch.setattr(rest_envelope, "UNCOUNTED", 0)
    found = rest_json.decode_request(body)

    assert (found.request.parameters, read) == ({"a": [1]}, [second])
