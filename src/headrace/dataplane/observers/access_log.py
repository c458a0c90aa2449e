"""A log line for each refusal or, with `--access-log`, for each call."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from headrace.dataplane.observers.observer import Observer
from headrace.observability.logs import log
from headrace.observability.timing import Timing

if TYPE_CHECKING:
    from headrace.dataplane.call import Call
    from headrace.errors import HeadraceError

logger = logging.getLogger("headrace.calls")

# Errors that are the server's own fault. Temporary refusals are not included.
SEVERE = frozenset(("internal", "model_error", "bad_model_output", "poisoned", "configuration"))


class RefusalLog(Observer):
    """One line for each call that is refused."""

    def refused(self, call: Call, error: HeadraceError) -> None:
        # The call that made a runner's call gets a line too.
        level = logging.DEBUG if call.is_inner else _level(error)
        log(logger, level, error.logged or error.message, _what(call) | {"kind": error.kind})

    def left(self, call: Call) -> None:
        log(logger, logging.DEBUG, "the caller left", _what(call))


class AccessLog(RefusalLog):
    """One line for each call: who asked for what, how it ended, and where its time went."""

    def decoded(self, call: Call) -> None:
        call.timing = Timing()

    def answered(self, call: Call) -> None:
        log(logger, logging.INFO, "answered", _fields(call))

    def refused(self, call: Call, error: HeadraceError) -> None:
        level = logging.INFO if call.is_inner else _level(error)
        log(logger, level, error.logged or error.message, _fields(call) | {"kind": error.kind})

    def left(self, call: Call) -> None:
        log(logger, logging.INFO, "the caller left", _fields(call))


def _level(error: HeadraceError) -> int:
    return logging.ERROR if error.kind in SEVERE else logging.INFO


def _address(peer: Any) -> str:
    """`host:port` from HTTP's pairs; gRPC's text unchanged."""
    return ":".join(map(str, peer)) if isinstance(peer, (tuple, list)) else str(peer or "")


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _status(call: Call) -> dict[str, int | str]:
    """HTTP's number or gRPC's name, in separate fields: log stores want one type per field."""
    return {"status" if isinstance(call.status, int) else "grpc_status": call.status}


def _what(call: Call) -> dict[str, Any]:
    """What was requested, and how it ended."""
    model = call.model
    return {
        "protocol": call.protocol,
        "route": call.route,
        "model": model.name if model is not None else None,
        "version": model.version if model is not None else None,
        **_status(call),
        "request_id": call.request_id,
        **({"principal": call.principal} if call.principal is not None else {}),
    }


def _fields(call: Call) -> dict[str, Any]:
    timing = call.timing or Timing()
    return {
        **_what(call),
        "bytes_in": call.received,
        "bytes_out": call.sent,
        "rows": timing.rows,
        "batch": timing.batch,
        "queue_ms": _milliseconds(timing.queued),
        "compute_ms": _milliseconds(timing.computed),
        "total_ms": _milliseconds(call.seconds),
        "caller": _address(call.peer),
    }
