"""A worker's end of a connection: frames in, frames out, over a pair of sockets."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from headrace.errors import InvalidInput
from headrace.protocol.large_buffers import THRESHOLD
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.protocol.tensor import Tensor
from headrace.settings import ModelSettings
from headrace.worker import frames, measured
from headrace.worker.arena import SUPPORTED
from headrace.worker.frames import Frame, Kind
from headrace.worker.host import ModelHost
from headrace.worker.streams import WINDOW
from support.front_end import FAR, Front

LARGE = Tensor("x", "UINT8", [THRESHOLD], bytes(range(256)) * (THRESHOLD // 256))


class FakeHost(ModelHost):
    """Models that answer what they are asked, unless `answers` or `pieces` has something else."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[str, str]] = []
        self.settings: dict[str, ModelSettings] = {}
        self.asked: list[InferenceRequest] = []
        self.answers: dict[str, Callable[[], Any]] = {}
        self.pieces: dict[str, Generator[Any, None, None]] = {}

    def load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        self.done.append(("load", key))
        self.settings[key] = settings
        return ModelMetadata(platform=f"that of {key}")

    def infer(self, key: str, request: InferenceRequest) -> Any:
        self.done.append(("infer", key))
        self.asked.append(request)
        answer = self.answers.get(key)
        return InferenceResponse(request.inputs) if answer is None else answer()

    def stream(self, key: str, request: InferenceRequest) -> Generator[Any, None, None]:
        return self.pieces[key]

    def unload(self, key: str) -> None:
        self.done.append(("unload", key))


class Gate:
    """A model that answers once it may."""

    def __init__(self) -> None:
        self.is_entered, self.may_go = threading.Event(), threading.Event()

    def __call__(self) -> InferenceResponse:
        self.is_entered.set()
        assert self.may_go.wait(FAR)
        return InferenceResponse([])


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def stranger(host: FakeHost) -> Iterator[Front]:
    """A front that has not said hello."""
    with ThreadPoolExecutor(1) as threads:
        front = Front(host, threads)
        yield front
        front.sock.close()
    front.theirs.close()


@pytest.fixture
def front(stranger: Front) -> Front:
    return stranger.greet()


def settings(**more: Any) -> dict[str, Any]:
    return ModelSettings("wine", "fake:Fake", **more).to_dict()


def told(frame: Frame) -> tuple[str, str]:
    assert frame.kind == Kind.ERROR
    return frame.meta["kind"], frame.meta["message"]


def numbers(*values: int) -> Generator[InferenceResponse, None, None]:
    yield from (InferenceResponse([], {"number": value}) for value in values)


def test_a_load_is_answered_with_what_the_model_says_of_itself(
    front: Front, host: FakeHost
) -> None:
    call = front.send(Kind.LOAD, {"model": "m", "settings": settings(extra={"a": [1]})})
    answer = front.receive()

    assert (answer.kind, answer.call) == (Kind.RESULT, call)
    assert ModelMetadata.from_dict(answer.meta).platform == "that of m"
    assert host.settings["m"].extra == {"a": [1]}


def test_a_request_reaches_its_model_as_it_was_sent(front: Front, host: FakeHost) -> None:
    sent = Tensor("x", "UINT8", [3], b"abc", {"content_type": "np"})
    rest = {"parameters": {"p": 1}, "outputs": ["y"], "id": "7", "context": {"headers": {}}}
    front.infer("m", sent, **rest)
    front.receive()
    (asked,) = host.asked
    (tensor,) = asked.inputs

    assert (tensor.name, tensor.shape, bytes(tensor.data)) == ("x", [3], b"abc")
    assert tensor.parameters == {"content_type": "np"}
    assert rest == {name: getattr(asked, name) for name in rest}


