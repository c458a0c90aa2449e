"""Workers that something outside kills: what becomes of the requests and models in them.

Every worker here is a real process. What kills it may be its own model: nobody can tell.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.batching.entry import MOST_KILLS, SUSPECT_KILLS
from headrace.errors import Poisoned, WorkerCrashed
from headrace.executors.pool import WorkerPool
from headrace.protocol.error_table import row
from support.pool import answer, batcher_of, request, run, soon, write_model


def killing(kills: Path, most: int, condition: str = "True") -> str:
    """The body of a model whose worker is killed for the first so many requests that meet this."""
    return f"""
        if {condition}:
            with open({str(kills)!r}, "a") as file:
                file.write(".")
                file.flush()
                if file.tell() <= {most}:
                    os.kill(os.getpid(), signal.SIGKILL)
        return x * 2
    """


def test_a_request_whose_workers_are_killed_is_tried_until_one_is_not(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", write_model(tmp_path, killing(tmp_path / "kills", MOST_KILLS)))

        assert answer(await batcher_of(pool, "m").submit(request(1.0), soon())) == [2.0]

    run(test)


def test_a_request_that_is_killed_again_and_again_where_nothing_else_runs_is_poisoned(
    tmp_path: Path,
) -> None:
    async def test(pool: WorkerPool) -> None:
        body = killing(tmp_path / "kills", 1000, "13 in x")
        await pool.load("m", write_model(tmp_path, body))
        batcher = batcher_of(pool, "m", max_batch_size=8)
        futures = [batcher.submit(request(float(value)), soon()) for value in range(10, 18)]
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        bad = outcomes.pop(3)

        assert isinstance(bad, Poisoned)
        assert [answer(each) for each in outcomes] == [  # type: ignore[arg-type]
            [2.0 * value] for value in range(10, 18) if value != 13
        ]
        assert len((tmp_path / "kills").read_text()) == MOST_KILLS + 1
        assert pool.restarts == SUSPECT_KILLS

    run(test)


def test_a_request_that_is_killed_until_its_time_is_up_may_be_asked_again_later(
    tmp_path: Path,
) -> None:
    async def test(pool: WorkerPool) -> None:
        file = tmp_path / "again"
        # As if somebody killed it in the middle, and its next worker as soon as that is there.
        load = f"if os.path.exists({str(file)!r}):\n    os.kill(os.getpid(), signal.SIGKILL)"
        body = f"open({str(file)!r}, 'w').close()\nos.kill(os.getpid(), signal.SIGKILL)"
        await pool.load("m", write_model(tmp_path, body, load))
        limits = {"infer_timeout": 2.0}
        with pytest.raises(WorkerCrashed, match="was killed, and there was no time") as caught:
            await batcher_of(pool, "m", **limits).submit(request(1.0), soon(2.0))

        assert row(caught.value).status == 503
        assert row(caught.value).retry_after

    run(test)


def test_a_worker_of_a_suspect_that_is_killed_while_it_loads_is_no_evidence(
    tmp_path: Path,
) -> None:
    async def test(pool: WorkerPool) -> None:
        kills, loads = tmp_path / "kills", tmp_path / "loads"
        load = f"""
            with open({str(loads)!r}, "a") as file:
                file.write(".")
                file.flush()
                if {SUSPECT_KILLS} < file.tell() < {SUSPECT_KILLS + MOST_KILLS + 5}:
                    os.kill(os.getpid(), signal.SIGKILL)
        """
        await pool.load("m", write_model(tmp_path, killing(kills, SUSPECT_KILLS), load))

        assert answer(await batcher_of(pool, "m").submit(request(1.0), soon())) == [2.0]

    run(test)
