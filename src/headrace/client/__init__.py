"""A client of Headrace and of other servers of the Open Inference Protocol.

    from headrace.client import Client

    with Client("http://localhost:8080") as client:
        client.predict("wine", table)

Needs `pip install 'headrace[client]'`; pandas is needed only to pass or receive DataFrames.
"""

from headrace.client.awaiting import AsyncClient
from headrace.client.blocking import Client
from headrace.client.client_errors import (
    BadAnswer,
    ClientError,
    ConnectionFailed,
    InvalidRequest,
    NotServed,
    ServerError,
    TimedOut,
    Unavailable,
)
from headrace.client.result import InferResult

__all__ = [
    "AsyncClient",
    "BadAnswer",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "InferResult",
    "InvalidRequest",
    "NotServed",
    "ServerError",
    "TimedOut",
    "Unavailable",
]
