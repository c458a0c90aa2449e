"""Runners outside of a served process, and what becomes of the values that they are given."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from headrace import Runner
from headrace.codecs import encode_response
from headrace.errors import HeadraceError, InvalidInput, InvalidModel
from headrace.models import Signature, Tag
from headrace.protocol.messages import InferenceResponse
from headrace.runners.runner_values import request_of, value_of


class Scaler:
    def predict(self, x):
        return x * 2

    def __call__(self, x):
        return x * 3


def runner(*methods: str, **options) -> Runner:
    signatures = {name: Signature() for name in methods or ("predict",)}
    info = SimpleNamespace(signatures=signatures)
    return Runner(SimpleNamespace(tag=Tag("m", "v1"), info=info, load_methods=Scaler), **options)


def test_a_runner_is_named_after_its_model():
    assert (runner().name, runner(name="Other").name) == ("m", "other")


def test_a_local_runner_calls_the_model_in_this_process(caplog):
    local = runner("predict", "__call__")
    with caplog.at_level(logging.WARNING, "headrace.runners"):
        local.init_local()

    assert "debugging and tests" in caplog.text
    assert local.predict.run(1) == 2
    assert asyncio.run(local.predict.async_run(1)) == 2
    assert (local.run(1), asyncio.run(local.async_run(1))) == (3, 3)


def test_a_quiet_local_runner_warns_of_nothing(caplog):
    with caplog.at_level(logging.WARNING, "headrace.runners"):
        runner().init_local(quiet=True)

    assert caplog.text == ""


def test_a_runner_is_made_local_once():
    local = runner()
    local.init_local(quiet=True)

    with pytest.raises(InvalidModel, match="local already"):
        local.init_local()


def test_a_runner_that_is_neither_served_nor_local_says_what_to_do():
    with pytest.raises(HeadraceError, match=r"init_local\(\)"):
        runner().predict.run(1)


def test_an_unknown_method_is_named_with_those_there_are():
    with pytest.raises(AttributeError, match="'score', only predict"):
        runner().score  # noqa: B018


def test_a_model_without_methods_has_no_runner():
    info = SimpleNamespace(signatures={})

    with pytest.raises(InvalidModel, match="no signatures"):
        Runner(SimpleNamespace(tag=Tag("m", "v1"), info=info))


@pytest.mark.parametrize("option", ["max_batch_size", "max_latency_ms"])
def test_limits_are_above_zero(option):
    with pytest.raises(InvalidModel, match=option):
        runner(**{option: 0})


def there_and_back(value):
    """What a model that returns its input answers, as the server carries it."""
    request = request_of(value)
    return value_of(InferenceResponse(request.inputs, request.parameters))


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array([[True], [False]]),
        np.array(["a", "é"]),
        np.zeros((0, 4)),
        [[1, 2], [3, 4]],
        pd.Series([1.5, 2.5]),
    ],
    ids=["floats", "booleans", "text", "no rows", "a list", "a series"],
)
def test_arrays_cross_as_they_are(value):
    found = there_and_back(value)

    assert np.array_equal(found, np.asarray(value))


def test_a_frame_crosses_with_its_columns():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, 1.5]})

    pd.testing.assert_frame_equal(there_and_back(frame), frame)


def test_a_dict_of_arrays_crosses_by_name():
    found = there_and_back({"a": np.ones(2), "b": [[1], [2]]})

    assert list(found) == ["a", "b"]
    assert found["b"].tolist() == [[1], [2]]


def test_a_dict_of_anything_crosses_as_json():
    assert there_and_back({"a": {"b": None}}) == {"a": {"b": None}}


def test_outputs_without_names_are_a_tuple():
    found = value_of(encode_response((np.ones(2), np.zeros(3))))

    assert isinstance(found, tuple)
    assert [len(each) for each in found] == [2, 3]


def test_rows_along_another_dimension_come_first_and_go_back():
    request = request_of(np.zeros((3, 5)), None, (1, 0))

    assert list(request.inputs[0].shape) == [5, 3]
    assert request.parameters == {"batch_dim": [1, 0]}
    answer = encode_response(np.arange(10).reshape(5, 2))
    assert value_of(answer, (0, 1)).shape == (2, 5)


def test_an_array_without_the_dimension_of_its_rows_is_refused():
    with pytest.raises(InvalidInput, match="1 dimensions, but its rows are along dimension 1"):
        request_of(np.zeros(3), None, (1, 0))


def test_an_object_that_no_tensor_holds_is_refused():
    with pytest.raises(InvalidInput, match="a runner's input cannot be sent"):
        request_of(object())
