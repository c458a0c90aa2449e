"""A log entry is one line, whatever is in it, and the same from both writers."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from headrace.errors import ConfigurationError, shorten
from headrace.masking import masked
from headrace.observability import json_lines, logs

FORMS = [logs.dumps, json_lines.dumps]


def record(message: str, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("headrace", logging.INFO, "", 0, message, None, None)
    made.created = 1_000_000_000.25
    made.__dict__.update(fields)
    return made


@pytest.mark.parametrize("dumps", FORMS)
def test_a_line_has_the_time_the_message_and_the_fields_that_have_a_value(
    dumps: logs.Dumps,
) -> None:
    line = logs.JsonFormatter(dumps).format(record("answered", status=200, version=None, model="m"))

    assert json.loads(line) == {
        "time": "2001-09-09T01:46:40.250Z",
        "level": "info",
        "logger": "headrace",
        "message": "answered",
        "model": "m",
        "status": 200,
    }


@pytest.mark.parametrize("dumps", FORMS)
@pytest.mark.parametrize("text", ["a\nb", "a\x85b", "a\u2028b", "a\x1bb", "ü", "\ud800", "\x00"])
def test_no_text_breaks_its_line(dumps: logs.Dumps, text: str) -> None:
    line = logs.JsonFormatter(dumps).format(record("x", model=text))

    assert line.isprintable()
    assert len(line.splitlines()) == 1
    assert ("ü" in line) is (text == "ü")
    assert json.loads(line)["model"] == text


@pytest.mark.parametrize("dumps", FORMS)
def test_a_value_that_json_cannot_express_is_written_as_text(dumps: logs.Dumps) -> None:
    line = json.loads(dumps({"a": {1, 2}.__class__, "b": 2**70}))

    assert line == {"a": "<class 'set'>", "b": 2**70}


def test_a_level_that_is_off_makes_no_record(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("headrace.test")
    with caplog.at_level(logging.INFO, "headrace.test"):
        logs.log(logger, logging.DEBUG, "off", {})
        logs.log(logger, logging.INFO, "on", {"status": 200})

    assert [(each.message, each.status) for each in caplog.records] == [("on", 200)]  # type: ignore[attr-defined]


def test_a_value_with_spaces_is_one_field_of_the_text_form() -> None:
    line = logs.TextFormatter().format(record("x", route='/a status=200 "b"', model="m"))

    assert line.endswith(' x route="/a status=200 \\"b\\"" model=m')


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://admin:hunter2@db/x", "postgres://admin:***@db/x"),
        ("could not log in: password=hunter2, user=me", "could not log in: password=***, user=me"),
        ("{'api_key': 'hunter2', 'a': 1}", "{'api_key': '***', 'a': 1}"),
        ("AWS_SECRET_ACCESS_KEY=hunter2", "AWS_SECRET_ACCESS_KEY=***"),
        ('Authorization token: "hunter2"', 'Authorization token: "***"'),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("token expired", "token expired"),
        ("redis://hunter2@db/0", "redis://***@db/0"),
        ("postgres://admin:hunter2@hunter2@db/x", "postgres://admin:***@db/x"),
        ("https://host/a?n=1&X-Amz-Signature=hunter2", "https://host/a?n=1&X-Amz-Signature=***"),
        ("{'Authorization': 'Bearer hunter2'}", "{'Authorization': 'Bearer ***'}"),
        ("Cookie: hunter2", "Cookie: ***"),
        ("SMTP_PASS=hunter2 MY_PASS: hunter2", "SMTP_PASS=*** MY_PASS: ***"),
        ("passed: 3, bypass=yes", "passed: 3, bypass=yes"),
        ("hr_" + "hunter2" * 6 + "x", "hr_***"),
        (
            "-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----",
            "-----BEGIN EC PRIVATE KEY-----***-----END EC PRIVATE KEY-----",
        ),
    ],
)
def test_secrets_in_a_stack_trace_are_masked(text: str, shown: str) -> None:
    try:
        raise ValueError(text)
    except ValueError as error:
        record = logging.LogRecord("a", logging.ERROR, "", 0, "failed", None, None)
        record.exc_info = (ValueError, error, error.__traceback__)

    for formatter in (logs.TextFormatter(), logs.JsonFormatter()):
        line = formatter.format(record)
        assert "hunter2" not in line
    assert logs.TextFormatter().format(record).endswith(f"ValueError: {shown}")


@pytest.mark.parametrize("form", ["text", "json", "%(levelname)s: %(message)s"])
def test_an_address_in_a_message_shows_no_password(form: str) -> None:
    line = logs._formatter(form, logs.dumps).format(record("asking https://me:hunter2@host"))

    assert "https://me:***@host" in line


def test_a_shortened_address_shows_no_part_of_its_password() -> None:
    address = f"https://me:{'hunter2' * 100}@host/path"

    assert shorten(address, 40) == "https://me:***@host/path"
    assert ConfigurationError(f"no answer: {address}").message == (
        "no answer: https://me:***@host/path"
    )


@pytest.mark.parametrize("start", ["://?", "://?a&", "x=", "-----BEGIN PRIVATE KEY-----"])
def test_text_that_is_made_to_be_slow_is_masked_as_fast_as_any(start: str) -> None:
    # With expressions that look back again and again, this would take hours.
    for part in ("sig", "token", "&sig", "a://a:", "hr_"):
        assert masked(start + part * 100_000)
