"""Which values the parameters of `predict` get."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import pytest

from headrace.codecs.arguments import Arguments
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor

X = Tensor("x", "FP64", [1], np.array([1.0]).tobytes())


def alone(x: np.ndarray, scale: Optional[float]) -> Any: ...  # noqa: UP045


def with_default(x: np.ndarray, scale: Optional[float] = 2.0) -> Any: ...  # noqa: UP045


@pytest.mark.parametrize(
    ("predict", "sent", "bound"),
    [
        (alone, [X], {"scale": None}),
        (alone, [X, Tensor("scale", "FP64", [1], np.array([3.0]).tobytes())], {"scale": 3.0}),
        (with_default, [X], {}),
    ],
    ids=["left out", "sent", "left to the default"],
)
def test_an_optional_input_that_is_left_out_is_none(
    predict: Any, sent: list[Tensor], bound: dict[str, Any]
) -> None:
    found = Arguments(predict).bind(InferenceRequest(sent))

    assert {name: value for name, value in found.items() if name != "x"} == bound


def test_an_optional_input_may_come_as_a_parameter() -> None:
    request = InferenceRequest([X], {"scale": 4.0})

    assert Arguments(alone).bind(request)["scale"] == 4.0
