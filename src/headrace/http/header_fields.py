"""Header fields: those of requests, and those that models read or add to their answers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from headrace.adapters.adapter import HeaderList, Headers
from headrace.errors import BadModelOutput, shorten
from headrace.protocol.messages import InferenceResponse

# RFC 9110 5.1 and 5.5.
NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# The server alone decides how an answer is framed, whatever headers its model sets.
FRAMING = frozenset(
    (
        *(b"connection", b"content-length", b"date", b"keep-alive", b"te", b"trailer"),
        *(b"transfer-encoding", b"upgrade", b"x-request-id"),
    )
)
OURS = FRAMING | {b"content-encoding", b"content-type", b"inference-header-content-length"}


def collect(fields: HeaderList) -> Headers:
    """Header fields by name; a field sent more than once is joined with commas (RFC 9110 5.3)."""
    headers = dict(fields)
    if len(headers) != len(fields):
        headers = {}
        for name, value in fields:
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def given_id(headers: Headers) -> str | None:
    """The request id that the caller chose, if any."""
    given = headers.get(b"x-request-id")
    return None if given is None else given.decode("latin-1")


def request_context(
    headers: Mapping[bytes, bytes], credentials: Collection[bytes | str] = ()
) -> dict[str, Any]:
    """The headers of a request for `InferenceRequest.context`, with lower-case names.

    Those with the caller's `credentials` are for the server alone.
    """
    return {
        "headers": {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers.items()
            if name not in credentials
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


def sent(fields: Iterable[Sequence[Any]]) -> list[tuple[bytes, bytes]]:
    """The fields of an error's answer that HTTP can carry; the others are left out."""
    found = []
    for name, value in fields:
        with suppress(BadModelOutput):
            found.append(field(name, value, ""))
    return [each for each in found if each[0] not in FRAMING]


def field(name: Any, value: Any, model: str) -> tuple[bytes, bytes]:
    """A header as it is sent, with a lower-case name.

    Raises:
        BadModelOutput: it would break the head of the answer.
    """
    text = str(value).strip(" \t")
    if not NAME.fullmatch(str(name)) or not VALUE.fullmatch(text):
        raise BadModelOutput(
            f"model '{model}' answered with header '{shorten(name)}', which HTTP cannot carry"
        )
    return str(name).lower().encode("ascii"), text.encode("latin-1")
