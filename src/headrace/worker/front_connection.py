"""A worker's connection to one front process: reads frames, runs models, sends results back."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, Callable

from headrace.errors import Cancelled, HeadraceError
from headrace.protocol.large_buffers import THRESHOLD
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Buffer, Tensor
from headrace.runners import current_call
from headrace.runners.current_call import EndpointCall
from headrace.runtimes.threads_on_demand import ThreadsOnDemand
from headrace.settings import ModelSettings
from headrace.worker import frames, measured
from headrace.worker.answer_size import answer_meta, error_meta
from headrace.worker.arena import Arena
from headrace.worker.borrowed_tensors import BorrowedTensors
from headrace.worker.frame_json import dump, load
from headrace.worker.frame_sender import FrameSender, wait_until
from headrace.worker.frames import Frame, Kind
from headrace.worker.host import ModelHost
from headrace.worker.lanes import MOST_READING, Lane, SocketWait
from headrace.worker.loop_reader import LoopReader
from headrace.worker.runner_link import FramePeer, RunnerLink
from headrace.worker.streams import LoopStream, Stream

logger = logging.getLogger("headrace.worker")

RECEIVE_SIZE = 256 * 1024
# Seconds that a frame may wait for the thread of a model that is busy, before another reads it.
PATIENCE = 0.002
# Seconds that models may take to free what they hold when the worker ends. The front waits longer.
LAST_UNLOADS = 3.0


class Connection(FramePeer):
    """Serves one front process until it hangs up.

    Each model has a thread of its own, so that a slow one delays no other. The threads of models
    that have nothing to do read what arrives, and so does one that runs no model: a frame is read
    as soon as it is there. Concurrent models have threads or a loop themselves.
    """

    def __init__(self, sock: socket.socket, host: ModelHost) -> None:
        self._sock = sock
        self._host = host
        self._sender = FrameSender(sock)
        self._place_lock = threading.Lock()
        self._lanes: dict[str, Lane] = {}
        self._threads: dict[str, threading.Thread] = {}
        # Of models that work on several requests at once without being concurrent models.
        self._pools: dict[str, ThreadsOnDemand] = {}
        # Calls that no model has begun; those that are withdrawn never begin.
        self._waiting: set[int] = set()
        self._streams: dict[int, Stream | LoopStream] = {}
        # Requests that concurrent models are working on.
        self._begun: dict[int, EndpointCall] = {}
        # Of the concurrent model that is loaded, and what reads on it.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: LoopReader | None = None
        self._is_over = self._is_stopped = False
        self._link = RunnerLink(self, dump)
        # Of the requests, and of the answers.
        self._inbound: Arena | None = None
        self._outbound: Arena | None = None
        self._borrowed: BorrowedTensors | None = None
        # Several threads read, one at a time; this is how the one that serves waits for its turn.
        self._reading = threading.Lock()
        self._wait = SocketWait(sock) if SocketWait.SUPPORTED else None
        self._received = bytearray()
        self._chunk = memoryview(bytearray(RECEIVE_SIZE))

    def serve(self) -> bool:
        """Handle frames until the front leaves; True when it asked the worker to stop."""
        self._greet()
        # More may have come with the hello.
        self._handle_frames()
        current_call.connect(self._link)
        try:
            while not self._is_over:
                self._read_in_turn()
                if self._borrowed is not None and self._borrowed.has_returned:
                    self._flush()
                if self._loop is not None and not self._is_over:
                    self._read_on_loop(self._loop)
            # What models still ask while they are unloaded would never be answered.
            self._link.lose()
            self._unload_all()
        finally:
            current_call.disconnect(self._link)
        return self._is_stopped

    def _read_in_turn(self) -> None:
        """Receive something in the thread that runs no model, unless that of a model does."""
        if self._wait is None:
            self._receive(wait=True)
        elif self._wait.wait():
            if any(lane.reads for lane in list(self._lanes.values())):
                # Two threads that take turns at the interpreter's lock are slower than one.
                time.sleep(PATIENCE)
            self._receive(wait=False)

    def _receive(self, wait: bool) -> bool:
        """Receive something and handle the frames that are whole; False when it was the last."""
        with self._reading:
            if self._is_over:
                return False
            try:
                count = self._sock.recv_into(self._chunk, 0, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                if wait:
                    wait_until(self._sock, select.POLLIN)
                return True
            except ConnectionError:
                count = 0
            self._received += self._chunk[:count]
            self._is_over = not count
            self._handle_frames()
        if self._is_over:
            self._wake()
        return not self._is_over

    def _handle_frames(self) -> None:
        """Handle the frames that are whole. Hot."""
        start = 0
        try:
            while (found := self._frame_at(start)) is not None:
                frame, start = found
                if frame.kind == Kind.STOP:
                    self._is_over = self._is_stopped = True
                    return
                self._dispatch(frame)
        finally:
            del self._received[:start]

    def _read_on_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a concurrent model's loop read, for as long as it is loaded."""
        read = partial(self._receive, wait=False)
        self._reader = LoopReader(self._sock, loop, read, self._flush)
        # Unless the model was unloaded before there was a reader to stop.
        if self._loop is loop:
            self._reader.run()
        self._reader = None
        self._flush()

    def _unload_all(self) -> None:
        """Let every model free what it holds; busy or hanging ones are not waited for long."""
        for lane in self._lanes.values():
            lane.put(None)
        ends = time.monotonic() + LAST_UNLOADS
        for key in self._lanes:
            self._threads[key].join(max(0.0, ends - time.monotonic()))
        if self._wait is not None and not any(each.is_alive() for each in self._threads.values()):
            wait, self._wait = self._wait, None
            wait.close()

    def _dispatch(self, frame: Frame) -> None:
        if frame.kind == Kind.INFER and self._host.is_concurrent(frame.meta["model"]):
            self._begin(frame)
        elif frame.kind in (Kind.CALL_RESULT, Kind.CALL_ERROR):
            self._link.answered(frame)
        elif frame.kind == Kind.RELEASE:
            self._release(frame.meta)
        elif frame.kind == Kind.GRANT:
            if (stream := self._streams.get(frame.call)) is not None:
                stream.grant(frame.meta["pieces"])
        elif frame.kind == Kind.WITHDRAW:
            self._waiting.discard(frame.call)
            if (stream := self._streams.get(frame.call)) is not None:
                stream.withdraw()
            elif (call := self._begun.get(frame.call)) is not None:
                call.cancel()
        elif frame.kind == Kind.STREAM and self._host.is_concurrent(frame.meta["model"]):
            self._begin_stream(frame)
        elif frame.kind == Kind.STREAM:
            # In a thread of its own: a long stream must not hold up the model's requests.
            stream = Stream(partial(self._send_piece, frame), self._new_call(frame))
            self._streams[frame.call] = stream
            if not self._in_a_thread("stream", frame, partial(self._stream, frame, stream)):
                del self._streams[frame.call]
        elif frame.kind == Kind.METRICS:
            # Collecting runs user code, which must not hold up the reading.
            self._in_a_thread("metrics", frame, partial(self._measured, frame))
        else:
            self._waiting.add(frame.call)
            pool = self._pools.get(frame.meta["model"]) if frame.kind == Kind.INFER else None
            if pool is None:
                self._lane(frame).put(frame)
            else:
                pool.submit(partial(Context().run, self._answer_as_call, frame))

    def _in_a_thread(self, name: str, frame: Frame, target: Callable[[], None]) -> bool:
        """Work on a frame in a thread of its own; if none can be started, only that call fails."""
        try:
            threading.Thread(target=target, name=name, daemon=True).start()
        except RuntimeError as exc:
            self.send(frames.encode(Kind.ERROR, frame.call, error_meta(exc, frame)))
            return False
        return True

    def _greet(self) -> None:
        """Receive the front's hello, which carries the two memory files if there are any."""
        data, fds, _, _ = socket.recv_fds(self._sock, RECEIVE_SIZE, 2)
        self._received += data
        if len(fds) == 2:
            self._inbound, self._outbound = Arena(fds[0], writable=False), Arena(fds[1])
            self._borrowed = BorrowedTensors(self._inbound, self._sender.queue, self._wake)
        # Programs that a model starts would inherit them, and a map no longer needs them.
        for fd in fds:
            os.close(fd)
        while (found := self._frame_at(0)) is None:
            count = self._sock.recv_into(self._chunk)
            if not count:
                break
            self._received += self._chunk[:count]
        if found is None or found[0].kind != Kind.HELLO:
            raise frames.FrameError("the front process did not say hello")
        del self._received[: found[1]]

    def _frame_at(self, start: int) -> tuple[Frame, int] | None:
        """The frame that begins at `start`, and where it ends; None if it is not whole yet."""
        received = self._received
        meta = start + frames.HEADER.size
        if len(received) < meta:
            return None
        kind, call, meta_size, payload_size = frames.parse_header(received, start)
        payload = meta + meta_size
        end = payload + payload_size
        if len(received) < end:
            return None
        return Frame(kind, call, load(received[meta:payload]), received[payload:end]), end

    def _lane(self, frame: Frame) -> Lane:
        key = frame.meta["model"]
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane()
            thread = self._threads[key] = threading.Thread(
                target=self._work, args=(key, lane), name=f"model {key}", daemon=True
            )
            thread.start()
        if frame.kind == Kind.UNLOAD:
            del self._lanes[key], self._threads[key]
        return lane

    def _work(self, key: str, lane: Lane) -> None:
        try:
            read = partial(self._read_for_all, lane)
            while (frame := lane.get(read)) is not None:
                self._answer(key, frame)
                if frame.kind == Kind.UNLOAD:
                    return
                if frame.kind == Kind.LOAD:
                    self._share_reading(lane)
            with suppress(HeadraceError):
                self._host.unload(key)
        except BaseException:
            self._fail()
            raise
        finally:
            lane.close()

    def _read_for_all(self, lane: Lane) -> None:
        """Receive something in the thread of a model."""
        self._receive(wait=False)
        if lane.reads_for_others():
            self._give_way(lane)

    def _wake(self) -> None:
        """Have the thread that serves look around. Any thread."""
        if (wait := self._wait) is not None:
            wait.wake()

    def _fail(self) -> None:
        """End the worker because its connection has failed, in an `except`. Any thread.

        A model may have closed all descriptors that it did not know. Nobody can talk to it then,
        and somebody else may get the numbers of ours.
        """
        if not self._is_over:
            logger.critical("the connection to the front process failed", exc_info=True)
            os._exit(1)

    def _give_way(self, lane: Lane) -> None:
        """Let the threads of models that are asked more often be woken first."""
        with self._reading:
            if self._is_over:
                return
            lane.come_last()
            # Whoever runs no model reads what nobody else is free for.
            if self._wait is not None:
                self._wait.come_last()

    def _share_reading(self, lane: Lane) -> None:
        """Let the thread of a model read, unless there are many, or a loop reads."""
        with self._reading:
            reading = sum(each.reads for each in self._lanes.values())
            is_read_by_models = self._wait is not None and self._loop is None
            if self._is_over or not is_read_by_models or reading >= MOST_READING:
                return
            if not lane.reads:
                lane.read_from(SocketWait(self._sock))
        self._give_way(lane)

    def _begin_stream(self, frame: Frame) -> None:
        """Hand a request whose answer comes in pieces to a concurrent model."""
        request, call = self._call_of(frame)
        stream = self._streams[frame.call] = LoopStream(partial(self._send_piece, frame), call)

        def finish(outcome: Any) -> None:
            del self._streams[frame.call]
            self._finish(frame, outcome)

        self._host.begin_stream(frame.meta["model"], request, call, stream.put, finish)

    def _call_of(self, frame: Frame) -> tuple[InferenceRequest, EndpointCall]:
        call = self._begun[frame.call] = self._new_call(frame)
        return self._request(frame), call

    def _new_call(self, frame: Frame) -> EndpointCall:
        deadline = (frame.meta.get("context") or {}).get("deadline")
        return EndpointCall(self._link, deadline, frame.meta.get("id", ""))

    def _begin(self, frame: Frame) -> None:
        """Hand a request to a concurrent model."""
        request, call = self._call_of(frame)
        self._host.begin(frame.meta["model"], request, call, partial(self._finish, frame))

    def _finish(self, frame: Frame, outcome: Any) -> None:
        """Send what became of a request that was begun. Any thread."""
        del self._begun[frame.call]
        kind, payload = Kind.RESULT, []
        try:
            if isinstance(outcome, Exception):
                raise outcome
            meta, payload = self._response(frame.meta["model"], outcome)
        except Exception as exc:
            kind, meta = Kind.ERROR, error_meta(exc, frame)
        self._end(kind, frame.call, meta, payload)

    def _answer(self, key: str, frame: Frame) -> None:
        kind, payload = Kind.RESULT, []
        try:
            if frame.call not in self._waiting:
                raise Cancelled("every caller left before the model began")
            self._waiting.discard(frame.call)
            meta, payload = self._HANDLERS[frame.kind](self, key, frame)
        except Exception as exc:
            kind, meta = Kind.ERROR, error_meta(exc, frame)
        self._end(kind, frame.call, meta, payload)

    def _answer_as_call(self, frame: Frame) -> None:
        """Answer a request of a model that works on several; what it awaits ends with the call."""
        call = self._begun[frame.call] = self._new_call(frame)
        current_call.CURRENT.set(call)
        try:
            self._answer(frame.meta["model"], frame)
        finally:
            del self._begun[frame.call]

    def _stream(self, frame: Frame, stream: Stream) -> None:
        current_call.CURRENT.set(stream.call)
        kind, meta = Kind.RESULT, b"{}"
        try:
            stream.run(self._host.stream(frame.meta["model"], self._request(frame)))
        except Exception as exc:
            kind, meta = Kind.ERROR, error_meta(exc, frame)
        del self._streams[frame.call]
        self._end(kind, frame.call, meta, [])

    def _measured(self, frame: Frame) -> None:
        kind = Kind.RESULT
        try:
            meta = dump({"families": measured.families()})
        except Exception as exc:
            kind, meta = Kind.ERROR, error_meta(exc, frame)
        self.send(frames.encode(kind, frame.call, meta))

    def _send_piece(self, frame: Frame, piece: InferenceResponse) -> None:
        meta, payload = self._response(frame.meta["model"], piece)
        self.send(frames.encode(Kind.PIECE, frame.call, meta, payload))

    def _load(self, key: str, frame: Frame) -> Any:
        settings = ModelSettings(**frame.meta["settings"])
        metadata = self._host.load(key, settings)
        if (most := self._host.concurrency(key)) > 1:
            self._pools[key] = ThreadsOnDemand(most, f"model {key}")
        self._loop = self._host.loop() or self._loop
        if self._loop is not None:
            for lane in self._lanes.values():
                lane.stop_reading()
        return dump(metadata.to_dict()), []

    def _unload(self, key: str, frame: Frame) -> Any:
        if self._host.is_concurrent(key):
            # Its loop is about to be closed; another one's takes over, if there is any.
            self._loop = self._host.loop(other_than=key)
            if self._reader is not None:
                self._reader.stop()
        if (pool := self._pools.pop(key, None)) is not None:
            pool.close()
        self._host.unload(key)
        return b"{}", []

    def _infer(self, key: str, frame: Frame) -> Any:
        return self._response(key, self._host.infer(key, self._request(frame)))

    def _request(self, frame: Frame) -> InferenceRequest:
        meta = frame.meta
        return InferenceRequest(
            frames.restore(meta["tensors"], frame.payload, partial(self._borrow, frame.call)),
            meta.get("parameters"),
            meta.get("outputs"),
            meta.get("id", ""),
            meta.get("context"),
        )

    def _response(self, key: str, response: InferenceResponse) -> Any:
        described, payload = frames.describe(response.outputs, self._place)
        try:
            return answer_meta(described, response, key), payload
        except HeadraceError:
            self._release([entry[4] for entry in described if entry[4] >= 0])
            raise

    _HANDLERS: dict[int, Callable[..., Any]] = {
        Kind.LOAD: _load,
        Kind.INFER: _infer,
        Kind.UNLOAD: _unload,
    }

    def _borrow(self, call: int, offset: int, size: int) -> Buffer:
        if self._borrowed is None:
            raise frames.FrameError("a tensor is in shared memory, but none was shared")
        return self._borrowed.borrow(call, offset, size)

    def _place(self, data: Buffer) -> int | None:
        if len(data) < THRESHOLD or self._outbound is None:
            return None
        with self._place_lock:
            return self._outbound.place(data)

    def _release(self, offsets: list[int]) -> None:
        if self._outbound is not None:
            with self._place_lock:
                for offset in offsets:
                    self._outbound.free(offset)

    def described(self, tensors: Sequence[Tensor]) -> tuple[list[list[Any]], list[Buffer]]:
        """Tensors as a frame has them; large ones are placed in shared memory."""
        return frames.describe(tensors, self._place)

    def restored(self, frame: Frame) -> list[Tensor]:
        """The tensors of a received frame, whose shared memory is given back."""
        placed: list[int] = []

        def fetch(offset: int, size: int) -> bytes:
            assert self._inbound is not None, "the front placed a tensor in memory it did not share"
            placed.append(offset)
            return self._inbound.fetch(offset, size)

        tensors = frames.restore(frame.meta["tensors"], frame.payload, fetch)
        if placed:
            self.send(frames.encode(Kind.RELEASE, 0, dump(placed)))
        return tensors

    def send(self, buffers: list[Buffer]) -> None:
        """Send one frame. Any thread."""
        self._sender.queue(b"".join(buffers))
        reader = self._reader
        if reader is not None:
            reader.write_soon()
        else:
            self._flush()

    def _flush(self) -> None:
        if self._borrowed is not None:
            self._borrowed.give_back()
        try:
            self._sender.flush()
        except OSError:
            self._fail()

    def _end(self, kind: Kind, call: int, meta: bytes, payload: list[Buffer]) -> None:
        """Send the last frame of a call, after what its model keeps of it. Any thread."""
        if self._borrowed is not None:
            self._borrowed.end(call)
        self.send(frames.encode(kind, call, meta, payload))
