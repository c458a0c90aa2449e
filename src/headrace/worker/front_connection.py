"""A worker's connection to one front process: reads frames, runs models, sends results back."""

from __future__ import annotations

import json
import logging
import os
import queue
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any, Callable

from headrace.errors import BadModelOutput, Cancelled, HeadraceError
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Buffer
from headrace.settings import ModelSettings
from headrace.worker import frames, measured
from headrace.worker.arena import Arena
from headrace.worker.frames import Frame, Kind
from headrace.worker.host import ModelHost
from headrace.worker.streams import Stream

logger = logging.getLogger("headrace.worker")

RECEIVE_SIZE = 256 * 1024
# Seconds that models may take to free what they hold when the worker ends. The front waits longer.
LAST_UNLOADS = 3.0


class Connection:
    """Serves one front process until it hangs up.

    The reading thread never runs a model: each model has a thread of its own, so a slow one
    delays no other, and a frame is read as soon as it arrives.
    """

    def __init__(self, sock: socket.socket, host: ModelHost) -> None:
        self._sock = sock
        self._host = host
        self._send_lock = threading.Lock()
        self._lanes: dict[str, queue.SimpleQueue[Frame | None]] = {}
        self._threads: dict[str, threading.Thread] = {}
        # Calls that no model has begun; those that are withdrawn never begin.
        self._waiting: set[int] = set()
        self._streams: dict[int, Stream] = {}
        self._inbound: Arena | None = None
        self._outbound: Arena | None = None
        self._received = bytearray()
        self._chunk = memoryview(bytearray(RECEIVE_SIZE))

    def serve(self) -> bool:
        """Handle frames until the front leaves; True when it asked the worker to stop."""
        self._greet()
        while True:
            frame = self._read_frame()
            if frame is None or frame.kind == Kind.STOP:
                break
            self._dispatch(frame)
        self._unload_all()
        return frame is not None

    def _unload_all(self) -> None:
        """Let every model free what it holds; busy or hanging ones are not waited for long."""
        for lane in self._lanes.values():
            lane.put(None)
        ends = time.monotonic() + LAST_UNLOADS
        for key in self._lanes:
            self._threads[key].join(max(0.0, ends - time.monotonic()))

    def _dispatch(self, frame: Frame) -> None:
        if frame.kind == Kind.RELEASE:
            self._release(frame.meta)
        elif frame.kind == Kind.GRANT:
            if (stream := self._streams.get(frame.call)) is not None:
                stream.grant()
        elif frame.kind == Kind.WITHDRAW:
            self._waiting.discard(frame.call)
            if (stream := self._streams.get(frame.call)) is not None:
                stream.withdraw()
        elif frame.kind == Kind.STREAM:
            # In a thread of its own: a long stream must not hold up the model's requests.
            self._streams[frame.call] = Stream(partial(self._send_piece, frame.call))
            threading.Thread(target=self._stream, args=(frame,), name="stream", daemon=True).start()
        elif frame.kind == Kind.METRICS:
            # Collecting runs user code, which must not hold up the reading.
            threading.Thread(
                target=self._measured, args=(frame,), name="metrics", daemon=True
            ).start()
        else:
            self._waiting.add(frame.call)
            self._lane(frame).put(frame)

    def _greet(self) -> None:
        """Receive the front's hello, which carries the two memory files if there are any."""
        data, fds, _, _ = socket.recv_fds(self._sock, RECEIVE_SIZE, 2)
        self._received += data
        if len(fds) == 2:
            self._inbound, self._outbound = Arena(fds[0]), Arena(fds[1])
        # Programs that a model starts would inherit them, and a map no longer needs them.
        for fd in fds:
            os.close(fd)
        frame = self._read_frame()
        if frame is None or frame.kind != Kind.HELLO:
            raise frames.FrameError("the front process did not say hello")

    def _read_frame(self) -> Frame | None:
        if not self._fill(frames.HEADER.size):
            return None
        kind, call, meta_size, payload_size = frames.parse_header(self._received)
        start = frames.HEADER.size
        end = start + meta_size + payload_size
        if not self._fill(end):
            return None
        meta = json.loads(self._received[start : start + meta_size])
        payload = self._received[start + meta_size : end]
        del self._received[:end]
        return Frame(kind, call, meta, payload)

    def _fill(self, size: int) -> bool:
        """Receive until `size` bytes are at hand; False when the front has left."""
        while len(self._received) < size:
            try:
                count = self._sock.recv_into(self._chunk)
            except ConnectionError:
                return False
            if not count:
                return False
            self._received += self._chunk[:count]
        return True

    def _lane(self, frame: Frame) -> queue.SimpleQueue[Frame | None]:
        key = frame.meta["model"]
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = queue.SimpleQueue()
            thread = self._threads[key] = threading.Thread(
                target=self._work, args=(key, lane), name=f"model {key}", daemon=True
            )
            thread.start()
        if frame.kind == Kind.UNLOAD:
            del self._lanes[key], self._threads[key]
        return lane

    def _work(self, key: str, lane: queue.SimpleQueue[Frame | None]) -> None:
        while True:
            frame = lane.get()
            if frame is None:
                with suppress(HeadraceError):
                    self._host.unload(key)
                return
            self._answer(key, frame)
            if frame.kind == Kind.UNLOAD:
                return

    def _answer(self, key: str, frame: Frame) -> None:
        kind, payload = Kind.RESULT, []
        try:
            if frame.call not in self._waiting:
                raise Cancelled("every caller left before the model began")
            self._waiting.discard(frame.call)
            meta, payload = self._HANDLERS[frame.kind](self, key, frame)
        except Exception as exc:
            kind, meta = Kind.ERROR, _dump(_error_meta(exc, frame))
        self._send(frames.encode(kind, frame.call, meta, payload))

    def _stream(self, frame: Frame) -> None:
        kind, meta = Kind.RESULT, {}
        try:
            request = self._request(frame)
            self._streams[frame.call].run(self._host.stream(frame.meta["model"], request))
        except Exception as exc:
            kind, meta = Kind.ERROR, _error_meta(exc, frame)
        del self._streams[frame.call]
        self._send(frames.encode(kind, frame.call, _dump(meta)))

    def _measured(self, frame: Frame) -> None:
        kind, meta = Kind.RESULT, dict[str, Any]()
        try:
            meta["families"] = measured.families()
        except Exception as exc:
            kind, meta = Kind.ERROR, _error_meta(exc, frame)
        self._send(frames.encode(kind, frame.call, _dump(meta)))

    def _send_piece(self, call: int, piece: InferenceResponse) -> None:
        meta, payload = self._response(piece)
        self._send(frames.encode(Kind.PIECE, call, meta, payload))

    def _load(self, key: str, frame: Frame) -> Any:
        settings = ModelSettings(**frame.meta["settings"])
        return _dump(self._host.load(key, settings).to_dict()), []

    def _unload(self, key: str, frame: Frame) -> Any:
        self._host.unload(key)
        return b"{}", []

    def _infer(self, key: str, frame: Frame) -> Any:
        return self._response(self._host.infer(key, self._request(frame)))

    def _request(self, frame: Frame) -> InferenceRequest:
        meta = frame.meta
        return InferenceRequest(
            frames.restore(meta["tensors"], frame.payload, self._fetch),
            meta.get("parameters"),
            meta.get("outputs"),
            meta.get("id", ""),
            meta.get("context"),
        )

    def _response(self, response: InferenceResponse) -> Any:
        described, payload = frames.describe(response.outputs, self._place)
        try:
            return _dump({"tensors": described, "parameters": response.parameters}), payload
        except Exception as error:
            self._release([entry[4] for entry in described if entry[4] >= 0])
            raise BadModelOutput("a parameter of the answer has no JSON form") from error

    _HANDLERS: dict[int, Callable[..., Any]] = {
        Kind.LOAD: _load,
        Kind.INFER: _infer,
        Kind.UNLOAD: _unload,
    }

    def _fetch(self, offset: int, size: int) -> bytes:
        if self._inbound is None:
            raise frames.FrameError("a tensor is in shared memory, but none was shared")
        return self._inbound.fetch(offset, size)

    def _place(self, data: Buffer) -> int | None:
        if self._outbound is None:
            return None
        with self._send_lock:
            return self._outbound.place(data)

    def _release(self, offsets: list[int]) -> None:
        if self._outbound is not None:
            with self._send_lock:
                for offset in offsets:
                    self._outbound.free(offset)

    def _send(self, buffers: list[Buffer]) -> None:
        data = b"".join(buffers)
        try:
            with self._send_lock:
                self._sock.sendall(data)
        except ConnectionError:
            logger.debug("the front process left before its answer")


def _error_meta(exc: Exception, frame: Frame) -> dict[str, str]:
    if isinstance(exc, HeadraceError):
        return frames.error_meta(exc)
    logger.error("a frame of kind %d failed", frame.kind, exc_info=exc)
    return frames.error_meta(HeadraceError("the worker failed; its log has the details"))


def _plain(value: Any) -> Any:
    # numpy's numbers and arrays become plain ones.
    return value.tolist() if hasattr(value, "tolist") else str(value)


_encode = json.JSONEncoder(
    default=_plain, separators=(",", ":"), allow_nan=False, ensure_ascii=False
).encode


def _dump(meta: Any) -> bytes:
    """Strict JSON: the front's parser accepts neither NaN nor half of a surrogate pair."""
    try:
        text = _encode(meta)
    except ValueError:
        loose = json.dumps(meta, default=_plain)
        text = _encode(json.loads(loose, parse_constant=lambda _: None))
    return text.encode("utf-8", "replace")
