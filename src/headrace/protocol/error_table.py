"""The one table of error kinds with their HTTP statuses and MLflow codes."""

from __future__ import annotations

from typing import NamedTuple

from headrace.errors import (
    Conflict,
    DeadlineExceeded,
    Forbidden,
    HeadraceError,
    InvalidInput,
    NotFound,
    Overloaded,
    RateLimited,
    Unauthenticated,
    Unimplemented,
)


class Row(NamedTuple):
    """How one error kind is reported over HTTP."""

    status: int
    mlflow: str
    retry_after: bool = False
    close: bool = False


TABLE = {
    "invalid_argument": Row(400, "INVALID_PARAMETER_VALUE"),
    "malformed_body": Row(400, "BAD_REQUEST"),
    "unsupported_media": Row(415, "BAD_REQUEST"),
    "too_large": Row(413, "BAD_REQUEST", close=True),
    "headers_too_large": Row(431, "BAD_REQUEST", close=True),
    "not_found": Row(404, "RESOURCE_DOES_NOT_EXIST"),
    "method_not_allowed": Row(405, "BAD_REQUEST"),
    "unauthenticated": Row(401, "UNAUTHENTICATED"),
    "forbidden": Row(403, "PERMISSION_DENIED"),
    "model_not_ready": Row(503, "TEMPORARILY_UNAVAILABLE", retry_after=True),
    "model_unavailable": Row(503, "INVALID_STATE"),
    "conflict": Row(409, "RESOURCE_CONFLICT"),
    "overloaded": Row(503, "TEMPORARILY_UNAVAILABLE", retry_after=True),
    "rate_limited": Row(429, "REQUEST_LIMIT_EXCEEDED", retry_after=True),
    "deadline_exceeded": Row(504, "DEADLINE_EXCEEDED"),
    "request_timeout": Row(408, "BAD_REQUEST", close=True),
    "cancelled": Row(499, "CANCELLED", close=True),
    "model_error": Row(500, "INTERNAL_ERROR"),
    "bad_model_output": Row(500, "INTERNAL_ERROR"),
    "answer_too_large": Row(500, "INTERNAL_ERROR"),
    "worker_crashed": Row(503, "TEMPORARILY_UNAVAILABLE", retry_after=True),
    "poisoned": Row(500, "INTERNAL_ERROR"),
    "unimplemented": Row(501, "NOT_IMPLEMENTED"),
    "shutting_down": Row(503, "TEMPORARILY_UNAVAILABLE", retry_after=True, close=True),
    # For the caller that requested the load; requests to the model get `model_unavailable`.
    "load_failed": Row(422, "INVALID_STATE"),
    "memory_short": Row(507, "RESOURCE_EXHAUSTED"),
    "invalid_model": Row(422, "INVALID_STATE"),
    "missing_dependency": Row(422, "INVALID_STATE"),
    "store_failed": Row(500, "INTERNAL_ERROR"),
    "configuration": Row(500, "INTERNAL_ERROR"),
    "internal": Row(500, "INTERNAL_ERROR"),
}

# The errors with the status that a model's own exception asks for, be it MLflow's or MLServer's.
MODELS_OWN: dict[int, type[HeadraceError]] = {
    400: InvalidInput,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: RateLimited,
    501: Unimplemented,
    503: Overloaded,
    504: DeadlineExceeded,
}


def row(error: HeadraceError) -> Row:
    """The table's row for an error."""
    return TABLE.get(error.kind, TABLE["internal"])
