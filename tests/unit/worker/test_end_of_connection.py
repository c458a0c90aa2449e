"""How a worker's connection ends: asked to, left alone, or given what is no frame."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from headrace.errors import ModelFailed
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.settings import ModelSettings
from headrace.worker import frames, front_connection
from headrace.worker.frames import FrameError, Kind
from headrace.worker.front_connection import Connection
from headrace.worker.host import ModelHost

calls = count(1)


def frame(kind: Kind, meta: bytes = b"{}") -> bytes:
    return b"".join(frames.encode(kind, next(calls), meta))


def about(kind: Kind, key: str) -> bytes:
    settings = ModelSettings("wine", "fake:Fake").to_dict()
    meta = {"model": key, "settings": settings, "tensors": []}
    return frame(kind, json.dumps(meta).encode())


HELLO = frame(Kind.HELLO)
STOP = frame(Kind.STOP)
# Ends a hang; no test takes as long.
FAR = 20


class FakeHost(ModelHost):
    """Models that do nothing; `unloaded` is set once every one in it has been unloaded."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.unloaded = threading.Event()
        self.answer: Callable[[], Any] = lambda: None
        self.loading: Callable[[], Any] = lambda: None
        self.unloading: Callable[[str], Any] = lambda key: None

    def load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        self.loading()
        self.loaded.add(key)
        return ModelMetadata()

    def infer(self, key: str, request: InferenceRequest) -> Any:
        self.answer()
        return InferenceResponse([])

    def unload(self, key: str) -> None:
        self.loaded.discard(key)
        if not self.loaded:
            self.unloaded.set()
        self.unloading(key)


def serve(host: FakeHost, *sent: bytes, leaves: bool = False) -> bool:
    """What `Connection.serve` returns to a front that sends this, and reads no answer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"".join(sent))
        if leaves:
            ours.close()
        else:
            ours.shutdown(socket.SHUT_WR)
        return Connection(theirs, host).serve()


def test_a_front_that_says_stop_ends_the_worker() -> None:
    assert serve(FakeHost(), HELLO, STOP) is True


@pytest.mark.parametrize(
    "last",
    [b"", HELLO[:3], about(Kind.INFER, "m")[:-1]],
    ids=["between frames", "within a header", "within a frame"],
)
def test_a_front_that_leaves_ends_its_connection_only(last: bytes) -> None:
    assert serve(FakeHost(), HELLO, about(Kind.LOAD, "m"), last) is False


@pytest.mark.parametrize("last", [b"", STOP], ids=["left", "stopped"])
def test_every_model_is_unloaded_at_the_end(last: bytes) -> None:
    host = FakeHost()
    serve(host, HELLO, *(about(Kind.LOAD, key) for key in "abc"), last)

    assert host.unloaded.is_set()


def test_a_model_that_cannot_be_unloaded_holds_up_no_other() -> None:
    def refuse(key: str) -> None:
        raise ModelFailed("no")

    host = FakeHost()
    host.unloading = refuse
    serve(host, HELLO, about(Kind.LOAD, "a"), about(Kind.LOAD, "b"))

    assert host.unloaded.is_set()


def test_a_front_that_leaves_before_its_answer_does_no_harm() -> None:
    host = FakeHost()

    assert serve(host, HELLO, about(Kind.LOAD, "m"), about(Kind.INFER, "m"), leaves=True) is False
    assert host.unloaded.is_set()


def test_what_a_front_asked_before_it_left_is_done_before_its_model_goes() -> None:
    host, done = FakeHost(), []
    host.answer = lambda: done.append("infer")
    host.unloading = lambda key: done.append("unload")
    serve(host, HELLO, about(Kind.LOAD, "m"), about(Kind.INFER, "m"))

    assert done == ["infer", "unload"]


def test_a_model_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_connection, "LAST_UNLOADS", 0.0)
    gate, host = threading.Event(), FakeHost()
    host.answer = lambda: gate.wait(FAR)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(HELLO + about(Kind.LOAD, "m") + about(Kind.INFER, "m") + STOP)

        assert Connection(theirs, host).serve() is True
        assert not host.unloaded.is_set()
        gate.set()
        assert host.unloaded.wait(FAR)


def test_a_load_that_ends_after_its_connection_does_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(front_connection, "LAST_UNLOADS", 0.0)
    gate, host = threading.Event(), FakeHost()
    host.loading = lambda: gate.wait(FAR)
    serve(host, HELLO, about(Kind.LOAD, "m"), STOP)
    loading = [each for each in threading.enumerate() if each.name == "model m"]
    gate.set()
    for thread in loading:
        # pytest reports what a thread raises.
        thread.join(FAR)

    assert host.unloaded.is_set()


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", FrameError, id="no frame"),
        pytest.param(frame(Kind.INFER, b"{"), ValueError, id="no JSON"),
        pytest.param(frame(Kind.INFER), KeyError, id="no model"),
    ],
)
def test_what_cannot_be_a_frame_ends_the_connection(sent: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        serve(FakeHost(), HELLO, sent, STOP)


@pytest.mark.parametrize("first", [b"", STOP, HELLO[:-1]], ids=["nothing", "stop", "half of it"])
def test_a_front_that_does_not_say_hello_is_not_served(first: bytes) -> None:
    with pytest.raises(FrameError, match="hello"):
        serve(FakeHost(), first)
