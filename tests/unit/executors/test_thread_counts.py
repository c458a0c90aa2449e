"""What workers are told about threads, and what they are not told."""

from __future__ import annotations

import pytest

from headrace.executors.thread_counts import OPENMP, OTHERS, variables


def test_where_all_processors_may_be_used_nothing_is_set() -> None:
    assert variables({}, 8, 8) == {}


def test_all_libraries_get_the_processors_that_may_be_used() -> None:
    assert variables({}, 3, 8) == dict.fromkeys((OPENMP, *OTHERS), "3")


def test_what_the_user_has_set_stays() -> None:
    added = variables({"POLARS_MAX_THREADS": "7", "NUMBA_NUM_THREADS": ""}, 3, 8)

    assert "POLARS_MAX_THREADS" not in added
    assert added["NUMBA_NUM_THREADS"] == added[OPENMP] == "3"


@pytest.mark.parametrize("given", ["5", "5,2", " 5 "])
def test_the_users_number_for_openmp_counts_for_all(given: str) -> None:
    assert variables({OPENMP: given}, 3, 8) == dict.fromkeys(OTHERS, "5")


@pytest.mark.parametrize("given", ["0", "all", "-1"])
def test_a_number_that_is_none_counts_for_nothing_else(given: str) -> None:
    assert variables({OPENMP: given}, 3, 8) == dict.fromkeys(OTHERS, "3")
