"""What a caller says about its time, in the header X-Request-Timeout."""

from __future__ import annotations

import pytest

from headrace.dataplane.caller import seconds_given
from headrace.errors import InvalidInput


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-1", "0", "1e9", "1e400", "9" * 5000, "1_0", "five", "", "0x10"]
)
def test_a_time_that_is_none_is_refused_with_its_range(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^X-Request-Timeout: .* above 0 and below 1e9, got '"):
        seconds_given(text)


@pytest.mark.parametrize(("text", "seconds"), [("5", 5.0), (" .5 ", 0.5), ("1e-3", 0.001)])
def test_a_time_is_in_seconds(text: str, seconds: float) -> None:
    assert seconds_given(text) == seconds
