"""Words that a model does not know are counted at once, and logged within a bounded time."""

from __future__ import annotations

import logging

import pytest

from headrace.observability.counters import ModelMetrics
from headrace.protocol.mlflow.signature import COLUMN, KEY, Signature
from headrace.serving.passed_over import MOST_WORDS, PassedOver

WIDE = Signature.parse({"inputs": [{"name": f"x{i}", "type": "double"} for i in range(1000)]})


def test_misspelt_columns_are_counted_at_once_and_logged_over_several_requests(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = ModelMetrics()
    words = PassedOver("m", metrics)
    logged = []
    for _ in range(MOST_WORDS):
        words.add(COLUMN, [f"xx{number}" for number in range(MOST_WORDS)], WIDE)
        logged.append(len(caplog.records))

    assert metrics.passed_over == {COLUMN: MOST_WORDS**2}
    assert logged[0] < 10
    assert logged[-1] == MOST_WORDS
    assert "'xx5': requests are scored without it; did the caller mean 'x5'?" in caplog.text


def test_few_words_are_logged_with_the_first_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    small = Signature.parse({"inputs": [{"name": "age", "type": "double"}]})
    PassedOver("m", ModelMetrics()).add(COLUMN, ["id", "aeg", "city"], small)

    assert len(caplog.records) == 3


def test_a_word_of_megabytes_is_logged_shortened(caplog: pytest.LogCaptureFixture) -> None:
    PassedOver("m", ModelMetrics()).add(KEY, ["k" * 8_000_000], None)

    assert len(caplog.text) < 500
