"""Large tensors in the memory that the front and its workers share; the workers are real."""

from __future__ import annotations

import asyncio
import errno
import textwrap
from pathlib import Path

import numpy as np
import pytest

from headrace.codecs.array import array_of
from headrace.executors.pool import WorkerPool
from headrace.executors.shared_memory import SharedMemory, shared_memory
from headrace.protocol import large_buffers
from headrace.protocol.large_buffers import THRESHOLD
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor
from headrace.settings import ModelSettings
from headrace.worker.arena import SUPPORTED
from support.pool import answer, batcher_of, request, run, soon, write_model

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="needs memory files")

NUMBERS = THRESHOLD // 8


def large(value: float) -> InferenceRequest:
    return request(*np.full(NUMBERS, value))


def taken() -> int:
    """How many buffers are taken of the memory of this process."""
    memory = shared_memory()
    assert memory is not None
    return memory.used


async def until_free(before: int) -> None:
    """Wait until as many buffers are taken as before."""
    async with asyncio.timeout(30):
        while taken() != before:
            await asyncio.sleep(0.005)


def keeper(folder: Path, load: str = "pass") -> ModelSettings:
    """A model that keeps its inputs as they are, and answers how many it has and the first's sum.

    A request for `none` has it let them go.
    """
    source = f"""
import gc, os, threading, time
import numpy as np
from headrace.codecs.array import tensor_of
from headrace.model import Model
from headrace.protocol.messages import InferenceResponse

class Keeper(Model):
    def load(self):
        self.kept = []
{textwrap.indent(textwrap.dedent(load), "        ")}

    def infer(self, request):
        if (request.parameters or {{}}).get("forget"):
            self.kept.clear()
        else:
            self.kept.append(np.frombuffer(request.inputs[0].data))
        found = [len(self.kept), *(each.sum() for each in self.kept[:1])]
        return InferenceResponse([tensor_of("y", np.array(found, np.float64))])
"""
    (folder / "keeping.py").write_text(source)
    return ModelSettings("keeper", "keeping.Keeper", uri=str(folder), folder=str(folder))


def forgetting() -> InferenceRequest:
    asked = request(1.0)
    asked.parameters = {"forget": True}
    return asked


def test_shared_memory_is_given_back_after_each_call(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", write_model(tmp_path, "return x[:1]"))
        before = taken()
        for value in range(20):
            assert answer(await pool.infer("m", large(value), soon())) == [value]

        assert taken() == before

    run(test)


def test_a_model_that_keeps_an_input_has_its_values_after_a_thousand_other_requests(
    tmp_path: Path,
) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", keeper(tmp_path))
        await pool.load("other", write_model(tmp_path, "return x[:1]"))
        before = taken()
        await pool.infer("m", large(7.0), soon())
        for value in range(1000):
            await pool.infer("other", large(value), soon())
        assert taken() == before + 1

        assert answer(await pool.infer("m", large(8.0), soon())) == [2, 7.0 * NUMBERS]

    run(test)


def test_what_a_model_let_go_is_given_back_though_nothing_more_is_asked(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        load = f"""
            def forget():
                while not os.path.exists({str(tmp_path / "forget")!r}):
                    time.sleep(0.005)
                self.kept.clear()
            threading.Thread(target=forget, daemon=True).start()
        """
        await pool.load("m", keeper(tmp_path, load))
        before = taken()
        await pool.infer("m", large(7.0), soon())
        assert taken() == before + 1
        (tmp_path / "forget").touch()

        await until_free(before)

    run(test)


def test_a_model_that_keeps_all_it_is_given_takes_a_bounded_part_of_the_memory(
    tmp_path: Path,
) -> None:
    async def test(pool: WorkerPool) -> None:
        # Room for four tensors rather than for half a gigabyte.
        load = f"""
            found = [e for e in gc.get_objects() if type(e).__name__ == "BorrowedTensors"]
            found[0]._most = 4 * {THRESHOLD}
        """
        await pool.load("m", keeper(tmp_path, load))
        before = taken()
        for value in range(1, 20):
            response = await pool.infer("m", large(value), soon())
            assert answer(response) == [value, NUMBERS]
        assert taken() == before + 4
        assert answer(await pool.infer("m", forgetting(), soon())) == [0]

        await until_free(before)

    run(test)


def test_a_batch_runs_again_with_the_same_tensors_when_its_worker_dies(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        body = f"""
            if not os.path.exists({str(tmp_path / "died")!r}):
                open({str(tmp_path / "died")!r}, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return np.array([x.sum()])
        """
        await pool.load("m", write_model(tmp_path, body))
        before = taken()
        response = await batcher_of(pool, "m").submit(large(7.0), soon())

        assert answer(response) == [7.0 * NUMBERS]
        assert pool.restarts == 1
        await until_free(before)

    run(test)


def test_what_a_killed_worker_kept_is_given_back(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", keeper(tmp_path))
        before = taken()
        await pool.infer("m", large(7.0), soon())
        assert taken() == before + 1
        pool._slots[0].process.kill()  # type: ignore[union-attr]

        await until_free(before)

    run(test)


def test_where_no_memory_is_left_tensors_go_through_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SharedMemory(2 * THRESHOLD)
    monkeypatch.setattr("headrace.executors.channel.shared_memory", lambda: memory)

    async def test(pool: WorkerPool) -> None:
        await pool.load("m", keeper(tmp_path))
        values = range(1, 6)
        answers = [answer(await pool.infer("m", large(each), soon())) for each in values]

        assert answers == [[each, NUMBERS] for each in values]
        assert memory.used == 2

    run(test)
    memory.close()


def test_without_room_for_the_memory_of_its_answers_a_worker_shares_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SharedMemory(2 * THRESHOLD)

    def refuse() -> int:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("headrace.executors.channel.shared_memory", lambda: memory)
    monkeypatch.setattr("headrace.executors.channel.Arena.create_file", refuse)

    async def test(pool: WorkerPool) -> None:
        await pool.load("m", write_model(tmp_path, "return x"))
        response = await pool.infer("m", large(7.0), soon())

        assert answer(response) == [7.0] * NUMBERS
        assert memory.used == 0

    run(test)
    memory.close()


def test_large_tensors_are_moved_to_the_memory_once_and_small_ones_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = SharedMemory(4 * THRESHOLD)
    monkeypatch.setattr(large_buffers, "_shared", memory)
    small = Tensor("s", "UINT8", [3], b"abc")
    tensors = [small, Tensor("x", "UINT8", [THRESHOLD], b"7" * THRESHOLD)]
    for _ in range(2):
        large_buffers.move(tensors)

    assert memory.used == 1
    assert (small.data, tensors[1].data) == (b"abc", b"7" * THRESHOLD)
    assert not array_of(tensors[1]).flags.writeable
    memory.close()
