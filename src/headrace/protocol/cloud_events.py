"""The CloudEvents headers that MLServer gives to each request of a model and to each answer.

Seldon's payload loggers read them. Names and values are those of MLServer 1.7.
"""

from __future__ import annotations

import re
from urllib.parse import quote

ID = "Ce-Id"
SPECVERSION = "Ce-Specversion"
SOURCE = "Ce-Source"
TYPE = "Ce-Type"
SPECVERSION_DEFAULT = "0.3"

REQUEST_ID = "Ce-Requestid"
MODEL_ID = "Ce-Modelid"
INFERENCE_SERVICE = "Ce-Inferenceservicename"
NAMESPACE = "Ce-Namespace"
ENDPOINT = "Ce-Endpoint"

REQUEST = "io.seldon.serving.inference.request"
RESPONSE = "io.seldon.serving.inference.response"

NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

PLAIN = re.compile(r"[!-~]*")
# What may stay as it is in a value that has something else in it (CloudEvents over HTTP, 3.1.3.2).
KEPT = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


def headers(
    kind: str, model: str, server: str, namespace: str | None, id: str | None = None
) -> dict[str, str]:
    """The headers of one request or answer, which is of type `kind`."""
    source = f"io.seldon.serving.deployment.{server}"
    found = {
        SPECVERSION: SPECVERSION_DEFAULT,
        SOURCE: f"{source}.{namespace}" if namespace else source,
        TYPE: kind,
        MODEL_ID: model,
        INFERENCE_SERVICE: server,
        ENDPOINT: model,
    }
    if id:
        found[ID] = found[REQUEST_ID] = id
    if namespace:
        found[NAMESPACE] = namespace
    return found


def namespace() -> str | None:
    """The namespace of Kubernetes in which this process runs, if it does."""
    try:
        with open(NAMESPACE_FILE, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return None


class CloudEvents:
    """The headers of one model: those of its answers are made once, except for the id."""

    def __init__(self, model: str, server: str, namespace: str | None) -> None:
        self._request = headers(REQUEST, model, server, namespace)
        answer = headers(RESPONSE, model, server, namespace)
        self._metadata = [(name.lower(), _value(value)) for name, value in answer.items()]
        self._fields = [(name.encode(), value.encode()) for name, value in self._metadata]

    def of_request(self, id: str) -> dict[str, str]:
        """What a model reads among the headers of a request."""
        return {**self._request, ID: id, REQUEST_ID: id}

    def fields(self, id: str) -> list[tuple[bytes, bytes]]:
        """The header fields of an answer over HTTP. Hot."""
        value = _value(id).encode()
        return [*self._fields, (b"ce-id", value), (b"ce-requestid", value)]

    def metadata(self, id: str) -> list[tuple[str, str]]:
        """The trailing metadata of an answer over gRPC. Hot."""
        value = _value(id)
        return [*self._metadata, ("ce-id", value), ("ce-requestid", value)]


def _value(text: str) -> str:
    """A value that a header can carry; callers choose ids, and nothing in one may end a header."""
    return text if PLAIN.fullmatch(text) else quote(text, safe=KEPT)
