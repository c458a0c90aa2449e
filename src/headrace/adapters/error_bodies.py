"""Error bodies, in the forms of the protocols, and what an error adds to the headers."""

from __future__ import annotations

import orjson

from headrace.errors import HeadraceError
from headrace.protocol.error_table import row


def open_inference_error(error: HeadraceError) -> tuple[int, bytes]:
    """Status and body of an error in the Open Inference Protocol, with Headrace's `code` added."""
    return row(error).status, orjson.dumps({"error": error.message, "code": error.kind})


def mlflow_error(error: HeadraceError) -> tuple[int, bytes]:
    """Status and body of an error in the form of MLflow's servers."""
    found = row(error)
    return found.status, orjson.dumps({"error_code": found.mlflow, "message": error.message})


def error_headers(error: HeadraceError) -> list[tuple[bytes, bytes]]:
    """What an error adds to the headers of its answer."""
    found = row(error)
    # What a caller has sent may be in the message: a browser must not take it for a page.
    headers = [(b"x-content-type-options", b"nosniff")]
    if found.retry_after:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    if error.challenge:
        headers.append((b"www-authenticate", error.challenge.encode()))
    if found.close:
        headers.append((b"connection", b"close"))
    return headers
