"""Faults in JSON are located again, whatever a decoder said about them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
import pytest

from headrace.protocol.open_inference.json_faults import LARGEST, described, refusal, syntax_fault


class Row(msgspec.Struct):
    name: str
    size: int | None = None


class Table(msgspec.Struct):
    rows: list[Row]
    scale: float = 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"rows": []', "it is not valid JSON: it ends too early"),
        (b'{"rows": [,]}', "it is not valid JSON: the fault is at character 10"),
        (b"\xef\xbb\xbf{}", "it is not valid JSON: it begins with a byte order mark"),
        (
            b'{"scale": NaN}',
            "it is not valid JSON: NaN at character 10; a missing number is null",
        ),
        (
            b'{"scale": [1, -Infinity]}',
            "it is not valid JSON: -Infinity at character 14; a missing number is null",
        ),
        (b'{"rows": "\xff"}', "it is not valid UTF-8 at byte 10"),
        (b'{"rows": [], "more": "\xff"}', "it is not valid UTF-8 at byte 22"),
        (b"[]", "it: expected object, got array"),
        (b" 3 ", "it: expected object, got integer"),
        (b"{}", "rows is missing"),
        (b'{"rows": [{"name": "a"}, {}]}', "rows[1].name is missing"),
        (b'{"rows": [{"name": "a", "size": 1.5}]}', "rows[0].size: expected integer, got number"),
        (b'{"rows": [{"name": "a", "size": true}]}', "rows[0].size: expected integer, got boolean"),
        (b'{"rows": [], "scale": null}', "scale: expected number, got null"),
        (b'{"rows": [], "scale": 1e999}', "scale: number out of range"),
        (b'{"rows": ' + b"[" * 100_000, "it is nested too deeply"),
    ],
)
def test_a_fault_is_named_by_its_place(text: bytes, message: str) -> None:
    assert refusal(text, Table, "it") == message


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    since: datetime | None = None
    size: int = 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"sice": 3}', "it: expected no other keys than since, size, got 'sice'"),
        (
            b'{"since": "yesterday"}',
            "since: expected time such as 2027-01-31T00:00:00Z, got another string",
        ),
        (b'{"since": 5}', "since: expected time such as 2027-01-31T00:00:00Z, got integer"),
    ],
)
def test_a_key_that_is_not_allowed_and_a_text_that_is_no_time_are_named(
    text: bytes, message: str
) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Strict)

    assert refusal(text, Strict, "it") == message


def test_a_text_that_the_decoder_takes_has_no_fault() -> None:
    text = b'{"rows": [{"name": "a", "size": null}, {"name": "b", "more": [1]}], "scale": 2}'
    msgspec.json.decode(text, type=Table)

    assert refusal(text, Table, "it") == "it does not have the expected form"


def test_a_fault_in_a_large_text_is_not_located() -> None:
    assert syntax_fault(b"[" + b" " * LARGEST) == "not valid JSON"
    assert syntax_fault(b"[" * LARGEST + b"1") == "not valid JSON: it ends too early"


def test_a_missing_member_is_named_however_large_the_others_are() -> None:
    text = b'{"scale": 1, "more": [%b]}' % b",".join([b"1"] * LARGEST)

    assert refusal(text, Table, "it") == "rows is missing"


def test_a_fault_among_too_many_elements_is_not_located() -> None:
    text = b'{"rows": [%b, 1]}' % b",".join([b'{"name": "a"}'] * 10_000)

    assert refusal(text, Table, "it") == "it does not have the expected form"


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "integer"),
        (Annotated[int, msgspec.Meta(ge=1)] | None, "integer, at least 1"),
        (Annotated[float, msgspec.Meta(gt=0)], "number, above 0"),
        (str | list[str] | None, "string or array"),
        (tuple[str, ...], "array"),
        (dict[str, Any], "object"),
    ],
)
def test_a_type_is_described_in_words(hint: Any, words: str) -> None:
    assert described(hint) == words
