"""The steps of each client method, as generators without sockets or sleeping.

A flow yields `Call` and `Pause`, and is sent the value of each call or thrown its error. The
client that drives it decides whether to block or to await.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from headrace.client import operations as ops
from headrace.client.client_errors import (
    BadAnswer,
    ClientError,
    ConnectionFailed,
    InvalidRequest,
    NotServed,
    TimedOut,
    Unavailable,
)
from headrace.client.columns import is_plain_text, labelled
from headrace.client.fitting import as_taken, depends_on_model
from headrace.client.inputs import UNNAMED, is_frame, is_unnamed, tensors_of
from headrace.client.result import InferResult
from headrace.errors import did_you_mean, listing, shorten
from headrace.protocol.messages import InferenceRequest

T = TypeVar("T")

logger = logging.getLogger("headrace.client")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0


class Call(NamedTuple):
    """Perform the operation within `timeout` seconds; None waits for as long as it takes."""

    operation: ops.Operation
    timeout: float | None


class Pause(NamedTuple):
    """Wait for `seconds`."""

    seconds: float


Flow = Generator[Call | Pause, Any, T]


@dataclass(frozen=True)
class Policy:
    """How long a call may take, including its retries, and how many retries it may have.

    Retried are failed connections, and answers that ask for it with `Retry-After`.
    """

    timeout: float | None = 60.0
    retries: int = 2
    clock: Callable[[], float] = time.monotonic

    def within(self, timeout: float | None) -> Policy:
        """The same policy with another timeout."""
        return replace(self, timeout=timeout)

    def calling(self, operation: ops.Operation) -> Flow[Any]:
        """Perform an operation, retrying it where it failed and may be retried."""
        deadline = None if self.timeout is None else self.clock() + self.timeout
        attempt = 0
        while True:
            left = None if deadline is None else deadline - self.clock()
            if left is not None and left <= 0:
                raise TimedOut(f"no answer within {self.timeout:g} s")
            try:
                return (yield Call(operation, left))
            except ClientError as error:
                error.model = getattr(operation, "name", None)
                pause = self._pause(error, attempt)
                if pause is None:
                    raise
                if deadline is not None and self.clock() + pause >= deadline:
                    raise
                logger.debug("retrying in %.1f s: %s", pause, error.message)
            attempt += 1
            yield Pause(pause)

    def _pause(self, error: ClientError, attempt: int) -> float | None:
        """Seconds before the next attempt, or None if there is none."""
        if attempt >= self.retries:
            return None
        if isinstance(error, Unavailable) and error.retry_after is not None:
            return min(error.retry_after, LONGEST_PAUSE)
        # A server that names the kind of its error would have asked for a retry; a proxy does not.
        by_proxy = isinstance(error, Unavailable) and error.code == Unavailable.code
        if by_proxy or isinstance(error, ConnectionFailed):
            return min(FIRST_PAUSE * 2.0**attempt, LONGEST_PAUSE)
        return None


def known_model(policy: Policy, operation: ops.ModelMetadata | ops.Infer) -> Flow[Any]:
    """Perform an operation on a model; if it is not found, list the models that exist."""
    try:
        return (yield from policy.calling(operation))
    except NotServed as error:
        try:
            index = yield Call(ops.Index(), policy.timeout)
        except ClientError:
            # Not every server has an index, or shows it.
            raise error from None
        names = sorted({str(item.get("name")) for item in index if isinstance(item, dict)})
        if operation.name not in names and names:
            hint = did_you_mean(operation.name, names) or f"; the server has {listing(names)}"
            error.message += hint
            error.args = (error.message,)
        raise


class Flows:
    """The flows behind the methods of a client that take more than one operation."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._known: dict[tuple[str, str | None], list[dict[str, Any]]] = {}

    def healthy(self, operation: ops.Operation) -> Flow[bool]:
        """Ask once; a server that does not answer, or is not available yet, is not healthy."""
        try:
            return bool((yield Call(operation, self.policy.timeout)))
        except (ConnectionFailed, TimedOut, Unavailable):
            return False

    def infer(
        self,
        name: str,
        inputs: Any,
        *,
        version: str | None = None,
        outputs: list[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        id: str | None = None,
        binary: bool = True,
    ) -> Flow[InferResult]:
        """Encode the inputs and call the model."""
        input_name = UNNAMED
        if is_unnamed(inputs) or depends_on_model(inputs):
            known = yield from self._inputs(name, version)
            input_name = _only_input(known, name) if is_unnamed(inputs) else UNNAMED
            inputs = as_taken(inputs, known)
        tensors = tensors_of(inputs, input_name)
        if any(map(is_plain_text, tensors)):
            tensors = labelled(tensors, (yield from self._inputs(name, version)))
        request = InferenceRequest(tensors, dict(parameters or {}) or None, outputs, id or "")
        try:
            operation = ops.Infer(name, request, version, binary)
            result = yield from known_model(self.policy, operation)
        except InvalidRequest:
            # The model may have changed since its metadata was read.
            self._known.pop((name, version), None)
            raise
        assert isinstance(result, InferResult)
        return result

    def predict(self, name: str, data: Any, **options: Any) -> Flow[Any]:
        """Infer, and return the same type as the data: DataFrame, dict, array or list."""
        result = yield from self.infer(name, data, **options)
        if is_frame(data):
            table = result.to_frame()
            if len(table) == len(data):
                table.index = data.index
            return table
        if isinstance(data, Mapping):
            return result.outputs
        return result.to_numpy().tolist() if isinstance(data, list) else result.to_numpy()

    def _inputs(self, name: str, version: str | None) -> Flow[list[dict[str, Any]]]:
        """The metadata of the model's inputs, looked up once for each model."""
        key = name, version
        if key not in self._known:
            metadata = yield from known_model(self.policy, ops.ModelMetadata(name, version))
            self._known[key] = inputs_in(metadata)
        return self._known[key]


def inputs_in(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The inputs that a model's metadata describes.

    Raises:
        BadAnswer: the metadata does not follow the protocol.
    """
    inputs = metadata.get("inputs") or []
    if not isinstance(inputs, list) or not all(
        isinstance(item, dict) and isinstance(item.get("name"), str) for item in inputs
    ):
        raise BadAnswer("the model's metadata does not follow the protocol")
    return inputs


def _only_input(inputs: list[dict[str, Any]], model: str) -> str:
    if len(inputs) > 1:
        raise InvalidRequest(
            f"model '{shorten(model)}' has {len(inputs)} inputs; pass a dict of columns or a "
            "DataFrame that names them, such as pandas.DataFrame(rows)"
        )
    return str(inputs[0]["name"]) if inputs else UNNAMED
