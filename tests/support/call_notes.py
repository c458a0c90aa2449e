"""An observer that notes how calls end."""

from __future__ import annotations

from typing import Any

from headrace.dataplane import Call
from headrace.dataplane.observers.observer import Observer
from headrace.errors import HeadraceError


class Notes(Observer):
    """Notes how each call ends."""

    def __init__(self) -> None:
        self.ends: list[tuple[Any, ...]] = []

    def answered(self, call: Call) -> None:
        self.ends.append(("answered", call.status, call.received, call.sent))

    def refused(self, call: Call, error: HeadraceError) -> None:
        self.ends.append(("refused", call.status, error.kind))

    def left(self, call: Call) -> None:
        self.ends.append(("left", call.status))
