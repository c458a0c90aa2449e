"""When the rules end a canary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.rollouts.evidence import Evidence, Latencies
from headrace.sources.follow import Rollback


def evidence(**rules):
    return Evidence(Rollback(min_requests=10, **rules))


def test_a_canary_that_fails_every_request_ends_at_the_fewest_requests():
    found = evidence()
    reasons = [found.fail("model_error") for _ in range(10)]
    assert reasons[:9] == [""] * 9
    assert reasons[9] == "10 of 10 requests failed, more than 0.05 of them: 10 model_error"


def test_a_canary_may_fail_as_many_as_the_limit_says():
    found = evidence(error_rate=0.2)
    failures = [found.fail("model_error") for _ in range(2)]
    assert not any([*failures, *(found.answer(0.01) for _ in range(8))])
    assert "3 of 11" in found.fail("internal")


def test_without_a_limit_no_number_of_failures_ends_a_canary():
    found = evidence(error_rate=None)
    assert not any(found.fail("model_error") for _ in range(100))


def test_a_slow_canary_ends_at_the_fewest_requests():
    found = evidence(p99_ratio=2)
    for _ in range(90):
        found.stable.add(0.01)
    reasons = [found.answer(0.05) for _ in range(10)]
    assert reasons[:9] == [""] * 9
    assert "99th percentile of its latency is" in reasons[9]


def test_a_canary_that_is_as_fast_is_not_ended_and_neither_is_one_without_comparison():
    alike, alone = evidence(p99_ratio=2), evidence(p99_ratio=2)
    for _ in range(100):
        alike.stable.add(0.011)
    assert not any(alike.answer(0.01) or alone.answer(10) for _ in range(100))


def test_answers_that_differ_end_a_canary():
    found = evidence(disagreement=0.5)
    assert not any(found.compare(False) for _ in range(9))
    assert found.compare(False) == "10 of 10 compared answers differ, more than 0.5 of them"
    assert not evidence(disagreement=None).compare(False)


@given(st.lists(st.floats(0, 2000), min_size=1, max_size=200))
def test_percentiles_are_within_a_tenth(seconds):
    found = Latencies()
    for each in seconds:
        found.add(each)
    assert found.count == len(seconds)
    for part in (0.5, 0.99):
        exact = sorted(seconds)[max(0, -int(-part * len(seconds) // 1) - 1)]
        if 1e-5 < exact < 900:
            assert found.percentile(part) == pytest.approx(exact, rel=0.1)
