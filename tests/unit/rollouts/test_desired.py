"""What a rollout wants, as a function of the registry, the settings, the record and the clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.rollouts.desired import Desired, desired
from headrace.rollouts.record import Outcome, Record
from headrace.settings import ModelSettings
from headrace.sources.follow import Followed
from headrace.sources.model_registry import Registered

BEGAN = 1_000.0
STEPS = {"alias": "@challenger", "steps": [10, 50, 100], "bake": 60}


def followed(**follow):
    follow = {"canary": {"alias": "@challenger", "percent": 10}, **follow}
    return Followed(ModelSettings("m", "mlflow", uri="models:/m@champion", follow=follow))


def registered(champion="1", challenger="2", **others):
    aliases = {"champion": champion, "challenger": challenger, **others}
    return Registered({name: each for name, each in aliases.items() if each}, {}, "9")


def wanted(record=None, now=BEGAN, follow=None, **aliases):
    return desired(registered(**aliases), followed(**(follow or {})), record, now)


def test_a_canary_begins_with_its_first_percentage():
    assert wanted() == Desired("1", "2", percent=10)


@pytest.mark.parametrize("challenger", [None, "1"])
def test_there_is_no_canary_without_a_version_of_its_own(challenger):
    assert wanted(challenger=challenger) == Desired("1")


@pytest.mark.parametrize(
    ("after", "percent", "step", "ends"),
    [(0, 10, 0, 60), (59, 10, 0, 60), (60, 50, 1, 120), (119, 50, 1, 120), (120, 100, 2, 180)],
)
def test_steps_follow_the_clock(after, percent, step, ends):
    found = wanted(Record("1", "2", BEGAN), BEGAN + after, {"canary": STEPS})
    assert (found.stable, found.canary) == ("1", "2")
    assert (found.percent, found.step, found.ends) == (percent, step, BEGAN + ends)


def test_the_last_step_promotes_the_canary_if_it_is_all_requests():
    found = wanted(Record("1", "2", BEGAN), BEGAN + 180, {"canary": STEPS})
    assert found == Desired("2", is_over=True)
    fewer = {"canary": {**STEPS, "steps": [10, 50]}}
    found = wanted(Record("1", "2", BEGAN), BEGAN + 1e9, fewer)
    assert (found.canary, found.percent, found.ends) == ("2", 50, None)


def test_a_clock_that_goes_back_does_not_matter():
    found = wanted(Record("1", "2", BEGAN), BEGAN - 1e6, {"canary": STEPS})
    assert (found.percent, found.step) == (10, 0)


def test_a_canary_that_is_held_stays_at_its_percentage():
    held = Record("1", "2", BEGAN).decided(Outcome.HELD, BEGAN + 70, percent=50)
    found = wanted(held, BEGAN + 1e6, {"canary": STEPS})
    assert (found.canary, found.percent, found.step) == ("2", 50, 1)


def test_a_canary_that_was_rolled_back_gets_nothing_until_the_alias_moves():
    record = Record("1", "2", BEGAN).decided(Outcome.ROLLED_BACK, BEGAN)
    assert wanted(record) == Desired("1")
    assert wanted(record, champion="3") == Desired("3")
    assert wanted(record, challenger="4") == Desired("1", "4", percent=10)


def test_a_promoted_canary_is_the_stable_version_until_the_registry_names_another():
    record = Record("1", "2", BEGAN).decided(Outcome.PROMOTED, BEGAN)
    assert wanted(record) == Desired("2")
    assert wanted(record, champion="2") == Desired("2")
    assert wanted(record, champion="3") == Desired("3")
    assert wanted(record, challenger="4") == Desired("1", "4", percent=10)


@pytest.mark.parametrize(("shadow", "expected"), [("1", None), ("2", "2"), ("5", "5")])
def test_a_shadow_is_any_version_but_the_stable_one(shadow, expected):
    follow = {"shadow": {"alias": "@next"}}
    assert wanted(follow=follow, next=shadow).shadow == expected


@given(st.lists(st.floats(0, 200), min_size=2, max_size=20))
def test_time_only_ever_raises_the_percentage(times):
    record = Record("1", "2", BEGAN)
    found = [wanted(record, BEGAN + each, {"canary": STEPS}) for each in sorted(times)]
    shares = [100 if each.is_over else each.percent for each in found]
    assert shares == sorted(shares)
