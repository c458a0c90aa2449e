"""A line in the log for each refusal, or with `--access-log` for each call."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from headrace.dataplane.observers.observer import Observer
from headrace.observability.timing import Timing

if TYPE_CHECKING:
    from headrace.dataplane.call import Call
    from headrace.errors import HeadraceError

logger = logging.getLogger("headrace.calls")

# What the server itself is to blame for. Temporary refusals are not included.
SEVERE = frozenset(("internal", "model_error", "bad_model_output", "poisoned", "configuration"))


class RefusalLog(Observer):
    """One line for each call that is refused."""

    def refused(self, call: Call, error: HeadraceError) -> None:
        level = logging.ERROR if error.kind in SEVERE else logging.INFO
        logger.log(level, "%s", error.message, extra=_refusal(call, error))

    def left(self, call: Call) -> None:
        extra = {"request_id": call.caller.request_id, "status": call.status}
        logger.debug("the caller left", extra=extra)


class AccessLog(RefusalLog):
    """One line for each call: who asked what, what came of it, and where its time went."""

    def decoded(self, call: Call) -> None:
        call.timing = Timing()

    def answered(self, call: Call) -> None:
        logger.info("answered", extra=_fields(call))

    def refused(self, call: Call, error: HeadraceError) -> None:
        level = logging.ERROR if error.kind in SEVERE else logging.INFO
        logger.log(level, "%s", error.message, extra=_fields(call) | {"kind": error.kind})

    def left(self, call: Call) -> None:
        logger.info("the caller left", extra=_fields(call))


def _address(peer: Any) -> str:
    """`host:port` of HTTP's pairs; gRPC's words as they are."""
    return ":".join(map(str, peer)) if isinstance(peer, (tuple, list)) else str(peer or "")


def _refusal(call: Call, error: HeadraceError) -> dict[str, Any]:
    return {
        "request_id": call.caller.request_id,
        "status": call.status,
        "kind": error.kind,
    }


def _fields(call: Call) -> dict[str, Any]:
    caller, model, timing = call.caller, call.model, call.timing or Timing()
    return {
        "protocol": caller.protocol,
        "route": caller.route,
        "model": model.name if model is not None else None,
        "version": model.version if model is not None else None,
        "status": call.status,
        "request_id": caller.request_id,
        "bytes_in": call.received,
        "bytes_out": call.sent,
        "rows": timing.rows,
        "batch": timing.batch,
        "queue_ms": round(timing.queued * 1000, 3),
        "compute_ms": round(timing.computed * 1000, 3),
        "total_ms": round(call.seconds * 1000, 3),
        "caller": _address(caller.peer),
    }
