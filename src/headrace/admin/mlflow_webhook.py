"""The route for webhooks of MLflow's registry; one that is genuine only means "ask now".

Source: `mlflow/webhooks/delivery.py` of MLflow 3.17, which follows Standard Webhooks. A delivery
that had no answer, or 429 or 5xx, comes again with the same id, time and signature.
"""

from __future__ import annotations

import base64
import hmac
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace.access.needs import OPEN
from headrace.admin.admin_route import AdminRoute
from headrace.admin.json_response import json_response
from headrace.errors import ConfigurationError, InvalidInput, Unauthenticated
from headrace.http.body import read_small_body
from headrace.http.header_fields import collect
from headrace.protocol.open_inference.json_faults import refusal

logger = logging.getLogger("headrace.admin")

PATH = "/admin/mlflow-webhook"
LARGEST_BODY = 1024 * 1024
# Seconds that the clocks may differ, either way, the time of delivery included.
TOLERANCE = 300
# Ids of deliveries that are remembered; beyond that, the oldest is forgotten.
MOST_REMEMBERED = 10_000
LONGEST_ID = 128
# Digits of a time in seconds since 1970.
LONGEST_TIME = 12
SMALLEST_SECRET, LARGEST_SECRET = 8, 4096
VERSION = b"v1,"
# What tells of registered models; prompts are in the same registry, and are not served.
ENTITIES = frozenset(
    ("registered_model", "model_version", "model_version_tag", "model_version_alias")
)


class Data(msgspec.Struct):
    """What a delivery says of a registered model: its name, if it is one."""

    name: msgspec.Raw = msgspec.Raw(b"null")


class Event(msgspec.Struct):
    """What the body of a delivery is read for; nothing is made of all else."""

    entity: str
    data: Data


def read_secret(file: str) -> bytes:
    """The secret in a file, without the line end after it.

    Raises:
        ConfigurationError: the file cannot be read, or what it holds is no secret.
    """
    flag = "--mlflow-webhook-secret-file"
    try:
        with Path(file).open("rb") as opened:
            secret = opened.read(LARGEST_SECRET + 1).rstrip(b"\r\n")
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise ConfigurationError(f"{flag}: '{file}': {reason}") from exc
    if not SMALLEST_SECRET <= len(secret) <= LARGEST_SECRET:
        raise ConfigurationError(
            f"{flag}: expected '{file}' to hold a secret of {SMALLEST_SECRET} to {LARGEST_SECRET} "
            f"bytes, got {'more' if len(secret) > LARGEST_SECRET else len(secret)}"
        )
    return secret


def mlflow_webhook_routes(secret: bytes, poll: Callable[[str], list[str]]) -> list[AdminRoute]:
    """The route, which needs no key: deliveries are signed.

    `poll` asks about a registered model and returns the models that follow it.
    """
    return [AdminRoute(PATH, OPEN, Webhook(secret, poll).deliver, methods=["POST"])]


class Webhook:
    """Takes deliveries, and asks about the registered model that each of them names."""

    def __init__(
        self,
        secret: bytes,
        poll: Callable[[str], list[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret = secret
        self._poll = poll
        self._clock = clock
        # When each may be forgotten, the earliest known first.
        self._delivered: dict[bytes, float] = {}

    async def deliver(self, request: Request) -> Response:
        """Answers with the models that are asked about; a delivery that came before asks nothing.

        Raises:
            Unauthenticated: it is not signed with the secret, or too old.
            InvalidInput: it is, but is no delivery of MLflow's.
        """
        headers = collect(request.scope["headers"])
        id = headers.get(b"x-mlflow-delivery-id", b"")
        at = headers.get(b"x-mlflow-timestamp", b"")
        signature = headers.get(b"x-mlflow-signature", b"")
        if not (id and at and signature) or len(id) > LONGEST_ID:
            raise Unauthenticated(
                "expected the headers X-MLflow-Delivery-Id, X-MLflow-Timestamp and "
                "X-MLflow-Signature of a webhook that has a secret"
            )
        body = await read_small_body(headers, request.receive, LARGEST_BODY)
        signed = hmac.digest(self._secret, b".".join((id, at, body)), "sha256")
        if not hmac.compare_digest(signature, VERSION + base64.b64encode(signed)):
            raise Unauthenticated("the signature is not that of the secret of this server")
        now = self._clock()
        if len(at) > LONGEST_TIME or not at.isdigit() or abs(now - int(at)) > TOLERANCE:
            raise Unauthenticated(
                f"the delivery is dated more than {TOLERANCE} s from the clock of this server"
            )
        if not self._is_new(id, int(at) + TOLERANCE, now):
            return json_response({"models": []})
        return json_response({"models": self._ask(body)})

    def _is_new(self, id: bytes, until: float, now: float) -> bool:
        """Whether a delivery has not come before; it is remembered for as long as it counts."""
        if self._delivered.get(id, -math.inf) >= now:
            return False
        while self._delivered:
            oldest = next(iter(self._delivered))
            if self._delivered[oldest] >= now and len(self._delivered) < MOST_REMEMBERED:
                break
            del self._delivered[oldest]
        self._delivered[id] = until
        return True

    def _ask(self, body: bytes) -> list[str]:
        try:
            event = msgspec.json.decode(body, type=Event)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidInput(refusal(body, Event, "the request body")) from None
        try:
            name = msgspec.json.decode(event.data.name, type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return []
        if event.entity not in ENTITIES:
            return []
        models = self._poll(name)
        for model in models:
            logger.info("a webhook says that the registry changed", extra={"model": model})
        return models
