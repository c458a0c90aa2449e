"""What the rounds of several groups of servers add up to."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.peers import figures, goals
from benchmarks.peers.figures import Point
from benchmarks.peers.scenarios import CONTENDERS, GROUPS, SCENARIOS

OURS, MOSEC = Point("headrace", "row", 32), Point("mosec", "row", 32)


def measured(*rounds: dict[str, float], servers: Any = None) -> dict[str, Any]:
    """A group whose rounds have these rates over 32 connections."""
    found = [
        {"row": {"32": {name: {"rate": rate} for name, rate in rates.items()}}} for rates in rounds
    ]
    return {"rounds": found, "servers": servers or {}, "failed": {}}


def test_a_ratio_is_one_of_the_same_round():
    slow, fast = {"headrace": 200.0, "mosec": 100.0}, {"headrace": 3000.0, "mosec": 1000.0}

    assert figures.ratios({"groups": {"a": measured(slow, fast)}}, OURS, MOSEC) == [2.0, 3.0]


def test_a_round_without_one_of_both_has_no_ratio():
    left_out = {"headrace": 200.0}
    both = {"headrace": 200.0, "mosec": 100.0}

    assert figures.ratios({"groups": {"a": measured(left_out, both)}}, OURS, MOSEC) == [2.0]


def test_a_median_is_over_the_rounds_of_all_groups():
    result = {"groups": {"a": measured({"headrace": 1.0}), "b": measured({"headrace": 3.0})}}

    assert figures.middle(result, OURS, "rate") == 2.0


def test_a_server_that_was_not_measured_has_no_median():
    assert figures.middle({"groups": {"a": measured({})}}, OURS, "rate") is None


def test_the_time_to_an_answer_is_found_in_each_group():
    server = {"headrace": {"ready_after_seconds": 1.5}}
    result = {"groups": {"a": measured(servers=server), "b": measured(servers={})}}

    assert figures.starts(result, "headrace", "ready_after_seconds") == [1.5]


def test_the_reason_of_a_failure_is_kept_by_server():
    group = {**measured(), "failed": {"triton": "not installed"}}

    assert figures.failures({"groups": {"a": group}}) == {"triton": "not installed"}


@pytest.mark.parametrize(
    ("at_least", "rates", "verdict"),
    [
        (True, [2.0, 2.0, 9.0], "pass"),
        (True, [1.0, 1.9, 9.0], "miss"),
        (False, [2.0], "pass"),
        (False, [2.1], "miss"),
        (True, [], "not measured"),
    ],
)
def test_the_median_decides_whether_a_goal_is_reached(monkeypatch, at_least, rates, verdict):
    goal = goals.Goal("twice as fast", 2.0, lambda result: rates, at_least)
    monkeypatch.setattr(goals, "GOALS", [goal])

    (found,) = goals.reached({"groups": {}})

    assert found.verdict == verdict


def test_every_goal_can_be_judged_without_any_result():
    assert {each.verdict for each in goals.reached({"groups": {}})} == {"not measured"}


def test_the_first_answer_is_compared_with_that_of_another_server():
    servers = {
        "headrace": {"ready_after_seconds": 2.0},
        "mosec": {"ready_after_seconds": 3.0},
    }
    goal = goals.first_answer("mosec")

    assert list(goal.samples({"groups": {"a": measured(servers=servers)}})) == [2 / 3]


def test_inline_is_compared_with_the_model_and_one_and_a_half_times_the_bare_server():
    at = {"headrace-inline": {"p50_ms": 0.4}, "uvicorn": {"p50_ms": 0.2}}
    group = {**measured(), "rounds": [{"row": {"1": at}}]}
    (goal,) = (each for each in goals.GOALS if "--workers 0" in each.title)

    result = {"groups": {"a": group}, "alone": {"predict_us": 100.0}}
    assert goal.samples(result) == pytest.approx([1.0])


@pytest.mark.parametrize("group", GROUPS)
def test_each_server_of_a_group_takes_part_in_a_scenario_of_it(group):
    contenders, scenarios = GROUPS[group]

    assert set(scenarios) <= set(SCENARIOS)
    assert [name for name in contenders if not set(CONTENDERS[name].forms) & set(scenarios)] == []
