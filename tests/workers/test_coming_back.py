"""A model whose worker died comes back on its own. Every worker here is a real process."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from headrace.batching.batcher import Batcher
from headrace.batching.limits import BatchLimits
from headrace.errors import ModelNotReady
from headrace.executors import retry, worker_slot
from headrace.executors.pool import WorkerPool
from headrace.executors.worker_slot import DEATHS_BEFORE_TRIAL
from support.pool import answer, request, run, soon, write_model


def test_a_killed_worker_comes_back_with_its_models(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", write_model(tmp_path, "return x * 2"))
        batcher = Batcher(lambda r, d: pool.infer("m", r, d), BatchLimits())
        first = pool.pids[0]
        os.kill(first, signal.SIGKILL)

        assert answer(await batcher.submit(request(1.0), soon())) == [2.0]
        assert pool.pids != [first]

    run(test)


def test_a_model_that_does_not_come_back_in_time_says_so(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        hang = f"if os.path.exists({str(tmp_path / 'again')!r}):\n    time.sleep(600)"
        await pool.load("m", write_model(tmp_path, "return x", hang))
        (tmp_path / "again").touch()
        pool._slots[0].load_timeout = 0.2
        os.kill(pool.pids[0], signal.SIGKILL)
        while pool.is_up("m"):
            await asyncio.sleep(0)
        with pytest.raises(ModelNotReady, match="'tried' did not load again within 0.2 s"):
            await pool.infer("m", request(1.0), soon())

    run(test)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries that are short and do not grow."""
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.02)


LETHAL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("load", "timeout"),
    [
        pytest.param(LETHAL, 30, id="a worker that is killed"),
        pytest.param("os._exit(3)", 30, id="a worker that exits"),
        pytest.param("time.sleep(600)", 3, id="a load that hangs"),
        pytest.param("raise OSError('no route to host')", 30, id="a load that raises"),
    ],
)
def test_a_model_comes_back_on_its_own_however_often_its_load_failed(
    tmp_path: Path,
    load: str,
    timeout: float,
    short_pauses: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_slot, "PATIENT_DEATHS", 2)

    async def test(pool: WorkerPool) -> None:
        fails = f"""
            os.chdir({str(tmp_path)!r})
            if os.path.exists("fails"):
                open("tries", "a").write("x")
                {load}
        """
        await pool.load("m", write_model(tmp_path, "return x * 2", fails))
        slot, tries = pool._slots[0], tmp_path / "tries"
        slot.load_timeout = timeout
        (tmp_path / "fails").touch()
        os.kill(pool.pids[0], signal.SIGKILL)
        while not tries.exists() or len(tries.read_text()) <= worker_slot.PATIENT_DEATHS:
            await asyncio.sleep(0)
        assert not pool.is_up("m")
        assert re.search("did not load again.*(next try in|trying again)", pool.trouble("m"))
        slot.load_timeout = 30.0
        (tmp_path / "fails").unlink()
        while not pool.is_up("m"):
            await asyncio.sleep(0)

        assert answer(await pool.infer("m", request(1.0), soon())) == [2.0]
        assert slot.retries == {}

    run(test)


def test_requests_wait_while_a_worker_is_killed_a_few_times(
    tmp_path: Path, short_pauses: None
) -> None:
    async def test(pool: WorkerPool) -> None:
        twice = f"""
            os.chdir({str(tmp_path)!r})
            for name in ("first", "second"):
                if os.path.exists(name):
                    os.unlink(name)
                    {LETHAL}
        """
        await pool.load("m", write_model(tmp_path, "return x * 2", twice))
        (tmp_path / "first").touch()
        (tmp_path / "second").touch()
        os.kill(pool.pids[0], signal.SIGKILL)
        batcher = Batcher(lambda r, d: pool.infer("m", r, d), BatchLimits())

        assert answer(await batcher.submit(request(1.0), soon())) == [2.0]

    run(test)


def test_a_model_that_keeps_ending_its_worker_is_tried_away_from_its_neighbours(
    tmp_path: Path, short_pauses: None
) -> None:
    async def test(pool: WorkerPool) -> None:
        lethal = f"""
            os.chdir({str(tmp_path)!r})
            if os.path.exists("fails"):
                {LETHAL}
        """
        for name, load in (("lethal", lethal), ("neighbour", "pass")):
            (tmp_path / name).mkdir()
            await pool.load(name, write_model(tmp_path / name, "return x * 2", load))
        (tmp_path / "fails").touch()
        os.kill(pool.pids[0], signal.SIGKILL)
        slot = pool._slots[0]
        while "lethal" not in slot.retries or slot.retries["lethal"].failures < 5:
            await asyncio.sleep(0)

        # The first death, and those of the first tries.
        assert pool.restarts == 1 + DEATHS_BEFORE_TRIAL
        assert answer(await pool.infer("neighbour", request(1.0), soon())) == [2.0]
        (tmp_path / "fails").unlink()
        while not pool.is_up("lethal"):
            await asyncio.sleep(0)

    run(test)


def test_a_model_that_is_unloaded_is_not_tried_again(tmp_path: Path, short_pauses: None) -> None:
    async def test(pool: WorkerPool) -> None:
        fails = f"""
            os.chdir({str(tmp_path)!r})
            if os.path.exists("fails"):
                raise OSError("no")
        """
        await pool.load("m", write_model(tmp_path, "return x", fails))
        (tmp_path / "fails").touch()
        os.kill(pool.pids[0], signal.SIGKILL)
        slot = pool._slots[0]
        while "m" not in slot.retries:
            await asyncio.sleep(0)
        await pool.unload("m")
        (tmp_path / "fails").unlink()
        (tmp_path / "other").mkdir()
        await pool.load("other", write_model(tmp_path / "other", "return x"))

        assert slot.loaded == {"other"}
        assert slot.retries == {}

    run(test)


def test_a_model_that_hangs_while_coming_back_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_slot, "LONG_LOAD", 0.2)

    async def test(pool: WorkerPool) -> None:
        hangs = f"if os.path.exists({str(tmp_path / 'again')!r}):\n    time.sleep(600)"
        for name, load in (("hangs", hangs), ("neighbour", "pass")):
            (tmp_path / name).mkdir()
            await pool.load(name, write_model(tmp_path / name, "return x * 2", load))
        (tmp_path / "again").touch()
        os.kill(pool.pids[0], signal.SIGKILL)
        while pool.is_up("neighbour"):
            await asyncio.sleep(0)

        assert answer(await pool.infer("neighbour", request(1.0), soon())) == [2.0]
        assert not pool.is_up("hangs")

    run(test)
