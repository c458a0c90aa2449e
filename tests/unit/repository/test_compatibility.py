"""What callers of one version would notice in another."""

from __future__ import annotations

import pytest

from headrace.protocol.messages import ModelMetadata, TensorMetadata
from headrace.repository.compatibility import differences


def metadata(*inputs, outputs=()):
    return ModelMetadata(inputs=list(inputs), outputs=list(outputs))


X = TensorMetadata("x", "FP64", [-1, 1])
Y = TensorMetadata("y", "FP64", [-1, 1])
OPTIONAL = TensorMetadata("y", "FP64", [-1, 1], parameters={"required": False})


@pytest.mark.parametrize(
    ("new", "found"),
    [
        (metadata(X), []),
        (metadata(X, OPTIONAL), []),
        (metadata(TensorMetadata("x", "FP64", [-1, -1])), []),
        (metadata(X, Y), ["input 'y' is new and required"]),
        (metadata(), ["input 'x' is gone"]),
        (metadata(TensorMetadata("x", "FP32", [-1, 1])), ["input 'x' was FP64 and is FP32"]),
        (
            metadata(TensorMetadata("x", "FP64", [-1, 2])),
            ["input 'x' had the shape [-1, 1] and has [-1, 2]"],
        ),
    ],
)
def test_an_input_that_callers_would_notice_is_a_difference(new, found):
    assert differences(metadata(X), new) == found


def test_an_input_that_becomes_required_is_a_difference():
    assert differences(metadata(OPTIONAL), metadata(Y)) == ["input 'y' is required"]


def test_an_output_may_be_added_and_none_may_go():
    old = metadata(X, outputs=[X])
    assert differences(old, metadata(X, outputs=[X, Y])) == []
    assert differences(old, metadata(X, outputs=[Y])) == ["output 'x' is gone"]
