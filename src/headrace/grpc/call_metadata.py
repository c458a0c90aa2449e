"""Metadata for models that ask for those of each call, and that send some with their answers."""

from __future__ import annotations

import re
from typing import Any

from headrace.errors import BadModelOutput, shorten
from headrace.protocol.messages import InferenceResponse

# gRPC over HTTP/2, "Custom-Metadata"; binary values, whose names end so, are none of a model's.
NAME = re.compile(r"[0-9a-z_.-]+(?<!-bin)")
VALUE = re.compile(r"[\x20-\x7e]*")
# Of the call itself; the library sets them.
OURS = frozenset(("content-type", "te", "user-agent", "x-request-id"))


def request_context(context: Any) -> dict[str, Any]:
    """The metadata of a call as `InferenceRequest.context` has them; binary ones are left out."""
    found = dict(context.invocation_metadata() or ())
    headers = {name: value for name, value in found.items() if isinstance(value, str)}
    return {"headers": headers, "bytes": True}


def taken(
    response: InferenceResponse, model: str
) -> tuple[InferenceResponse, list[tuple[str, str]]]:
    """The response without the headers among its parameters, and those as trailing metadata.

    Raises:
        BadModelOutput: one of them cannot be sent.
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
