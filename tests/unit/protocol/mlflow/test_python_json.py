"""JSON with Python's NaN and Infinity, and numbers that no double can hold."""

from __future__ import annotations

import math

import pytest

from headrace.errors import MalformedBody
from headrace.protocol.mlflow.python_json import check_text, loads

LONG = b"9" * 250 + b"."


@pytest.mark.parametrize(
    "number", [b"1e309", b"-1E+400", b"1e0400", LONG + b"0e99", b"9" * 310 + b".5"]
)
def test_a_number_too_large_for_a_double_is_refused(number: bytes) -> None:
    with pytest.raises(MalformedBody, match="too large for a double"):
        loads(b'{"a": [%b]}' % number)


@pytest.mark.parametrize("number", [b"1e308", b"1e-400", b"0.1e99", b"1E+007", LONG + b"0"])
def test_any_other_number_is_what_python_reads(number: bytes) -> None:
    assert loads(number) == float(number)


def test_infinity_and_nan_by_name_are_read_as_python_writes_them() -> None:
    infinity, nan = loads(b"[-Infinity, NaN]")

    assert infinity == -math.inf
    assert math.isnan(nan)


def test_an_integer_of_any_size_stays_itself() -> None:
    assert loads(b"1" + b"0" * 400) == 10**400


@pytest.mark.parametrize("text", [rb'["\ud800"]', rb'{"\uDC00": 1}', rb'["\udc00\ud800"]'])
def test_half_of_a_surrogate_pair_is_refused_wherever_it_is(text: bytes) -> None:
    with pytest.raises(MalformedBody, match="half of a surrogate pair"):
        check_text(loads(text), text)


def test_a_whole_surrogate_pair_is_one_character() -> None:
    text = rb'["\ud83d\ude00", "\\ud800"]'
    check_text(loads(text), text)

    assert loads(text) == ["\U0001f600", r"\ud800"]
