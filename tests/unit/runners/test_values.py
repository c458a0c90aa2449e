"""A model gets what its runner is given, and the runner returns what the model returned."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headrace.batching import policy
from headrace.codecs import encode_response
from headrace.errors import InvalidInput
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.reserved_parameters import PYTHON_VALUE
from headrace.runners.call_arguments import arguments_of, request_of_call
from headrace.runners.runner_values import request_of, value_of
from support.values import VALUES, same

each_value = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())


def crossed(request: InferenceRequest) -> InferenceRequest:
    """The request as it comes out of a frame."""
    parameters = json.loads(json.dumps(request.parameters))
    return InferenceRequest(request.inputs, parameters, request.outputs)


def answered(value: Any) -> Any:
    """What a runner returns if its model returned `value`."""
    response = encode_response(value)
    form = json.loads(json.dumps(response.form))
    return value_of(InferenceResponse(response.outputs, response.parameters, form))


@each_value
def test_a_model_gets_what_the_runner_is_given(value):
    args, kwargs = arguments_of(crossed(request_of_call((value,), {}, None)))

    assert kwargs == {}
    assert same(args, (value,))


@each_value
def test_a_runner_returns_what_the_model_returned(value):
    assert same(answered(value), value)


@each_value
def test_several_arguments_cross_by_position_and_by_name(value):
    request = request_of_call((value, 1), {"named": value, "none": None}, None)
    args, kwargs = arguments_of(crossed(request))

    assert same(args, (value, 1))
    assert same(kwargs, {"named": value, "none": None})


def test_no_arguments_are_a_call_too():
    assert arguments_of(crossed(request_of_call((), {}, None))) == ((), {})


def test_the_index_of_a_frame_and_of_a_series_is_left_behind():
    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])

    assert answered(frame).index.tolist() == [0, 1]
    assert answered(frame["a"]).index.tolist() == [0, 1]


def test_times_in_json_are_text():
    assert answered({"at": dt.datetime(2024, 1, 2, tzinfo=dt.UTC)}) == {
        "at": "2024-01-02T00:00:00+00:00"
    }


def test_an_object_that_no_tensor_holds_is_refused():
    with pytest.raises(InvalidInput, match="a runner's input cannot be sent"):
        request_of(object())


@pytest.mark.parametrize(
    "value",
    [np.ones((2, 1)), pd.DataFrame({"a": [1.0, 2.0]}), {"a": np.ones(2), "b": np.ones(2)}],
    ids=["an array", "a frame", "a dict of arrays"],
)
def test_what_clients_send_too_has_nothing_in_it_that_keeps_it_from_their_batches(value):
    assert PYTHON_VALUE not in (request_of(value).parameters or {})


BY_ROW = [[1, 2], ["a", "b"], pd.Series([1, 2]), {"a": [1, 2]}, [np.ones(2), np.ones(2)]]
BY_ROW_IDS = ["numbers", "text", "a series", "a dict of lists", "arrays"]


@pytest.mark.parametrize("value", BY_ROW, ids=BY_ROW_IDS)
def test_values_with_rows_are_put_together_and_taken_apart_again(value):
    request = request_of_call((value,), {}, None)
    assert policy.rows(request) == 2

    together = policy.merge([request, request])
    (merged,), _ = arguments_of(crossed(together))
    parts = policy.split(encode_response(merged), [2, 2])

    assert all(same(value_of(part), value) for part in parts)


@pytest.mark.parametrize(
    "value",
    [3, "text", None, {"a": {"b": 1}}, (np.ones(1), np.ones(1)), [1, np.ones(1)], b"x"],
    ids=["a number", "text", "none", "json", "a tuple", "a mixed list", "bytes"],
)
def test_a_value_without_rows_stays_alone(value):
    assert policy.rows(request_of_call((value,), {}, None)) is None
    assert policy.rows(request_of_call((value, [1.5]), {}, None)) is None


def test_arguments_with_as_many_rows_can_share_a_batch():
    request = request_of_call((np.ones((2, 3)), [1, 2]), {"c": pd.Series([1, 2])}, "m")

    assert policy.rows(request) == 2
    (first, second), named = arguments_of(crossed(policy.merge([request, request])))
    assert (first.shape, second, len(named["c"])) == ((4, 3), [1, 2, 1, 2], 4)


def test_a_list_whose_elements_differ_is_taken_apart_by_its_elements():
    response = encode_response([np.ones(1), "a", None])

    first, second = (value_of(part) for part in policy.split(response, [1, 2]))
    assert same(first, [np.ones(1)])
    assert second == ["a", None]
