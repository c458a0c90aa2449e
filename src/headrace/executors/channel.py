"""The front's connection to one worker: sends frames and matches answers to calls."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, cast

import orjson

from headrace.errors import BadModelOutput, HeadraceError, InvalidInput, InvalidModel
from headrace.executors.begun_batch import Begun
from headrace.executors.executor import (
    MOST_RELAYED,
    MOST_STREAMS,
    Done,
    WorkerLost,
    in_time,
    too_many_streams,
)
from headrace.executors.lent_tensors import LentTensors
from headrace.executors.placed_answers import IN_PLACE, PlacedAnswers
from headrace.executors.runner_answers import AskModel, RunnerAnswers, refuse
from headrace.executors.shared_memory import SharedMemory, shared_memory
from headrace.protocol import model_call
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Buffer, Tensor
from headrace.worker import frames
from headrace.worker.arena import Arena
from headrace.worker.frames import Kind
from headrace.worker.streams import Taken

logger = logging.getLogger("headrace.executors")

# How it died is for the log.
DIED = "the worker process died"


class Channel(asyncio.Protocol):
    """Calls into one worker process; each call's future completes, even if the worker dies.

    `ask` is what the calls of runners in the worker are passed on to.
    """

    def __init__(self, ask: AskModel = refuse) -> None:
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, asyncio.Future[Any] | Begun] = {}
        # With the model's key; only of requests, not of streams.
        self._requests: dict[int, tuple[str, InferenceRequest]] = {}
        self._pieces: dict[int, asyncio.Queue[InferenceResponse | HeadraceError | None]] = {}
        # By model: streams that the worker has not ended, whether or not anybody reads them.
        self._streams: Counter[str] = Counter()
        self._ids = count(1)
        self._received = bytearray()
        self._lent = LentTensors(None)
        self._placed: PlacedAnswers | None = None
        self._lost: WorkerLost | None = None
        # What ends the waiting calls once it is known how the worker died.
        self.on_hang_up: Callable[[], None] | None = None
        # Whether the worker is gone, so that no call can be made.
        self.is_lost = False
        self._asked: asyncio.Future[Any] | None = None
        self._measured: list[Any] = []
        self._runners = RunnerAnswers(self, ask)
        # Kept: to ask for it takes a system call in some versions of Python.
        self.loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, sock: socket.socket, ask: AskModel = refuse) -> Channel:
        """Use a connection to a worker, and share memory with it where the system can."""
        loop = asyncio.get_running_loop()
        channel = cls(ask)
        try:
            hello = b"".join(frames.encode(Kind.HELLO, 0, b"{}"))
            if (memory := shared_memory()) is None or not channel._share(memory, sock, hello):
                sock.sendall(hello)
            sock.setblocking(False)
            await loop.create_connection(lambda: channel, sock=sock)
        except BaseException:
            sock.close()
            raise
        return channel

    def _share(self, memory: SharedMemory, sock: socket.socket, hello: bytes) -> bool:
        """Say hello with the memory of the requests, and some for the answers; False without it."""
        try:
            answers = Arena.create_file()
        except OSError:
            return False
        try:
            self._placed = PlacedAnswers(Arena(answers), self.loop, self._release)
        except OSError:
            return False
        else:
            socket.send_fds(sock, [hello], [memory.fd, answers])
            self._lent = LentTensors(memory)
            return True
        finally:
            os.close(answers)

    @property
    def calls(self) -> int:
        """Calls that the worker has not answered."""
        return len(self._calls)

    def request(self, kind: Kind, meta: dict[str, Any]) -> asyncio.Future[Any]:
        """Send a frame without tensors; the future holds the answer's meta.

        Raises:
            InvalidModel: what it says of a model has no form in JSON.
        """
        try:
            text = orjson.dumps(meta)
        except orjson.JSONEncodeError as error:
            raise InvalidModel(f"its settings cannot be sent to a worker: {error}") from None
        call, future = self._open()
        self._write(frames.encode(kind, call, text))
        return future

    async def measured(self, timeout: float) -> list[Any]:
        """The metrics of user code in the worker, as `headrace.worker.measured` describes them.

        A worker that takes longer than `timeout` seconds is not asked again until it answers;
        until then its last answer is returned.
        """
        if self.is_lost:
            return []
        if self._asked is None or self._asked.done():
            self._asked = self.request(Kind.METRICS, {})
            self._asked.add_done_callback(self._keep)
        await asyncio.wait([self._asked], timeout=timeout)
        return self._measured

    def _keep(self, answered: asyncio.Future[Any]) -> None:
        if not answered.cancelled() and answered.exception() is None:
            self._measured = answered.result()["families"]

    def infer(self, key: str, request: InferenceRequest) -> asyncio.Future[Any]:
        """Send one batch; the future holds its `InferenceResponse`.

        The future fails with `WorkerLost` if the worker dies first, otherwise with the error that
        the worker sent.

        Raises:
            InvalidInput: a parameter cannot be sent.
        """
        call, future = self._open()
        self._requests[call] = key, request
        self._write(self._request_frame(Kind.INFER, call, key, request))
        return future

    def begin(
        self, key: str, request: InferenceRequest, deadline: float, done: Done, in_turn: bool
    ) -> None:
        """Send one batch; `done` gets its outcome. Hot.

        The outcome is the response, or an error as of `infer`. `in_turn` says whether the model
        works on one batch after the other.

        Raises:
            InvalidInput, WorkerLost: as `infer`.
        """
        if self.is_lost:
            raise self._lost or WorkerLost(DIED)
        call = next(self._ids)
        # First: what cannot be sent was not begun.
        frame = self._request_frame(Kind.INFER, call, key, request)
        self._calls[call] = Begun(deadline, done, in_turn)
        self._requests[call] = key, request
        self._write(frame)

    def end_late(self, now: float, error: HeadraceError) -> tuple[set[str], bool]:
        """End the batches that were begun and are past their deadline, and withdraw them.

        Returns the keys of their models, and whether any other is still on its way.
        """
        begun = [
            (call, each)
            for call, each in self._calls.items()
            if type(each) is Begun and not each.done()
        ]
        late = [(call, each) for call, each in begun if each.deadline <= now]
        for call, each in late:
            each.set_exception(error)
            self._write(frames.encode(Kind.WITHDRAW, call, b"{}"))
        return {self._requests[call][0] for call, _ in late}, len(late) < len(begun)

    def abandoned(self, key: str) -> int:
        """How many requests of a model the worker has not ended although nobody waits for them."""
        requests = self._requests.items()
        return sum(of == key and self._calls[call].done() for call, (of, _) in requests)

    def give_up(self, key: str, error: WorkerLost) -> None:
        """End the batches that wait behind one that hangs, so that they can run elsewhere.

        Those of a model that works on several at once go on.
        """
        for call, (of, _) in list(self._requests.items()):
            waiting = self._calls[call]
            is_behind = type(waiting) is not Begun or waiting.in_turn
            if of == key and is_behind and not waiting.done():
                waiting.set_exception(error)

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for an answer of the worker."""
        return all(call.done() for call in self._calls.values())

    def _request_frame(
        self, kind: Kind, call: int, key: str, request: InferenceRequest
    ) -> list[Buffer]:
        described, payload = self._lent.describe(call, request.inputs)
        meta: dict[str, Any] = {"model": key, "tensors": described, "id": request.id}
        if request.parameters:
            meta["parameters"] = request.parameters
        if request.outputs:
            meta["outputs"] = request.outputs
        if request.context is not None:
            meta["context"] = request.context
        try:
            text = orjson.dumps(meta)
        except orjson.JSONEncodeError:
            self._forget(call)
            raise InvalidInput(
                "parameters hold an integer beyond 64 bits or text with an unpaired surrogate, "
                "which cannot be sent to a model"
            ) from None
        return frames.encode(kind, call, text, payload)

    async def stream(
        self,
        key: str,
        request: InferenceRequest,
        deadline: float,
        on_leave: Callable[[asyncio.Future[Any]], None] = lambda ended: None,
    ) -> AsyncGenerator[InferenceResponse, None]:
        """The pieces of a streamed answer; leaving the loop early withdraws it.

        So does its deadline, even if nobody asks for the next piece. `on_leave` is called then,
        with a future that is done once the worker has ended the stream.

        Raises:
            Overloaded: the worker has not ended too many streams of this model.
            WorkerLost: the worker died first.
            DeadlineExceeded: the stream was not over by `deadline`.
            InvalidInput: a parameter cannot be sent.
            HeadraceError: the error that the worker sent.
        """
        most = MOST_RELAYED if model_call.is_route(request) else MOST_STREAMS
        if self._streams[key] >= most:
            raise too_many_streams(most)
        call, ended = self._open()
        self._write(self._request_frame(Kind.STREAM, call, key, request))
        pieces: asyncio.Queue[InferenceResponse | HeadraceError | None] = asyncio.Queue()
        self._pieces[call] = pieces
        self._streams[key] += 1
        taken = Taken()

        def on_end(ended: asyncio.Future[Any]) -> None:
            pieces.put_nowait(None)
            self._streams[key] -= 1
            # Retrieved, though nobody may be there to hear of it.
            ended.exception()

        is_withdrawn = False

        def withdraw() -> None:
            nonlocal is_withdrawn
            if not ended.done() and not is_withdrawn:
                is_withdrawn = True
                self._write(frames.encode(Kind.WITHDRAW, call, b"{}"))
                on_leave(ended)

        ended.add_done_callback(on_end)
        # A reader who takes nothing any more must not hold what the worker keeps for it.
        expiry = self.loop.call_at(deadline, withdraw)
        try:
            while (piece := await in_time(pieces.get, deadline)) is not None:
                if isinstance(piece, HeadraceError):
                    raise piece
                yield piece
                if (granted := taken.add(piece.nbytes)) and not ended.done():
                    self._write(frames.encode(Kind.GRANT, call, b'{"pieces":%d}' % granted))
            ended.result()
        finally:
            expiry.cancel()
            del self._pieces[call]
            withdraw()

    def withdraw(self, request: InferenceRequest) -> None:
        """Withdraw a batch that nobody waits for; the worker skips it unless it has begun."""
        for call, (_, sent) in self._requests.items():
            if sent is request:
                self._write(frames.encode(Kind.WITHDRAW, call, b"{}"))

    def send_stop(self) -> None:
        """Ask the worker to exit."""
        self._write(frames.encode(Kind.STOP, 0, b"{}"))

    def lose(self, error: WorkerLost) -> None:
        """End every waiting call; the worker is gone or about to be."""
        if self._lost is not None:
            return
        self._lost = error
        self.is_lost = True
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(error)
        if self._transport is not None:
            self._transport.abort()
        if self._placed is not None:
            self._placed.close()
            self._placed = None
        self._runners.withdraw_all()
        self._lent.end_all()
        self._requests.clear()

    def _open(self) -> tuple[int, asyncio.Future[Any]]:
        if self.is_lost:
            raise self._lost or WorkerLost(DIED)
        call = next(self._ids)
        future: asyncio.Future[Any] = self.loop.create_future()
        self._calls[call] = future
        return call, future

    def described(self, tensors: Sequence[Tensor]) -> tuple[list[list[Any]], list[Buffer]]:
        """Tensors as a frame has them; large ones are lent until the worker releases them."""
        return self._lent.describe_kept(tensors)

    def take_back(self, offsets: list[int]) -> None:
        """What was lent with `described` is not sent after all."""
        self._lent.release(offsets)

    def send(self, buffers: list[Buffer]) -> None:
        """Send one frame, unless the worker is gone."""
        self._write(buffers)

    def _fetch(self, offset: int, size: int) -> Buffer:
        assert self._placed is not None, "a worker placed a tensor in memory it was not given"
        return self._placed.fetch(offset, size)

    def _release(self, offsets: list[int]) -> None:
        self._write(frames.encode(Kind.RELEASE, 0, orjson.dumps(offsets)))

    def _write(self, buffers: list[Buffer]) -> None:
        """Send one frame, with whatever else this turn of the event loop sends to the worker. Hot.

        Nothing is sent to a worker that is gone.
        uvloop sends what is written in one turn at its end, with one system call.
        """
        assert self._transport is not None, "the channel is used before it is connected"
        if not self.is_lost:
            self._transport.write(b"".join(buffers))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        received: bytes | bytearray = data
        if self._received:
            self._received += data
            received = self._received
        start, size, header = 0, len(received), frames.HEADER.size
        while size - start >= header:
            kind, call, meta_size, payload_size = frames.parse_header(received, start)
            payload_at = start + header + meta_size
            end = payload_at + payload_size
            if size < end:
                break
            text = received[start + header : payload_at]
            if payload_size < IN_PLACE:
                payload: Buffer = received[payload_at:end]
                start = end
            else:
                # What came before the end of a large frame stays where it is; little follows it.
                payload = memoryview(received)[payload_at:end]
                received = self._received = bytearray(memoryview(received)[end:])
                start, size = 0, len(received)
            try:
                meta = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                # Python writes deeper lists and larger numbers than orjson reads. If this were
                # raised, it would end the worker and the calls to its other models.
                refusal = BadModelOutput(f"the model's answer cannot be read: {error.msg}")
                self._refuse(kind, call, text, refusal)
            else:
                if kind == Kind.CALL:
                    self._runners.take(call, meta, self._restored(meta, payload), len(text))
                else:
                    self._resolve(kind, call, meta, payload)
        if received is data:
            self._received += data[start:]
        else:
            del self._received[:start]

    def _refuse(self, kind: int, call: int, text: Buffer, refusal: HeadraceError) -> None:
        """Fail the caller of an answer that could not be read, and let the worker go on."""
        with suppress(ValueError, RecursionError, LookupError, TypeError):
            tensors = json.loads(bytes(text))["tensors"]
            if placed := [entry[4] for entry in tensors if entry[4] >= 0]:
                self._release(placed)
        if kind == Kind.PIECE:
            # The worker has not ended the stream; it is withdrawn when the caller leaves it.
            self._put(call, refusal)
        else:
            self._resolve(Kind.ERROR, call, frames.error_meta(refusal), b"")

    def _put(self, call: int, piece: InferenceResponse | HeadraceError) -> None:
        if call in self._pieces:
            self._pieces[call].put_nowait(piece)

    def _resolve(self, kind: int, call: int, meta: Any, payload: Buffer) -> None:
        result: Any = meta
        if kind == Kind.WITHDRAW:
            self._runners.withdraw(call)
            return
        if kind == Kind.RELEASE:
            self._lent.release(meta)
            return
        if kind == Kind.KEEP:
            self._lent.keep(call, meta)
            return
        if "tensors" in meta:
            tensors = self._restored(meta, payload)
            result = InferenceResponse(tensors, meta["parameters"], meta.get("form"))
        elif kind == Kind.ERROR:
            # Before the call is forgotten: what cannot be read must not leave it without an end.
            result = frames.error_of(meta)
        if kind == Kind.PIECE:
            self._put(call, result)
            return
        # The worker is done with the tensors it was sent but those that it has said it keeps.
        future = self._forget(call)
        if future is None or future.done():
            return
        if kind == Kind.ERROR:
            future.set_exception(result)
        else:
            future.set_result(result)

    def _restored(self, meta: Any, payload: Buffer) -> list[Tensor]:
        tensors = frames.restore(meta["tensors"], payload, self._fetch)
        if (placed := self._placed) is not None and placed.copied:
            placed.release_copied()
        return tensors

    def _forget(self, call: int) -> asyncio.Future[Any] | Begun | None:
        """Release everything held for a call and return its future, if it still waits."""
        self._requests.pop(call, None)
        self._lent.end(call)
        return self._calls.pop(call, None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if self.on_hang_up is None:
            self.lose(WorkerLost(DIED))
        elif self._lost is None:
            self.on_hang_up()
