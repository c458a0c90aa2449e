"""The calls that runners in this worker make to other models, by way of the front process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from itertools import count
from typing import Any, Callable

from headrace.errors import HeadraceError, WorkerCrashed, from_kind
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Buffer, Tensor
from headrace.runners.current_call import Done
from headrace.runners.loop_inbox import LoopInbox
from headrace.worker import frames
from headrace.worker.frames import Frame, Kind


class FramePeer:
    """What a link needs of its connection."""

    def send(self, buffers: list[Buffer]) -> None:
        """Send one frame."""
        raise NotImplementedError

    def described(self, tensors: Sequence[Tensor]) -> tuple[list[list[Any]], list[Buffer]]:
        """Tensors as a frame has them; large ones are placed in shared memory."""
        raise NotImplementedError

    def restored(self, frame: Frame) -> list[Tensor]:
        """The tensors of a received frame, whose shared memory is given back."""
        raise NotImplementedError


class RunnerLink:
    """Sends the requests of runners to the front, and hands out its answers. Thread-safe."""

    def __init__(self, peer: FramePeer, dump: Callable[[Any], bytes]) -> None:
        self._peer = peer
        self._dump = dump
        self._ids = count(1)
        self._pending: dict[int, Done] = {}
        self._lock = threading.Lock()
        self._is_lost = False

    def begin(
        self, model: str, request: InferenceRequest, timeout: float | None, done: Done
    ) -> int:
        """Send a request for a model; `done` gets its outcome in the reading thread, once.

        Raises:
            WorkerCrashed: the front process has left.
        """
        call = next(self._ids)
        described, payload = self._peer.described(request.inputs)
        meta: dict[str, Any] = {"model": model, "tensors": described, "id": request.id}
        if request.parameters:
            meta["parameters"] = request.parameters
        if request.outputs:
            meta["outputs"] = request.outputs
        if timeout is not None:
            meta["timeout"] = timeout
        text = self._dump(meta)
        with self._lock:
            if self._is_lost:
                raise WorkerCrashed("the server has ended")
            self._pending[call] = done
        self._peer.send(frames.encode(Kind.CALL, call, text, payload))
        return call

    def withdraw(self, call: int) -> None:
        """Withdraw a request that nobody waits for."""
        if self._pending.pop(call, None) is not None:
            self._peer.send(frames.encode(Kind.WITHDRAW, call, b"{}"))

    def wake(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], Any]) -> None:
        """Run a callback soon on a loop of this process."""
        LoopInbox.of(loop).post(callback)

    def answered(self, frame: Frame) -> None:
        """Take a CALL_RESULT or a CALL_ERROR from the front."""
        done = self._pending.pop(frame.call, None)
        if frame.kind == Kind.CALL_ERROR:
            if done is not None:
                done(from_kind(frame.meta["kind"], frame.meta["message"]))
            return
        # Shared memory is given back whether or not anybody still waits.
        tensors = self._peer.restored(frame)
        if done is not None:
            done(InferenceResponse(tensors, frame.meta["parameters"], frame.meta.get("form")))

    def lose(self) -> None:
        """The front has left: nothing more will be answered."""
        with self._lock:
            self._is_lost = True
            pending, self._pending = self._pending, {}
        error: HeadraceError = WorkerCrashed("the server has ended")
        for done in pending.values():
            done(error)
