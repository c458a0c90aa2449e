"""What is remembered of a rollout, and what counts if replicas remember different things."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.rollouts.record import (
    LONGEST,
    Outcome,
    Record,
    agreed,
    decoded,
    encoded,
)

RUNNING = Record("1", "2", 1000.0)
ROLLED_BACK = RUNNING.decided(Outcome.ROLLED_BACK, 2000.0, "it failed")
PROMOTED = RUNNING.decided(Outcome.PROMOTED, 3000.0)
OTHER = Record("1", "3", 5000.0)

RECORDS = st.sampled_from([RUNNING, ROLLED_BACK, PROMOTED, OTHER, Record("1", "2", 1500.0)])


@given(RECORDS)
def test_a_record_survives_its_encoding(record):
    assert decoded(encoded(record)) == record


@pytest.mark.parametrize("text", ["", "{}", "[1]", "no", '{"stable": 1}', "[" * 100_000, "\ud800"])
def test_what_is_no_record_is_none(text):
    assert decoded(text) is None


@pytest.mark.parametrize(
    ("key", "value"), [("since", 1e300), ("at", 1e300), ("percent", -1), ("percent", 101)]
)
def test_a_record_with_an_impossible_time_or_percentage_is_none(key, value):
    record = {"stable": "1", "canary": "2", "since": 1000.0, "outcome": "held", key: value}
    assert decoded(json.dumps(record)) is None


def test_a_record_fits_into_a_tag_whatever_its_reason_is():
    record = RUNNING.decided(Outcome.ROLLED_BACK, 1.0, "x" * 100_000)
    assert len(encoded(record)) < LONGEST
    assert decoded(encoded(record)) == record


@pytest.mark.parametrize(
    ("own", "shared", "expected"),
    [
        (None, None, None),
        (RUNNING, None, RUNNING),
        (None, RUNNING, RUNNING),
        (RUNNING, ROLLED_BACK, ROLLED_BACK),
        (ROLLED_BACK, RUNNING, ROLLED_BACK),
        (ROLLED_BACK, PROMOTED, PROMOTED),
        (RUNNING, Record("1", "2", 1500.0), Record("1", "2", 1500.0)),
        (RUNNING, OTHER, RUNNING),
        (OTHER, RUNNING, RUNNING),
    ],
)
def test_the_later_decision_about_the_present_canary_counts(own, shared, expected):
    assert agreed(own, shared, "2") == expected


@given(RECORDS, RECORDS)
def test_two_replicas_that_share_what_they_remember_agree(first, second):
    kept = agreed(first, second, "2")
    assert agreed(second, kept, "2") == kept or kept.canary != "2"


def test_a_reason_that_others_wrote_can_be_printed():
    record = decoded(encoded(RUNNING.decided(Outcome.HELD, 1.0, "a\n\x1b[31mb")))
    assert record.reason == r"a\n\x1b[31mb"
    assert decoded(encoded(record)) == record


def test_a_decision_is_later_than_the_one_it_changes_whatever_the_clock_says():
    record = PROMOTED.decided(Outcome.ROLLED_BACK, PROMOTED.at - 500)
    assert agreed(record, PROMOTED, "2") == agreed(PROMOTED, record, "2") == record
