"""How requests are divided: exactly, the same everywhere, and one way only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.rollouts.split import WHOLE, Spacing, point, salt, threshold

SALT = salt("wine", "2")


@given(st.text(), st.floats(0, 100), st.floats(0, 100))
def test_no_caller_flips_back_as_the_percentage_grows(key, first, second):
    smaller, larger = sorted([first, second])
    assert point(SALT, key) >= threshold(smaller) or point(SALT, key) < threshold(larger)


@given(st.text())
def test_every_caller_is_in_at_100_and_none_at_0(key):
    assert threshold(0) <= point(SALT, key) < threshold(100) == WHOLE


def test_the_place_of_a_caller_never_changes():
    # Another replica, or the next version of the server, must find the same.
    assert point(SALT, "alice") == 12590588696098562984
    assert point(SALT, "bob") == 6918291089934537292


def test_each_rollout_has_other_callers():
    keys = [str(number) for number in range(1000)]
    first, second = (
        {key for key in keys if point(salt("wine", version), key) < threshold(10)}
        for version in ("2", "3")
    )
    assert len(first & second) < len(first) / 2
    assert salt("a", "12") != salt("a1", "2")


@pytest.mark.parametrize("percent", [0.5, 10, 33.3, 50, 99])
def test_callers_are_divided_by_the_percentage(percent):
    keys = 20_000
    found = sum(point(SALT, f"user-{number}") < threshold(percent) for number in range(keys))
    deviation = (keys * percent / 100 * (1 - percent / 100)) ** 0.5
    assert abs(found - keys * percent / 100) <= 3 * deviation


@given(st.floats(0, 100), st.integers(1, 3000), st.integers(0, 3000))
def test_evenly_spaced_requests_have_their_share_in_every_stretch(percent, count, before):
    spacing = Spacing()
    for _ in range(before):
        spacing.next()
    found = sum(spacing.next() < threshold(percent) for _ in range(count))
    assert abs(found - count * percent / 100) <= 6
