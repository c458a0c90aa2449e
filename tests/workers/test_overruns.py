"""One model that hangs, in real workers: its neighbours go on, and the log says who ended what."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import DeadlineExceeded
from headrace.executors.pool import WorkerPool
from support.pool import answer, batcher_of, request, run, soon, write_model

HANGS_ONCE = """
    if x[0] == 13.0:
        {hang}
    return np.array([float(os.getpid())])
"""


async def load_two(pool: WorkerPool, folder: Path, hang: str) -> float:
    """Load a model that hangs for 13, and a neighbour; the pid of their worker."""
    for name in ("hangs", "neighbour"):
        (folder / name).mkdir()
        await pool.load(name, write_model(folder / name, HANGS_ONCE.format(hang=hang)))
    (pid,) = answer(await pool.infer("neighbour", request(1.0), soon()))
    return pid


@pytest.mark.parametrize("hang", ["time.sleep(600)", "while True: pass"])
def test_the_neighbour_of_a_model_that_hangs_is_answered_until_a_fresh_worker_is_there(
    hang: str, tmp_path: Path
) -> None:
    async def test(pool: WorkerPool) -> None:
        first = await load_two(pool, tmp_path, hang)
        with pytest.raises(DeadlineExceeded):
            await pool.infer("hangs", request(13.0), soon(0.2))
        assert answer(await pool.infer("neighbour", request(1.0), soon())) == [first]

        (second,) = answer(await pool.infer("hangs", request(1.0), soon()))
        assert second != first
        while answer(await pool.infer("neighbour", request(1.0), soon())) != [second]:
            pass

    run(test)


def test_a_neighbour_runs_again_if_the_model_that_hangs_holds_the_interpreters_lock(
    tmp_path: Path,
) -> None:
    async def test(pool: WorkerPool) -> None:
        first = await load_two(pool, tmp_path, "import ctypes; ctypes.PyDLL(None).sleep(600)")
        with pytest.raises(DeadlineExceeded):
            await pool.infer("hangs", request(13.0), soon(3))
        batcher = batcher_of(pool, "neighbour")

        assert answer(await batcher.submit(request(1.0), soon())) != [first]

    run(test)


def test_the_log_says_that_the_server_ended_a_worker_and_for_which_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", write_model(tmp_path, HANGS_ONCE.format(hang="time.sleep(600)")))
        with pytest.raises(DeadlineExceeded):
            await pool.infer("m", request(13.0), soon(0.2))
        await pool.infer("m", request(1.0), soon())

    run(test)

    expected = "was ended by the server (a request to model 'tried' overran its deadline)"
    assert expected in caplog.text
    assert "SIGKILL" not in caplog.text
