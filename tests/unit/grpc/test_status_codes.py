"""The statuses of errors over gRPC."""

from __future__ import annotations

import grpc
import pytest

from headrace.errors import BY_KIND, HeadraceError, InvalidInput, Overloaded
from headrace.grpc.status_codes import TABLE, details, error_metadata, row

CODES = {
    "invalid_argument": "INVALID_ARGUMENT",
    "malformed_body": "INVALID_ARGUMENT",
    "unsupported_media": "INVALID_ARGUMENT",
    "too_large": "RESOURCE_EXHAUSTED",
    "headers_too_large": "RESOURCE_EXHAUSTED",
    "not_found": "NOT_FOUND",
    "method_not_allowed": "UNIMPLEMENTED",
    "unauthenticated": "UNAUTHENTICATED",
    "forbidden": "PERMISSION_DENIED",
    "model_not_ready": "UNAVAILABLE",
    "model_unavailable": "FAILED_PRECONDITION",
    "conflict": "ABORTED",
    "overloaded": "UNAVAILABLE",
    "rate_limited": "RESOURCE_EXHAUSTED",
    "deadline_exceeded": "DEADLINE_EXCEEDED",
    "request_timeout": "DEADLINE_EXCEEDED",
    "cancelled": "CANCELLED",
    "model_error": "INTERNAL",
    "bad_model_output": "INTERNAL",
    "answer_too_large": "INTERNAL",
    "worker_crashed": "UNAVAILABLE",
    "poisoned": "INTERNAL",
    "store_failed": "INTERNAL",
    "unimplemented": "UNIMPLEMENTED",
    "shutting_down": "UNAVAILABLE",
    "load_failed": "FAILED_PRECONDITION",
    "memory_short": "RESOURCE_EXHAUSTED",
    "invalid_model": "FAILED_PRECONDITION",
    "missing_dependency": "FAILED_PRECONDITION",
    "configuration": "INTERNAL",
    "internal": "INTERNAL",
}


def test_every_kind_of_error_has_a_row() -> None:
    assert set(TABLE) == set(BY_KIND) == set(CODES)


@pytest.mark.parametrize("kind", CODES)
def test_a_kind_has_its_code_and_is_worth_a_retry_only_if_time_helps(
    kind: str,
) -> None:
    found = row(BY_KIND[kind]("x"))

    assert found.code.name == CODES[kind]
    assert found.retry_after is (CODES[kind] == "UNAVAILABLE" or kind == "rate_limited")


def test_an_error_of_an_unknown_kind_is_internal() -> None:
    error = HeadraceError("x")
    error.kind = "unheard"

    assert row(error).code is grpc.StatusCode.INTERNAL


def test_details_are_cut_between_characters() -> None:
    text = details(InvalidInput("a" + "\N{SNOWMAN}" * 1000))

    assert text == "a" + "\N{SNOWMAN}" * 682
    assert details(InvalidInput("short")) == "short"


def test_metadata_has_the_kind_and_when_to_retry() -> None:
    again = ("retry-after", "1")
    pushback = ("grpc-retry-pushback-ms", "1000")

    assert error_metadata(InvalidInput("x")) == (("x-error-code", "invalid_argument"),)
    kind = ("x-error-code", "overloaded")
    assert error_metadata(Overloaded("x")) == (kind, again, pushback)
