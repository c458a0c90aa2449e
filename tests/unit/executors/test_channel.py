"""The front's end of one worker, with a worker that answers what the test says."""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from headrace.errors import (
    BadModelOutput,
    DeadlineExceeded,
    HeadraceError,
    InvalidInput,
    InvalidModel,
    ModelFailed,
    Overloaded,
)
from headrace.executors.channel import Channel
from headrace.executors.executor import MOST_STREAMS, WorkerLost
from headrace.executors.lent_tensors import LentTensors
from headrace.executors.placed_answers import PlacedAnswers
from headrace.executors.shared_memory import SharedMemory
from headrace.protocol.large_buffers import THRESHOLD
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.tensor import Buffer, Tensor
from headrace.worker import frames
from headrace.worker.arena import SUPPORTED, Arena
from headrace.worker.frames import Frame, FrameError, Kind
from headrace.worker.streams import GRANTED_TOGETHER
from support import virtual_time

FAR = 1e9


class Worker:
    """The other end, which is the channel's transport as well: what is written arrives here."""

    def __init__(self) -> None:
        self.channel = Channel()
        self.received: list[Frame] = []
        self.is_aborted = False
        self.channel.connection_made(self)  # type: ignore[arg-type]

    def write(self, data: bytes) -> None:
        kind, call, size, _ = frames.parse_header(data)
        rest = data[frames.HEADER.size :]
        self.received.append(Frame(kind, call, json.loads(rest[:size]), rest[size:]))

    def abort(self) -> None:
        self.is_aborted = True

    def send(self, kind: Kind, call: int, meta: Any, *tensors: Tensor, arena: Any = None) -> None:
        described, payload = frames.describe(tensors, arena.place if arena else lambda data: None)
        if kind == Kind.PIECE or tensors:
            meta = {"tensors": described, "parameters": meta}
        self.send_text(kind, call, json.dumps(meta).encode(), payload)

    def send_text(self, kind: Kind, call: int, text: bytes, payload: list[Buffer]) -> None:
        self.channel.data_received(b"".join(frames.encode(kind, call, text, payload)))

    def die(self) -> None:
        self.channel.connection_lost(None)

    @property
    def kinds(self) -> list[int]:
        return [frame.kind for frame in self.received]


