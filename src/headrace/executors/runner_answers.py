"""Answers the calls that runners in a worker make to other models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Any, Protocol

import orjson

from headrace.errors import BadModelOutput, HeadraceError
from headrace.protocol import large_buffers
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Buffer, Tensor
from headrace.worker import frames
from headrace.worker.frames import Kind

# Bytes from which on an answer is copied in a thread.
LARGE = 1024 * 1024
Answered = Callable[["asyncio.Future[InferenceResponse]"], None]
# Queues a request for the model of a name, with the seconds that it may take; the future holds the
# answer, and is cancelled to withdraw the request. `Answered` gets it when it is done. Raises a
# `HeadraceError` to refuse the request.
AskModel = Callable[
    [str, InferenceRequest, float | None, Answered], "asyncio.Future[InferenceResponse]"
]


def refuse(
    name: str, request: InferenceRequest, timeout: float | None, answered: Answered
) -> asyncio.Future[InferenceResponse]:
    """Answer no call, where nothing serves models."""
    raise HeadraceError("runners cannot be called here")


class Peer(Protocol):
    """What is needed of the channel to the worker."""

    def send(self, buffers: list[Buffer]) -> None: ...

    def described(self, tensors: Sequence[Tensor]) -> tuple[list[list[Any]], list[Buffer]]: ...

    def take_back(self, offsets: list[int]) -> None: ...


class RunnerAnswers:
    """The calls of one worker's runners that wait for an answer."""

    def __init__(self, peer: Peer, ask: AskModel) -> None:
        self._peer = peer
        self._ask = ask
        self._waiting: dict[int, asyncio.Future[InferenceResponse]] = {}

    def take(self, call: int, meta: dict[str, Any], inputs: list[Tensor], described: int) -> None:
        """Pass a call on to its model; the answer is sent when it comes.

        `described` is how many bytes say what there is besides the elements of the inputs.
        """
        request = InferenceRequest(inputs, meta.get("parameters"), meta.get("outputs"), meta["id"])
        request.received = described + request.nbytes
        answered = partial(self._answered, call)
        try:
            future = self._ask(meta["model"], request, meta.get("timeout"), answered)
        except HeadraceError as exc:
            self._refuse(call, exc)
            return
        self._waiting[call] = future

    def withdraw(self, call: int) -> None:
        """Nobody waits for a call's answer any more."""
        if (future := self._waiting.pop(call, None)) is not None:
            future.cancel()

    def withdraw_all(self) -> None:
        """The worker is gone."""
        for call in list(self._waiting):
            self.withdraw(call)

    def _answered(self, call: int, future: asyncio.Future[InferenceResponse]) -> None:
        # Withdrawn calls are no longer here; the worker has forgotten them too.
        if self._waiting.pop(call, None) is None:
            return
        if future.cancelled():
            self._refuse(call, HeadraceError("the call was cancelled in the server"))
            return
        error = future.exception()
        if error is not None:
            self._refuse(call, error)
            return
        response = future.result()
        if response.nbytes < LARGE:
            self._send(call, response)
            return
        loop = asyncio.get_running_loop()
        moving = self._waiting[call] = loop.run_in_executor(None, _moved, response)
        moving.add_done_callback(partial(self._is_moved, call))

    def _is_moved(self, call: int, moving: asyncio.Future[InferenceResponse]) -> None:
        if self._waiting.pop(call, None) is None:
            return
        error = (
            HeadraceError("the call was cancelled") if moving.cancelled() else moving.exception()
        )
        if error is not None:
            self._refuse(call, error)
            return
        self._send(call, moving.result())

    def _send(self, call: int, response: InferenceResponse) -> None:
        described, payload = self._peer.described(response.outputs)
        meta = {"tensors": described, "parameters": response.parameters, "form": response.form}
        try:
            text = orjson.dumps(meta)
        except orjson.JSONEncodeError:
            self._peer.take_back([entry[4] for entry in described if entry[4] >= 0])
            self._refuse(call, BadModelOutput("a parameter of the answer has no JSON form"))
            return
        self._peer.send(frames.encode(Kind.CALL_RESULT, call, text, payload))

    def _refuse(self, call: int, error: BaseException) -> None:
        if not isinstance(error, HeadraceError):
            error = HeadraceError("the server failed on a runner's call; its log has the details")
        text = orjson.dumps(frames.error_meta(error))
        self._peer.send(frames.encode(Kind.CALL_ERROR, call, text))


def _moved(response: InferenceResponse) -> InferenceResponse:
    """The answer with its large tensors in the memory that the workers read."""
    # Others may have the same tensors.
    outputs = [copy(tensor) for tensor in response.outputs]
    large_buffers.move(outputs)
    return InferenceResponse(outputs, response.parameters, response.form)
