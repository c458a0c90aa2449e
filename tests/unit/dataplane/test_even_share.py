"""An exact share of a sequence."""

from __future__ import annotations

import pytest

from headrace.dataplane.even_share import EvenShare


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 1 / 3, 0.5, 0.999, 1.0])
def test_every_stretch_has_the_share_give_or_take_a_few(share: float) -> None:
    even = EvenShare(share)
    taken = [even.takes_next() for _ in range(20_000)]

    for start in range(0, 20_000, 1000):
        assert abs(sum(taken[start : start + 1000]) - 1000 * share) <= 3
    assert abs(sum(taken) - 20_000 * share) <= 3


@pytest.mark.parametrize("callers", [2, 3, 10, 64])
def test_callers_who_take_turns_get_the_share_each(callers: int) -> None:
    even = EvenShare(0.1)
    taken = [even.takes_next() for _ in range(1000 * callers)]

    for caller in range(callers):
        assert abs(sum(taken[caller::callers]) - 100) <= 5
