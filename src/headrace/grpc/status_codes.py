"""The single table from error kinds to gRPC status codes; HTTP has its own."""

from __future__ import annotations

from typing import NamedTuple

import grpc

from headrace.errors import HeadraceError

Metadata = tuple[tuple[str, str], ...]

# A status is sent in the trailing metadata, for which clients allow 8 KiB. Percent encoding may
# triple each byte.
MAX_DETAILS = 2048


class Row(NamedTuple):
    """How one error kind is sent over gRPC."""

    code: grpc.StatusCode
    retry_after: bool = False


TABLE = {
    "invalid_argument": Row(grpc.StatusCode.INVALID_ARGUMENT),
    "malformed_body": Row(grpc.StatusCode.INVALID_ARGUMENT),
    "unsupported_media": Row(grpc.StatusCode.INVALID_ARGUMENT),
    "too_large": Row(grpc.StatusCode.RESOURCE_EXHAUSTED),
    "headers_too_large": Row(grpc.StatusCode.RESOURCE_EXHAUSTED),
    "not_found": Row(grpc.StatusCode.NOT_FOUND),
    "method_not_allowed": Row(grpc.StatusCode.UNIMPLEMENTED),
    "unauthenticated": Row(grpc.StatusCode.UNAUTHENTICATED),
    "forbidden": Row(grpc.StatusCode.PERMISSION_DENIED),
    "model_not_ready": Row(grpc.StatusCode.UNAVAILABLE, retry_after=True),
    # UNAVAILABLE would make clients retry.
    "model_unavailable": Row(grpc.StatusCode.FAILED_PRECONDITION),
    "conflict": Row(grpc.StatusCode.ABORTED),
    "overloaded": Row(grpc.StatusCode.UNAVAILABLE, retry_after=True),
    "rate_limited": Row(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=True),
    "deadline_exceeded": Row(grpc.StatusCode.DEADLINE_EXCEEDED),
    "request_timeout": Row(grpc.StatusCode.DEADLINE_EXCEEDED),
    "cancelled": Row(grpc.StatusCode.CANCELLED),
    "model_error": Row(grpc.StatusCode.INTERNAL),
    "bad_model_output": Row(grpc.StatusCode.INTERNAL),
    "answer_too_large": Row(grpc.StatusCode.INTERNAL),
    "worker_crashed": Row(grpc.StatusCode.UNAVAILABLE, retry_after=True),
    "poisoned": Row(grpc.StatusCode.INTERNAL),
    "unimplemented": Row(grpc.StatusCode.UNIMPLEMENTED),
    "shutting_down": Row(grpc.StatusCode.UNAVAILABLE, retry_after=True),
    "load_failed": Row(grpc.StatusCode.FAILED_PRECONDITION),
    "memory_short": Row(grpc.StatusCode.RESOURCE_EXHAUSTED),
    "invalid_model": Row(grpc.StatusCode.FAILED_PRECONDITION),
    "missing_dependency": Row(grpc.StatusCode.FAILED_PRECONDITION),
    "store_failed": Row(grpc.StatusCode.INTERNAL),
    "configuration": Row(grpc.StatusCode.INTERNAL),
    "internal": Row(grpc.StatusCode.INTERNAL),
}


def row(error: HeadraceError) -> Row:
    """The table's row for an error."""
    return TABLE.get(error.kind, TABLE["internal"])


def details(error: HeadraceError) -> str:
    """The message that HTTP would send, cut to what a status may hold."""
    return error.message.encode(errors="replace")[:MAX_DETAILS].decode(errors="ignore")


def error_metadata(error: HeadraceError) -> Metadata:
    """What an error adds to the trailing metadata: its kind, and when to retry."""
    kind = ("x-error-code", error.kind)
    if not row(error).retry_after:
        return (kind,)
    # In seconds as in HTTP, and as clients with a retry policy read it.
    seconds = error.retry_after
    return (kind, ("retry-after", f"{seconds}"), ("grpc-retry-pushback-ms", f"{seconds * 1000}"))
