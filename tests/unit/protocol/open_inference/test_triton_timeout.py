"""The parameter `timeout` of Triton's clients, in microseconds."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import InvalidInput
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.open_inference.triton_parameters import take_options

REFUSED = [
    (float("nan"), "NaN"),
    (float("inf"), "Infinity"),
    (float("-inf"), "-Infinity"),
    (-1, "-1"),
    (1.5, "1.5"),
    (2**63, "9223372036854775808"),
    (1e300, "1e+300"),
    (True, "true"),
    (None, "null"),
    ("5", '"5"'),
    ([5], "a list"),
    ("x" * 8_000_000, '"xxxx'),
]


@pytest.mark.parametrize(("value", "got"), REFUSED, ids=[each[1] for each in REFUSED])
def test_a_timeout_that_is_no_time_is_refused_by_name(value: Any, got: str) -> None:
    request = InferenceRequest([], {"timeout": value})
    with pytest.raises(InvalidInput) as refused:
        take_options(request)

    said, _, shown = refused.value.message.partition(", got ")
    assert said == (
        "request: parameter timeout: expected a whole number of microseconds of at least 0 and "
        "below 2**63"
    )
    assert shown.startswith(got)
    assert len(shown) <= 24


@pytest.mark.parametrize(
    ("value", "seconds"), [(0, None), (1, 1e-6), (2e6, 2.0), (2**63 - 1, (2**63 - 1) / 1e6)]
)
def test_a_timeout_is_in_microseconds(value: Any, seconds: float | None) -> None:
    request = InferenceRequest([], {"timeout": value, "k": 1})
    take_options(request)

    assert (request.timeout, request.parameters) == (seconds, {"k": 1})
