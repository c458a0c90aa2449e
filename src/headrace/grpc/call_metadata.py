"""Metadata of calls, for models that read it and send some with their answers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from headrace.errors import BadModelOutput, shorten
from headrace.protocol.messages import InferenceResponse

# See "Custom-Metadata" in gRPC over HTTP/2. Models send no binary values, whose names end in -bin.
NAME = re.compile(r"[0-9a-z_.-]+(?<!-bin)")
VALUE = re.compile(r"[\x20-\x7e]*")
# These belong to the call itself; the library sets them.
OURS = frozenset(("content-type", "te", "user-agent", "x-request-id"))


def collect(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str | bytes]:
    """Metadata by name; text that is sent more than once is joined with commas, as in HTTP."""
    given = tuple(metadata or ())
    found = dict(given)
    if len(found) != len(given):
        found = {}
        for name, value in given:
            first = found.get(name)
            if isinstance(first, str) and isinstance(value, str):
                value = f"{first}, {value}"
            found[name] = value
    return found


def request_context(context: Any, credentials: Collection[bytes | str] = ()) -> dict[str, Any]:
    """The metadata of a call in the form of `InferenceRequest.context`, without binary values.

    Those with the caller's `credentials` are for the server alone.
    """
    found = collect(context.invocation_metadata())
    headers = {
        name: value
        for name, value in found.items()
        if isinstance(value, str) and name not in credentials
    }
    return {"headers": headers, "bytes": True}


def taken(
    response: InferenceResponse, model: str
) -> tuple[InferenceResponse, list[tuple[str, str]]]:
    """The response without the headers in its parameters, and those headers as trailing metadata.

    Raises:
        BadModelOutput: a header cannot be sent.
    """
    response, found = response.split_headers()
    fields = []
    for key, value in found.items():
        name, text = str(key).lower(), str(value).strip(" ")
        if not NAME.fullmatch(name) or not VALUE.fullmatch(text):
            raise BadModelOutput(
                f"model '{model}' answered with header '{shorten(key)}', which gRPC cannot carry"
            )
        if name not in OURS and not name.startswith("grpc-"):
            fields.append((name, text))
    return response, fields
