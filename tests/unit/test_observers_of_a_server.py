"""Which observers a server has: whether each request gets a line in the log."""

from __future__ import annotations

import io
import sys

import pytest

from headrace.application import observers
from headrace.dataplane.observers.access_log import AccessLog
from headrace.settings import ServerSettings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("given", "error", "logged"),
    [
        (None, Terminal(), True),
        (None, io.StringIO(), False),
        (False, Terminal(), False),
        (True, io.StringIO(), True),
    ],
    ids=["terminal", "elsewhere", "turned off", "asked for"],
)
def test_each_request_has_a_line_where_a_person_looks_or_asks_for_it(
    given: bool | None, error: io.StringIO, logged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", error)

    found = observers(ServerSettings(access_log=given))

    assert any(isinstance(each, AccessLog) for each in found) is logged