def test_an_answer_comes_back_as_the_model_gave_it(front: Front, host: FakeHost) -> None:
    tensors = [Tensor("y", "UINT8", [3], b"abc"), Tensor("z", "UINT8", [1], b"d")]
    host.answers["m"] = lambda: InferenceResponse(tensors, {"p": [1]})
    call = front.infer("m")
    answer = front.receive()
    received = frames.restore(answer.meta["tensors"], answer.payload, lambda *_: b"")

    assert (answer.kind, answer.call, answer.meta["parameters"]) == (Kind.RESULT, call, {"p": [1]})
    assert [(each.name, bytes(each.data)) for each in received] == [("y", b"abc"), ("z", b"d")]


def test_a_socket_that_a_loop_made_non_blocking_is_read_and_written_all_the_same(
    front: Front, host: FakeHost
) -> None:
    def answer() -> InferenceResponse:
        # As uvloop does, to any socket that it watches.
        os.set_blocking(front.theirs.fileno(), False)
        return InferenceResponse([LARGE] * 8)

    host.answers["m"] = answer
    for _ in range(2):
        front.infer("m")
        assert front.receive().payload == LARGE.data * 8


def test_a_frame_that_arrives_byte_by_byte_is_one_frame(front: Front) -> None:
    described, payload = frames.describe([LARGE], lambda data: None)
    meta = json.dumps({"model": "m", "tensors": described}).encode()
    frame = b"".join(frames.encode(Kind.INFER, 1, meta, payload))
    for number in range(200):
        front.sock.sendall(frame[number : number + 1])
    front.sock.sendall(frame[200:])

    assert front.receive().payload == LARGE.data


def test_a_model_that_was_unloaded_may_be_loaded_again(front: Front, host: FakeHost) -> None:
    for kind in (Kind.LOAD, Kind.UNLOAD, Kind.LOAD):
        front.send(kind, {"model": "m", "settings": settings()})

    assert [front.receive().kind for _ in range(3)] == [Kind.RESULT] * 3
    assert sorted(host.done) == [("load", "m"), ("load", "m"), ("unload", "m")]


def test_a_model_that_takes_its_time_holds_up_no_other(front: Front, host: FakeHost) -> None:
    host.answers["slow"] = gate = Gate()
    slow, fast = front.infer("slow"), front.infer("fast")

    assert front.receive().call == fast
    gate.may_go.set()
    assert front.receive().call == slow


def test_a_request_that_is_withdrawn_before_its_turn_is_not_begun(
    front: Front, host: FakeHost
) -> None:
    host.answers["slow"] = gate = Gate()
    running, waiting = front.infer("slow"), front.infer("slow")
    front.send(Kind.WITHDRAW, {}, call=waiting)
    # Frames are read in order: once this is answered, the withdrawal has been seen.
    front.infer("fast")
    front.receive()
    gate.may_go.set()

    assert (front.receive().call, told(front.receive())[0]) == (running, "cancelled")
    assert host.done.count(("infer", "slow")) == 1


def test_a_request_that_is_withdrawn_while_it_runs_is_answered(
    front: Front, host: FakeHost
) -> None:
    host.answers["slow"] = gate = Gate()
    running = front.infer("slow")
    assert gate.is_entered.wait(FAR)
    front.send(Kind.WITHDRAW, {}, call=running)
    front.infer("fast")
    front.receive()
    gate.may_go.set()
    answer = front.receive()

    assert (answer.kind, answer.call) == (Kind.RESULT, running)


def raising(error: Exception) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


def test_a_refusal_is_told_in_its_words(front: Front, host: FakeHost) -> None:
    host.answers["m"] = raising(InvalidInput("x: expected FP32"))
    front.infer("m")

    assert told(front.receive()) == ("invalid_argument", "x: expected FP32")


