"""One member of a body, whatever else is in it."""

from __future__ import annotations

import json

import pytest

from headrace.http.body_members import member

BODY = {"parameters": {"user": "alice", "number": 7, "none": None, "list": [1]}, "inputs": [{}]}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("parameters.user", "alice"),
        ("parameters.number", "7"),
        ("parameters.none", None),
        ("parameters.list", None),
        ("parameters.other", None),
        ("parameters.user.name", None),
        ("parameters", None),
        ("inputs.name", None),
        ("other.user", None),
    ],
)
def test_a_member_is_found_by_its_path(path: str, expected: str | None) -> None:
    assert member({}, json.dumps(BODY).encode(), path) == expected


@pytest.mark.parametrize("body", [b"", b"a,b\n1,2", b"[1]", b"\xff", b"[" * 100_000, b'{"a": '])
def test_a_body_without_members_has_none(body: bytes) -> None:
    assert member({}, body, "parameters.user") is None


def test_what_follows_the_json_of_a_binary_request_is_not_read() -> None:
    head = json.dumps(BODY).encode()
    length = {b"inference-header-content-length": str(len(head)).encode()}
    assert member(length, head + b"\xff" * 100, "parameters.user") == "alice"


def test_a_length_with_too_many_digits_for_a_number_finds_nothing() -> None:
    length = {b"inference-header-content-length": b"9" * 5000}
    assert member(length, json.dumps(BODY).encode(), "parameters.user") is None
