"""Which media types a plugin takes, and which are well-formed."""

from __future__ import annotations

import pytest

from headrace.protocol.media_types import GIVEN, TAKEN, takes


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("image/png", "image/png"),
        ("image/png", "IMAGE/PNG"),
        ("application/json", "application/json; charset=utf-8"),
        ("application/json; charset=utf-8", "application/json"),
        ("image/*", "image/webp"),
        ("*/*", "anything/else"),
    ],
)
def test_a_type_is_taken_whatever_its_case_and_parameters(wanted, given):
    assert takes(wanted, given)


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("image/png", "image/jpeg"),
        ("image/png", ""),
        ("image/*", "imagery/png"),
        ("image/png", "image/*"),
        ("application/json", "application/jsonl"),
    ],
)
def test_another_type_is_not_taken(wanted, given):
    assert not takes(wanted, given)


@pytest.mark.parametrize("text", ["json", "", "a/b/c", "a/b\r\nx: y", "a b/c", "a/b; é"])
def test_malformed_media_types_are_recognized(text):
    assert not TAKEN.fullmatch(text)
    assert not GIVEN.fullmatch(text)


def test_an_answer_has_one_type_rather_than_a_family():
    assert TAKEN.fullmatch("image/*")
    assert not GIVEN.fullmatch("image/*")
    assert GIVEN.fullmatch("text/plain; charset=utf-8")
