"""The front's end of a connection to a worker, without a front behind it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

from headrace.protocol.tensor import Tensor
from headrace.worker import frames
from headrace.worker.arena import Arena
from headrace.worker.frames import Frame, Kind
from headrace.worker.front_connection import Connection

HELLO = b"".join(frames.encode(Kind.HELLO, 0, b"{}"))
# Ends a hang; no test takes as long.
FAR = 20


class Front:
    """Serves a connection of a host in a thread, and talks to it."""

    def __init__(self, host: Any, threads: ThreadPoolExecutor) -> None:
        self.sock, self.theirs = socket.socketpair()
        self.sock.settimeout(FAR)
        connection = Connection(self.theirs, host)
        self.served: Future[bool] = threads.submit(connection.serve)
        self._calls = count(1)

    def greet(self) -> Front:
        self.sock.sendall(HELLO)
        return self

    def share_memory(self) -> tuple[Arena, Arena]:
        """Greet, and keep what is written to the worker and what is read from it."""
        fds = [Arena.create_file(), Arena.create_file()]
        socket.send_fds(self.sock, [HELLO], fds)
        outbound, inbound = (Arena(fd) for fd in fds)
        for fd in fds:
            os.close(fd)
        return outbound, inbound

    def send(self, kind: int, meta: Any, payload: Sequence[Any] = (), call: int = 0) -> int:
        call = call or next(self._calls)
        text = json.dumps(meta).encode()
        self.sock.sendall(b"".join(frames.encode(kind, call, text, payload)))
        return call

    def infer(self, key: str, *tensors: Tensor, kind: int = Kind.INFER, **meta: Any) -> int:
        described, payload = frames.describe(tensors, lambda data: None)
        return self.send(kind, {"model": key, "tensors": described, **meta}, payload)

    def receive(self) -> Frame:
        kind, call, meta_size, payload_size = frames.parse_header(self._read(frames.HEADER.size))
        return Frame(kind, call, json.loads(self._read(meta_size)), self._read(payload_size))

    def receive_until(self, call: int) -> tuple[list[Frame], Frame]:
        """The last frame of a call, and those that came before it."""
        before = []
        while (frame := self.receive()).call != call or frame.kind == Kind.PIECE:
            before.append(frame)
        return before, frame

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            assert piece, "the worker hung up"
            data += piece
        return data
