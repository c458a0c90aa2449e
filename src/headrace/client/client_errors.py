"""What a client raises, independent of the transport: HTTP and gRPC share one tree.

ClientError
├── ConnectionFailed   the server cannot be reached, or the connection broke
├── TimedOut           the time given to the call ran out, here or at the server
├── InvalidRequest     the server refused the request, or it cannot be encoded
├── NotServed          what was asked for is not served: no such model, version or route
├── Unavailable        overloaded, not ready or draining; safe to retry
├── ServerError        the model or the server failed
└── BadAnswer          the answer does not follow the protocol
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of every error of a client.

    `status` is the HTTP status, None when there was none; `code` is the server's stable code for
    the kind of error, or the client's own; `message` is for people. `retry_after` is how many
    seconds the server asked to wait before a retry, None if it did not ask for one. `model` is the
    name of the model that was called, None if the call was not of a model.
    """

    code = "internal"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code or type(self).code
        self.retry_after = retry_after
        self.model: str | None = None


class ConnectionFailed(ClientError):
    """The server cannot be reached, or the connection broke before the answer."""

    code = "connection_failed"


class TimedOut(ClientError):
    """The time given to the call ran out."""

    code = "deadline_exceeded"


class InvalidRequest(ClientError):
    """The server refused the request, or the protocol cannot represent the values."""

    code = "invalid_argument"


class NotServed(ClientError):
    """What was asked for is not served: no such model, version or route."""

    code = "not_found"


class Unavailable(ClientError):
    """The server or the model cannot answer now."""

    code = "unavailable"


class ServerError(ClientError):
    """The model or the server failed on the request."""

    code = "internal"


class BadAnswer(ClientError):
    """The answer does not follow the protocol, or is not of the kind that was asked for."""

    code = "bad_answer"


def of_status(status: int) -> type[ClientError]:
    """The class for an HTTP status of 400 or more."""
    if status in (404, 405, 501):
        return NotServed
    if status in (408, 504):
        return TimedOut
    if status in (429, 502, 503):
        return Unavailable
    return InvalidRequest if status < 500 else ServerError