def test_any_other_failure_is_told_without_its_words_which_are_in_the_log(
    front: Front, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.answers["m"] = raising(RuntimeError("secret"))
    front.infer("m")

    kind, words = told(front.receive())

    assert kind == "internal"
    assert "secret" not in words
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("kind", "meta"),
    [
        pytest.param(200, {"model": "m"}, id="a kind that nobody knows"),
        pytest.param(Kind.LOAD, {"model": "m"}, id="a load without settings"),
        pytest.param(Kind.LOAD, {"model": "m", "settings": {"size": 1}}, id="unknown settings"),
        pytest.param(Kind.INFER, {"model": "m"}, id="a request without tensors"),
        pytest.param(Kind.INFER, {"model": "m", "tensors": [["x"]]}, id="half of a tensor"),
        pytest.param(Kind.STREAM, {"model": "m"}, id="a stream without tensors"),
    ],
)
def test_a_frame_that_makes_no_sense_costs_its_call_alone(
    kind: int, meta: Any, front: Front
) -> None:
    bad = front.send(kind, meta)
    answer = front.receive()
    assert (answer.kind, answer.call) == (Kind.ERROR, bad)
    good = front.infer("m")

    assert (answer := front.receive()).kind == Kind.RESULT
    assert answer.call == good


@pytest.mark.parametrize(
    ("parameter", "received"),
    [
        (float("nan"), None),
        ("a\udc80b", "a?b"),
        (np.float32(0.5), 0.5),
        ([np.array([1.5, np.inf])], [[1.5, None]]),
    ],
    ids=["NaN", "half a surrogate pair", "a numpy number", "a numpy array"],
)
def test_parameters_that_json_lacks_arrive_as_what_it_has(
    parameter: Any, received: Any, front: Front, host: FakeHost
) -> None:
    host.answers["m"] = lambda: InferenceResponse([], {"p": parameter})
    front.infer("m")

    assert front.receive().meta["parameters"] == {"p": received}


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize("parameter", [{(1, 2): 3}, CIRCLE], ids=["a key", "a circle"])
def test_an_answer_that_cannot_be_told_is_the_models_fault(
    parameter: Any, front: Front, host: FakeHost
) -> None:
    host.answers["m"] = lambda: InferenceResponse([], {"p": parameter})
    front.infer("m")

    assert told(front.receive())[0] == "bad_model_output"


needs_memory_files = pytest.mark.skipif(not SUPPORTED, reason="needs memory files")


@needs_memory_files
def test_a_large_tensor_crosses_in_shared_memory_both_ways(stranger: Front, host: FakeHost) -> None:
    outbound, inbound = stranger.share_memory()
    host.answers["m"] = lambda: InferenceResponse(host.asked.pop().inputs)
    described, _ = frames.describe([LARGE], outbound.place)
    stranger.send(Kind.INFER, {"model": "m", "tensors": described})
    answer = stranger.receive()
    (received,) = frames.restore(answer.meta["tensors"], answer.payload, inbound.fetch)

    assert received.data == LARGE.data
    assert answer.payload == b""


@needs_memory_files
def test_memory_of_an_answer_is_used_again_once_it_is_released(
    stranger: Front, host: FakeHost
) -> None:
    stranger.share_memory()
    host.answers["m"] = lambda: InferenceResponse([LARGE])

    def place_of_an_answer() -> int:
        stranger.infer("m")
        return int(stranger.receive().meta["tensors"][0][4])

    first, second = place_of_an_answer(), place_of_an_answer()
    stranger.send(Kind.RELEASE, [first])

    assert first != second
    assert place_of_an_answer() == first


@needs_memory_files
def test_memory_of_an_answer_that_cannot_be_told_is_free_again(
    stranger: Front, host: FakeHost
) -> None:
    stranger.share_memory()
    parameters: list[Any] = [{(1, 2): 3}, None]
    host.answers["m"] = lambda: InferenceResponse([LARGE], parameters.pop(0))
    stranger.infer("m")
    stranger.infer("m")

    assert told(stranger.receive())[0] == "bad_model_output"
    assert stranger.receive().meta["tensors"][0][4] == 0


def test_a_tensor_in_memory_that_was_not_shared_is_refused(front: Front) -> None:
    front.send(Kind.INFER, {"model": "m", "tensors": [["x", "UINT8", [1], 1, 0, None]]})

    assert "shared memory" in told(front.receive())[1]


