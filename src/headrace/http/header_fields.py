"""Headers for models that ask for those of each request, and that send some with their answers."""

from __future__ import annotations

import re
from typing import Any

from headrace.errors import BadModelOutput, shorten
from headrace.protocol.messages import InferenceResponse

# RFC 9110 5.1 and 5.5.
NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# How an answer is written and sent is the server's affair, whatever its model says.
FRAMING = frozenset(
    (
        *(b"connection", b"content-length", b"date", b"keep-alive", b"te", b"trailer"),
        *(b"transfer-encoding", b"upgrade", b"x-request-id"),
    )
)
OURS = FRAMING | {b"content-encoding", b"content-type", b"inference-header-content-length"}


def request_context(headers: dict[bytes, bytes]) -> dict[str, Any]:
    """The headers of a request as `InferenceRequest.context` has them, names in lower case."""
    return {
        "headers": {
            name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()
        }
    }


def taken(
    response: InferenceResponse, model: str
) -> tuple[InferenceResponse, list[tuple[bytes, bytes]]]:
    """The response without the headers among its parameters, and those headers.

    Raises:
        BadModelOutput: one of them cannot be sent.
    """
    response, found = response.split_headers()
    fields = [field(name, value, model) for name, value in found.items()]
    return response, [(name, value) for name, value in fields if name not in OURS]


def field(name: Any, value: Any, model: str) -> tuple[bytes, bytes]:
    """A header as it is sent, its name in lower case.

    Raises:
        BadModelOutput: it would break the head of the answer.
    """
    text = str(value).strip(" \t")
    if not NAME.fullmatch(str(name)) or not VALUE.fullmatch(text):
        raise BadModelOutput(
            f"model '{model}' answered with header '{shorten(name)}', which HTTP cannot carry"
        )
    return str(name).lower().encode("ascii"), text.encode("latin-1")
