"""What is lent to a worker stays until it may go, and is not copied where it need not be."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from headrace.executors.lent_tensors import LentTensors
from headrace.executors.shared_memory import SharedMemory, shared_memory
from headrace.protocol.large_buffers import THRESHOLD
from headrace.protocol.tensor import Tensor
from headrace.worker.arena import SUPPORTED, Arena

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="needs memory files")


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """Memory for four large tensors."""
    memory = SharedMemory(4 * THRESHOLD)
    yield memory
    memory.close()


@pytest.fixture
def lent(memory: SharedMemory) -> LentTensors:
    return LentTensors(memory)


def tensor(data: Any) -> Tensor:
    return Tensor("x", "UINT8", [len(data)], data)


def test_a_tensor_that_is_in_shared_memory_is_not_copied(
    memory: SharedMemory, lent: LentTensors
) -> None:
    buffer = memory.new(2 * THRESHOLD)
    assert buffer is not None
    # A part of it, as a batch that is divided has.
    described, _ = lent.describe(1, [tensor(buffer[THRESHOLD:])])

    assert described[0][4] == memory.offset(buffer) + THRESHOLD
    assert memory.used == 1


def test_a_tensor_that_is_placed_is_only_there_from_then_on(
    memory: SharedMemory, lent: LentTensors
) -> None:
    sent = tensor(b"7" * THRESHOLD)
    described, payload = lent.describe(1, [tensor(b"small"), sent])

    assert memory.offset(sent.data) == described[1][4]
    assert sent.data == b"7" * THRESHOLD
    assert payload[0] == b"small"


def test_what_does_not_fit_into_shared_memory_goes_through_the_socket(lent: LentTensors) -> None:
    sent = tensor(b"7" * (5 * THRESHOLD))
    described, payload = lent.describe(1, [sent])

    assert (described[0][4], payload) == (-1, [sent.data])


def test_a_tensor_is_free_once_its_call_has_ended_and_nobody_has_it(
    memory: SharedMemory, lent: LentTensors
) -> None:
    sent = tensor(bytes(THRESHOLD))
    lent.describe(1, [sent])
    lent.end(1)
    assert memory.used == 1
    del sent

    assert memory.used == 0


def test_a_tensor_kept_for_two_calls_stays_until_it_is_released_twice(
    memory: SharedMemory, lent: LentTensors
) -> None:
    sent = tensor(bytes(THRESHOLD))
    for call in (1, 2):
        described, _ = lent.describe(call, [sent])
        lent.keep(call, [described[0][4]])
        lent.end(call)
    del sent
    lent.release([described[0][4]])
    assert memory.used == 1
    lent.release([described[0][4]])

    assert memory.used == 0


def test_what_a_worker_kept_is_given_back_when_it_dies(
    memory: SharedMemory, lent: LentTensors
) -> None:
    described, _ = lent.describe(1, [tensor(bytes(THRESHOLD))])
    lent.keep(1, [described[0][4]])
    lent.end_all()

    assert memory.used == lent.held == 0


def test_a_worker_that_was_given_up_may_still_say_what_it_keeps_and_releases(
    lent: LentTensors,
) -> None:
    described, _ = lent.describe(1, [tensor(bytes(THRESHOLD))])
    lent.end_all()
    lent.keep(1, [described[0][4]])
    lent.release([described[0][4]])

    assert lent.held == 0


def test_the_place_of_a_buffer_stays_taken_for_as_long_as_there_is_a_view_of_it(
    memory: SharedMemory,
) -> None:
    buffer = memory.new(THRESHOLD)
    assert buffer is not None
    row = np.frombuffer(buffer, np.float64).reshape(-1, 8)[3:4]
    del buffer
    assert memory.used == 1
    del row

    assert memory.used == 0


def test_a_buffer_that_goes_within_a_method_of_the_memory_is_freed_all_the_same(
    memory: SharedMemory,
) -> None:
    buffers = [memory.new(THRESHOLD)]
    take = memory._arena.take

    def interrupted(size: int) -> int | None:
        # As the garbage collector may do at any moment.
        buffers.clear()
        return take(size)

    memory._arena.take = interrupted  # type: ignore[method-assign]
    second = memory.new(THRESHOLD)

    assert second is not None
    assert memory.used == 1


def test_no_memory_is_shared_where_there_is_no_room_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(arena: Arena, fd: int) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("headrace.executors.shared_memory.Arena.__init__", refuse)
    # What other tests left open is closed whenever Python collects it.
    gc.collect()
    before = os.listdir("/proc/self/fd")

    assert shared_memory.__wrapped__() is None
    assert "Cannot allocate memory" in caplog.text
    assert os.listdir("/proc/self/fd") == before


FORKS = """
import os
from headrace.executors.shared_memory import shared_memory
from headrace.worker.arena import KEPT

memory = shared_memory()
buffer = memory.new(2 * KEPT)
buffer[:] = b"7" * len(buffer)
if not os.fork():
    del buffer
    os._exit(memory.new(1) is not None or shared_memory() is memory)
_, status = os.wait()
assert bytes(buffer) == b"7" * len(buffer)
assert not status
"""


def test_a_process_that_was_forked_leaves_the_memory_to_its_parent() -> None:
    subprocess.run([sys.executable, "-c", FORKS], check=True)
