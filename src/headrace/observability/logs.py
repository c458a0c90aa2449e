"""Structured logs on standard error: one line per event, for people or for machines.

Standard library only; workers log in the same form.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from headrace.masking import masked, without_credentials

# Fields a caller may pass with `extra=`; each appears in the line under its own name.
FIELDS = (
    *("request_id", "protocol", "route", "model", "version", "role", "status"),
    *("grpc_status", "kind"),
    *("pid", "seconds", "bytes_in", "bytes_out", "rows", "batch", "queue_ms", "compute_ms"),
    *("total_ms", "caller", "principal"),
)


Dumps = Callable[[dict[str, Any]], str]


def dumps(line: dict[str, Any]) -> str:
    """A line as JSON. What is not printable is escaped, so a line cannot be forged."""
    text = json.dumps(line, default=str, separators=(",", ":"), ensure_ascii=False)
    return text if text.isprintable() else escaped(line)


def escaped(line: dict[str, Any]) -> str:
    """A line as JSON in ASCII."""
    return json.dumps(line, default=str, separators=(",", ":"))


def log(logger: logging.Logger, level: int, message: str, fields: dict[str, Any]) -> None:
    """Log a message with fields of `FIELDS`, for less than a call with `extra=` costs. Hot."""
    if logger.isEnabledFor(level):
        record = logging.LogRecord(logger.name, level, "", 0, message, None, None)
        record.__dict__.update(fields)
        logger.handle(record)


class JsonFormatter(logging.Formatter):
    """One JSON object per line, written by `dumps`."""

    def __init__(self, dumps: Dumps = dumps) -> None:
        super().__init__()
        self._dumps = dumps

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_credentials(record.getMessage()),
        }
        line.update(_fields(record))
        if record.exc_info:
            line["traceback"] = masked(self.formatException(record.exc_info))
        return self._dumps(line)


class TextFormatter(logging.Formatter):
    """Time, level, message and `key=value` fields; control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={_quoted(value)}" for key, value in _fields(record).items())
        message = _escape(without_credentials(record.getMessage()))
        line = f"{_time(record)} {record.levelname:<7} {message}{fields}"
        if record.exc_info:
            line += "\n" + masked(self.formatException(record.exc_info))
        return line


class PatternFormatter(logging.Formatter):
    """A pattern of Python's logging, such as `%(levelname)s: %(message)s`, on one line."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _escape(without_credentials(super().formatMessage(record)))


def is_pattern(form: str) -> bool:
    """Whether `form` is a pattern that every record can fill."""
    if "%(" not in form:
        return False
    try:
        logging.Formatter(form).format(logging.makeLogRecord({}))
    except (KeyError, TypeError, ValueError):
        return False
    return True


def settled(form: str) -> str:
    """`text`, `json` or a pattern; `auto` is text on a terminal, JSON elsewhere."""
    if form == "auto":
        return "text" if sys.stderr.isatty() else "json"
    return form


def configure(level: str, form: str, dumps: Dumps = dumps) -> None:
    """Send all logs to standard error in the form that `settled` makes of `form`.

    `dumps` writes the lines of the JSON form.
    """
    form = settled(form)
    if (sys.stderr.encoding or "").lower().replace("-", "") != "utf8":
        # It would escape what it cannot write by itself, in a way that is not JSON's.
        dumps = escaped
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(form, dumps))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("headrace").setLevel(level.upper())
    # A closed pipe behind standard error must never fail a request.
    logging.raiseExceptions = False


def _formatter(form: str, dumps: Dumps) -> logging.Formatter:
    if "%(" in form:
        return PatternFormatter(form)
    return JsonFormatter(dumps) if form == "json" else TextFormatter()


def _time(record: logging.LogRecord) -> str:
    second, fraction = divmod(record.created, 1)
    return f"{_second(int(second))}.{int(fraction * 1000):03d}Z"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    found = record.__dict__
    values = ((name, found.get(name)) for name in FIELDS)
    return {name: value for name, value in values if value is not None and value != ""}


def _quoted(value: object) -> str:
    """A value that no reader takes for two fields."""
    text = _escape(value)
    return json.dumps(text) if re.search('[ ="]', text) else text


def _escape(value: object) -> str:
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value)
    )