def with_worker(test: Callable[[Worker], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def body() -> None:
            await test(Worker())

        virtual_time.run(body())

    run.__name__ = test.__name__
    return run


def request(data: bytes = b"abc", **more: Any) -> InferenceRequest:
    return InferenceRequest([Tensor("x", "UINT8", [len(data)], data)], **more)


async def take(pieces: Any) -> Any:
    return (await anext(pieces)).parameters


@with_worker
async def test_answers_find_their_calls_in_whatever_order_they_come(worker: Worker) -> None:
    calls = [worker.channel.request(Kind.LOAD, {"model": name}) for name in "abc"]
    ids = [frame.call for frame in worker.received]
    for id in reversed(ids):
        worker.send(Kind.RESULT, id, {"answers": id})

    assert [(await call)["answers"] for call in calls] == ids
    assert len(set(ids)) == 3


@with_worker
async def test_an_answer_that_comes_byte_by_byte_is_one_answer(worker: Worker) -> None:
    call = worker.channel.request(Kind.LOAD, {})
    answer = b"".join(frames.encode(Kind.RESULT, 1, b'{"a":1}', [b"payload"]))
    for number in range(len(answer)):
        assert not call.done()
        worker.channel.data_received(answer[number : number + 1])

    assert call.result() == {"a": 1}


@with_worker
async def test_answers_that_come_at_once_are_two(worker: Worker) -> None:
    calls = [worker.channel.request(Kind.LOAD, {}) for _ in range(2)]
    first, second = (b"".join(frames.encode(Kind.RESULT, n, b'{"n":%d}' % n)) for n in (1, 2))
    worker.channel.data_received(first + second[:30])
    worker.channel.data_received(second[30:])

    assert await asyncio.gather(*calls) == [{"n": 1}, {"n": 2}]


@with_worker
async def test_a_request_and_its_answer_cross_as_they_are(worker: Worker) -> None:
    rest: dict[str, Any] = {"parameters": {"p": 1}, "outputs": ["y"], "context": {"headers": {}}}
    call = worker.channel.infer("m", request(id="7", **rest))
    (sent,) = worker.received
    worker.send(Kind.RESULT, sent.call, {"q": 2}, Tensor("y", "UINT8", [2], b"de"))
    answer: InferenceResponse = await call

    assert sent.meta == {"model": "m", "id": "7", "tensors": sent.meta["tensors"], **rest}
    assert sent.payload[:3] == b"abc"
    assert (answer.parameters, bytes(answer.outputs[0].data)) == ({"q": 2}, b"de")


@pytest.mark.parametrize(
    ("kind", "error"),
    [("model_error", ModelFailed), ("invalid_argument", InvalidInput), ("of later", HeadraceError)],
)
def test_an_error_that_is_answered_is_raised_as_its_kind(
    kind: str, error: type[HeadraceError]
) -> None:
    async def test() -> HeadraceError:
        worker = Worker()
        call = worker.channel.infer("m", request())
        worker.send(Kind.ERROR, 1, {"kind": kind, "message": "no"})
        with pytest.raises(HeadraceError) as caught:
            await call
        return caught.value

    raised = virtual_time.run(test())

    assert (type(raised), raised.message) == (error, "no")


@with_worker
async def test_an_answer_that_nobody_waits_for_is_dropped(worker: Worker) -> None:
    left, other = worker.channel.infer("m", request()), worker.channel.infer("m", request())
    left.cancel()
    for call in (1, 99, 2):
        worker.send(Kind.RESULT, call, None, Tensor("y", "UINT8", [1], b"d"))

    assert bytes((await other).outputs[0].data) == b"d"
    assert worker.channel.calls == 0


@pytest.mark.parametrize("text", [b"{", b"[" * 5000, b"1" * 400], ids=["cut", "deep", "large"])
def test_an_answer_that_cannot_be_read_costs_its_caller_alone(text: bytes) -> None:
    async def test() -> None:
        worker = Worker()
        bad, good = (worker.channel.infer("m", request()) for _ in range(2))
        worker.send_text(Kind.RESULT, 1, text, [b"payload"])
        worker.send(Kind.RESULT, 2, None, Tensor("y", "UINT8", [1], b"d"))
        with pytest.raises(BadModelOutput):
            await bad
        assert bytes((await good).outputs[0].data) == b"d"

    virtual_time.run(test())


@with_worker
async def test_what_is_no_frame_is_not_taken_for_one(worker: Worker) -> None:
    with pytest.raises(FrameError):
        worker.channel.data_received(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@with_worker
async def test_a_worker_that_dies_fails_every_call(worker: Worker) -> None:
    calls = [
        worker.channel.request(Kind.LOAD, {}),
        worker.channel.infer("m", request()),
        asyncio.create_task(anext(worker.channel.stream("m", request(), FAR))),
    ]
    await asyncio.sleep(0)
    worker.die()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [WorkerLost] * 3
    assert worker.channel.is_lost


@with_worker
async def test_the_first_reason_for_a_loss_is_what_callers_are_told(worker: Worker) -> None:
    call = worker.channel.infer("m", request())
    worker.channel.lose(WorkerLost("it hung", blameless=True))
    worker.die()
    for ask in (lambda: call, lambda: worker.channel.infer("m", request())):
        with pytest.raises(WorkerLost, match="it hung") as caught:
            await ask()
        assert caught.value.blameless

    assert worker.is_aborted


@with_worker
async def test_a_worker_that_is_gone_is_asked_nothing(worker: Worker) -> None:
    worker.die()
    for ask in (
        lambda: worker.channel.request(Kind.LOAD, {}),
        lambda: worker.channel.infer("m", request()),
        lambda: asyncio.ensure_future(anext(worker.channel.stream("m", request(), FAR))),
    ):
        with pytest.raises(WorkerLost):
            await ask()

    assert await worker.channel.measured(1) == []
    assert worker.received == []


@with_worker
async def test_a_withdrawal_names_the_calls_of_its_request_and_no_other(worker: Worker) -> None:
    left = request()
    for sent in (request(), left, request()):
        worker.channel.infer("m", sent)
    worker.channel.withdraw(left)

    assert [frame.call for frame in worker.received if frame.kind == Kind.WITHDRAW] == [2]


@with_worker
async def test_a_request_that_was_answered_is_not_withdrawn(worker: Worker) -> None:
    left = request()
    worker.channel.infer("m", left)
    worker.send(Kind.RESULT, 1, None, Tensor("y", "UINT8", [1], b"d"))
    worker.channel.withdraw(left)

    assert worker.kinds == [Kind.INFER]


@with_worker
async def test_a_parameter_that_cannot_be_sent_is_refused_and_nothing_waits(
    worker: Worker,
) -> None:
    for value in (2**64, "\ud800"):
        bad = request(parameters={"p": [value]})
        with pytest.raises(InvalidInput, match="parameters"):
            worker.channel.infer("m", bad)
        with pytest.raises(InvalidInput, match="parameters"):
            await anext(worker.channel.stream("m", bad, FAR))

    assert (worker.received, worker.channel.calls) == ([], 0)


@with_worker
async def test_pieces_are_granted_together_once_they_are_taken(worker: Worker) -> None:
    pieces = worker.channel.stream("m", request(), FAR)
    first = asyncio.create_task(take(pieces))
    await asyncio.sleep(0)
    for number in range(GRANTED_TOGETHER + 1):
        worker.send(Kind.PIECE, 1, number)

    assert await first == 0
    for number in range(1, GRANTED_TOGETHER):
        assert await take(pieces) == number
    assert worker.kinds == [Kind.STREAM]
    assert await take(pieces) == GRANTED_TOGETHER
    assert worker.kinds == [Kind.STREAM, Kind.GRANT]
    assert (worker.received[1].call, worker.received[1].meta) == (1, {"pieces": GRANTED_TOGETHER})


@with_worker
async def test_pieces_come_before_the_end_that_follows_them(worker: Worker) -> None:
    pieces = worker.channel.stream("m", request(), FAR)
    first = asyncio.create_task(take(pieces))
    await asyncio.sleep(0)
    for number in (1, 2, 3):
        worker.send(Kind.PIECE, 1, number)
    worker.send(Kind.RESULT, 1, {})

    assert await first == 1
    assert [piece.parameters async for piece in pieces] == [2, 3]
    # The worker grants nothing to a stream that has ended.
    assert worker.kinds == [Kind.STREAM]


@with_worker
async def test_an_error_in_a_stream_comes_after_the_pieces_before_it(worker: Worker) -> None:
    pieces = worker.channel.stream("m", request(), FAR)
    first = asyncio.create_task(take(pieces))
    await asyncio.sleep(0)
    worker.send(Kind.PIECE, 1, 1)
    worker.send(Kind.ERROR, 1, {"kind": "model_error", "message": "no"})

    assert await first == 1
    with pytest.raises(ModelFailed, match="no"):
        await take(pieces)


@with_worker
async def test_a_stream_that_is_left_is_withdrawn_and_its_late_pieces_are_dropped(
    worker: Worker,
) -> None:
    pieces = worker.channel.stream("m", request(), FAR)
    first = asyncio.create_task(take(pieces))
    await asyncio.sleep(0)
    worker.send(Kind.PIECE, 1, 1)
    await first
    await pieces.aclose()
    worker.send(Kind.PIECE, 1, 2)
    worker.send(Kind.RESULT, 1, {})

    assert worker.kinds == [Kind.STREAM, Kind.WITHDRAW]
    assert worker.channel.calls == 0


@with_worker
async def test_a_stream_that_is_left_keeps_its_place_until_the_worker_has_ended_it(
    worker: Worker,
) -> None:
    soon = asyncio.get_running_loop().time() + 5
    for _ in range(MOST_STREAMS):
        with pytest.raises(DeadlineExceeded):
            await anext(worker.channel.stream("m", request(), soon))
    with pytest.raises(Overloaded, match=f"{MOST_STREAMS}"):
        await anext(worker.channel.stream("m", request(), FAR))
    assert worker.channel.calls == MOST_STREAMS
    other = asyncio.create_task(take(worker.channel.stream("other", request(), FAR)))
    worker.send(Kind.RESULT, 1, {})
    await asyncio.sleep(0)
    again = asyncio.create_task(take(worker.channel.stream("m", request(), FAR)))
    await asyncio.sleep(0)
    for call in (MOST_STREAMS + 1, MOST_STREAMS + 2):
        worker.send(Kind.PIECE, call, call)

    assert await asyncio.gather(other, again) == [MOST_STREAMS + 1, MOST_STREAMS + 2]


@with_worker
async def test_whoever_asks_is_told_when_a_stream_that_is_left_has_ended(worker: Worker) -> None:
    left: list[asyncio.Future[Any]] = []
    for call, ending in enumerate((Kind.PIECE, Kind.RESULT), 1):
        pieces = worker.channel.stream("m", request(), FAR, left.append)
        first = asyncio.create_task(take(pieces))
        await asyncio.sleep(0)
        worker.send(Kind.PIECE, call, call)
        await first
        worker.send(ending, call, {})
        await anext(pieces, None)
        await pieces.aclose()
    (ended,) = left
    assert not ended.done()
    worker.send(Kind.RESULT, 1, {})

    assert ended.done()


@with_worker
async def test_a_stream_whose_time_is_up_is_withdrawn(worker: Worker) -> None:
    deadline = asyncio.get_running_loop().time() + 5
    with pytest.raises(DeadlineExceeded):
        await anext(worker.channel.stream("m", request(), deadline))

    assert worker.kinds == [Kind.STREAM, Kind.WITHDRAW]


@with_worker
async def test_a_worker_that_measures_slowly_is_shown_as_it_last_answered(worker: Worker) -> None:
    first = asyncio.create_task(worker.channel.measured(1))
    await asyncio.sleep(0)
    worker.send(Kind.RESULT, 1, {"families": ["old"]})
    assert await first == ["old"]

    assert [await worker.channel.measured(1) for _ in range(3)] == [["old"]] * 3
    # It is asked again once it has answered.
    assert worker.kinds == [Kind.METRICS] * 2
    worker.send(Kind.RESULT, 2, {"families": ["new"]})
    assert await worker.channel.measured(1) == ["new"]


@with_worker
async def test_measuring_that_fails_changes_nothing(worker: Worker) -> None:
    asking = asyncio.create_task(worker.channel.measured(1))
    await asyncio.sleep(0)
    worker.send(Kind.ERROR, 1, {"kind": "internal", "message": "no"})

    assert await asking == []


needs_memory_files = pytest.mark.skipif(not SUPPORTED, reason="needs memory files")


def shared_with(worker: Worker) -> SharedMemory:
    worker.channel._lent = LentTensors(memory := SharedMemory(4 * THRESHOLD))
    return memory


@needs_memory_files
@with_worker
async def test_memory_of_an_answered_call_is_free_though_nobody_waits(worker: Worker) -> None:
    memory = shared_with(worker)
    call = worker.channel.infer("m", request(bytes(THRESHOLD)))
    assert worker.received[0].payload == b""
    call.cancel()
    assert memory.used == 1
    worker.send(Kind.ERROR, 1, {"kind": "cancelled", "message": "no"})

    assert memory.used == 0


@needs_memory_files
@with_worker
async def test_a_tensor_that_a_worker_keeps_stays_until_it_releases_it(worker: Worker) -> None:
    memory = shared_with(worker)
    call = worker.channel.infer("m", request(bytes(THRESHOLD)))
    worker.send(Kind.KEEP, 1, [0])
    worker.send(Kind.RESULT, 1, {"tensors": [], "parameters": None})
    await call
    assert memory.used == 1
    worker.send(Kind.RELEASE, 0, [0])

    assert memory.used == 0


@needs_memory_files
@with_worker
async def test_memory_of_an_answer_is_copied_and_given_back(worker: Worker) -> None:
    arena, channel = Arena(fd := Arena.create_file(4 * THRESHOLD)), worker.channel
    channel._placed = PlacedAnswers(arena, channel.loop, channel._release)
    os.close(fd)
    call = worker.channel.infer("m", request())
    large = Tensor("y", "UINT8", [THRESHOLD], b"y" * THRESHOLD)
    worker.send(Kind.RESULT, 1, None, Tensor("z", "UINT8", [1], b"z"), large, arena=arena)
    arena.free(0)

    assert ((await call).outputs[1].data, worker.received[-1].meta) == (large.data, [0])


HUGE = b'{"tensors": [["y", "UINT8", [3], {}, 0, 3]], "parameters": {"p": 1%b}}' % (b"0" * 400)


@with_worker
async def test_memory_of_an_answer_that_cannot_be_read_is_given_back(worker: Worker) -> None:
    call = worker.channel.infer("m", request())
    worker.channel.data_received(b"".join(frames.encode(Kind.RESULT, 1, HUGE)))

    with pytest.raises(BadModelOutput):
        await call
    assert (worker.received[-1].kind, worker.received[-1].meta) == (Kind.RELEASE, [0])


@with_worker
async def test_a_stream_with_a_piece_that_cannot_be_read_is_withdrawn_but_has_not_ended(
    worker: Worker,
) -> None:
    pieces = worker.channel.stream("m", request(), 1e9)
    first = asyncio.create_task(take(pieces))
    await asyncio.sleep(0)
    worker.channel.data_received(b"".join(frames.encode(Kind.PIECE, 1, HUGE)))

    with pytest.raises(BadModelOutput):
        await first
    assert worker.kinds[-1] == Kind.WITHDRAW
    assert worker.channel.calls == 1


@with_worker
async def test_an_error_of_a_stream_that_was_left_is_no_noise(worker: Worker) -> None:
    noise: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    pieces = worker.channel.stream("m", request(), 1e9)
    first = asyncio.create_task(take(pieces))
    await asyncio.sleep(0)
    for number in (1, 2):
        worker.send(Kind.PIECE, 1, {"n": number})
    worker.send(Kind.ERROR, 1, {"kind": "model_error", "message": "no"})
    await first
    await pieces.aclose()
    del pieces, first
    gc.collect()

    assert noise == []


@with_worker
async def test_settings_that_cannot_be_sent_are_wrong_and_not_a_bug(worker: Worker) -> None:
    with pytest.raises(InvalidModel, match="cannot be sent"):
        worker.channel.request(Kind.LOAD, {"model": "m", "settings": {"extra": 2**70}})
