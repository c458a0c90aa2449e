"""What an answer counts as before it leaves the worker."""

from __future__ import annotations

import pytest

from headrace.errors import AnswerTooLarge
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.tensor import Tensor, pack_bytes
from headrace.settings import ModelSettings
from headrace.worker.answer_size import require_size

SETTINGS = ModelSettings("m", "models:Model", max_answer_size=6400)


def answer(*texts: bytes, shape: list[int] | None = None) -> InferenceResponse:
    return InferenceResponse([Tensor("y", "BYTES", shape or [len(texts)], pack_bytes(texts))])


def test_many_short_texts_count_as_more_than_their_bytes() -> None:
    require_size(answer(*[b""] * 100), SETTINGS)

    with pytest.raises(AnswerTooLarge, match="answered 6464 bytes.*'y'.*a text counts as 64"):
        require_size(answer(*[b""] * 101), SETTINGS)


def test_a_long_text_counts_as_its_bytes_whatever_its_shape_says() -> None:
    require_size(answer(b"x" * 6396, shape=[1]), SETTINGS)

    with pytest.raises(AnswerTooLarge, match="6401"):
        require_size(answer(b"x" * 6397, shape=[1]), SETTINGS)


def test_numbers_count_as_their_bytes() -> None:
    numbers = InferenceResponse([Tensor("y", "INT8", [6400], bytes(6400))])

    assert require_size(numbers, SETTINGS) is numbers