def test_pieces_of_a_stream_come_in_order_before_its_end(front: Front, host: FakeHost) -> None:
    host.pieces["m"] = numbers(1, 2, 3)
    call = front.infer("m", kind=Kind.STREAM)
    pieces, end = front.receive_until(call)

    assert [piece.meta["parameters"]["number"] for piece in pieces] == [1, 2, 3]
    assert {piece.call for piece in pieces} == {call}
    assert (end.kind, end.meta) == (Kind.RESULT, {})


def test_a_stream_goes_on_for_as_long_as_its_pieces_are_taken(front: Front, host: FakeHost) -> None:
    host.pieces["m"] = numbers(*range(3 * WINDOW))
    call = front.infer("m", kind=Kind.STREAM)
    received = []
    while (piece := front.receive()).kind == Kind.PIECE:
        received.append(piece.meta["parameters"]["number"])
        front.send(Kind.GRANT, {"pieces": 1}, call=call)

    assert received == list(range(3 * WINDOW))


def test_a_stream_that_is_withdrawn_ends(front: Front, host: FakeHost) -> None:
    host.pieces["m"] = numbers(*range(3 * WINDOW))
    call = front.infer("m", kind=Kind.STREAM)
    front.receive()
    front.send(Kind.WITHDRAW, {}, call=call)
    pieces, end = front.receive_until(call)

    assert end.kind == Kind.RESULT
    assert len(pieces) < WINDOW
    assert next(host.pieces["m"], None) is None


def test_a_stream_that_nobody_takes_holds_up_no_request(front: Front, host: FakeHost) -> None:
    host.pieces["m"] = numbers(*range(3 * WINDOW))
    stream = front.infer("m", kind=Kind.STREAM)
    _, answer = front.receive_until(front.infer("m"))

    assert answer.kind == Kind.RESULT
    front.send(Kind.WITHDRAW, {}, call=stream)
    front.receive_until(stream)


def test_a_stream_that_fails_says_so_after_the_pieces_before_it(
    front: Front, host: FakeHost
) -> None:
    def pieces() -> Generator[Any, None, None]:
        yield from numbers(1)
        yield InferenceResponse([], {"p": {(1, 2): 3}})

    host.pieces["m"] = pieces()
    before, end = front.receive_until(front.infer("m", kind=Kind.STREAM))

    assert (len(before), told(end)[0]) == (1, "bad_model_output")


def test_words_about_a_call_that_is_over_are_ignored(front: Front) -> None:
    for kind in (Kind.GRANT, Kind.WITHDRAW):
        front.send(kind, {}, call=99)
    front.infer("m")

    assert front.receive().kind == Kind.RESULT


def test_what_user_code_measures_is_told(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "families", lambda: [{"name": "rows"}])
    front.send(Kind.METRICS, {})

    assert front.receive().meta == {"families": [{"name": "rows"}]}


def test_measuring_that_fails_is_told(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "families", raising(OSError("no")))
    front.send(Kind.METRICS, {})

    assert told(front.receive())[0] == "internal"


@pytest.mark.parametrize("kind", [Kind.METRICS, Kind.STREAM])
def test_a_thread_that_cannot_be_started_fails_its_call_and_no_other(
    kind: int, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    front.receive_until(front.infer("m"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        refused = front.receive_until(front.infer("m", kind=kind))[1]

    assert told(refused)[0] == "internal"
    assert front.receive_until(front.infer("m"))[1].kind == Kind.RESULT


def test_answers_that_do_not_fit_into_the_sockets_buffer_arrive_whole(front: Front) -> None:
    # As uvloop makes every socket that it watches.
    os.set_blocking(front.theirs.fileno(), False)
    sent = Tensor("x", "UINT8", [THRESHOLD - 1], bytes(LARGE.data)[1:])
    calls = [front.infer("m", sent) for _ in range(20)]
    answers = [front.receive() for _ in calls]

    assert {answer.call for answer in answers} == set(calls)
    assert {bytes(answer.payload[: len(sent.data)]) for answer in answers} == {bytes(sent.data)}
