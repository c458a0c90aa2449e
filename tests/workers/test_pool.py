"""Worker processes: load, answer, die, come back, stop. Every worker here is a real process."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.batching.batcher import Batcher
from headrace.batching.limits import BatchLimits
from headrace.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    LoadFailed,
    ModelFailed,
    Poisoned,
)
from headrace.executors.executor import WorkerLost
from headrace.executors.pool import BATCHES_PER_INSTANCE, WorkerPool
from headrace.executors.process import Environment, WorkerProcess
from headrace.settings import ModelSettings
from support.pool import answer, batcher_of, request, run, soon, write_model
from support.serving import until


def test_a_worker_answers(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", write_model(tmp_path, "return x * 2"))

        assert answer(await pool.infer("m", request(1.0, 2.0), soon())) == [2.0, 4.0]

    run(test)


def test_a_tensor_of_many_megabytes_crosses_both_ways_unchanged(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", write_model(tmp_path, "return x"))
        sent = np.random.default_rng(0).random(2_000_000)
        response = await pool.infer("m", request(*sent), soon())

        assert np.array_equal(np.frombuffer(response.outputs[0].data), sent)

    run(test)


def test_shared_memory_of_answers_is_given_back_in_the_worker(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        body = """
            import gc
            arenas = [each for each in gc.get_objects() if type(each).__name__ == "Arena"]
            return np.array([len(each._used) for each in arenas]) if len(x) == 1 else x
        """
        await pool.load("m", write_model(tmp_path, body))
        assert len(answer(await pool.infer("m", request(*np.zeros(100_000)), soon()))) == 100_000
        used = await pool.infer("m", request(1.0), soon())

        assert np.frombuffer(used.outputs[0].data, np.int64).tolist() == [0, 0]

    run(test)


@pytest.mark.parametrize("value", [2**64, "\ud800"], ids=["number", "text"])
def test_a_parameter_that_cannot_be_sent_is_refused_and_leaves_nothing(
    tmp_path: Path, value: object
) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", write_model(tmp_path, "return x"))
        large = request(*np.zeros(1_000_000))
        large.parameters = {"p": [value]}
        with pytest.raises(InvalidInput, match="^parameters hold"):
            await pool.infer("m", large, soon())
        with pytest.raises(InvalidInput, match="^parameters hold"):
            async for _ in pool.stream("m", large, soon()):
                pass
        channel = pool._slots[0].process.channel  # type: ignore[union-attr]

        assert channel._lent.held == 0
        assert channel.calls == len(channel._requests) == len(channel._pieces) == 0

    run(test)


def test_a_model_that_raises_is_a_model_error_without_its_text(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", write_model(tmp_path, "raise RuntimeError('secret')"))
        with pytest.raises(ModelFailed) as caught:
            await pool.infer("m", request(1.0), soon())

        assert "secret" not in str(caught.value)

    run(test)


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        pytest.param("raise ValueError('no such file')", "raised ValueError", id="raises"),
        pytest.param("return False", "returned False", id="returns False"),
        pytest.param("os._exit(3)", "worker process", id="exits"),
        pytest.param(
            "os.kill(os.getpid(), 40)",
            "killed by signal 40",
            id="is killed by a signal without a name",
        ),
    ],
)
def test_a_model_that_cannot_load_says_why(tmp_path: Path, load: str, reason: str) -> None:
    async def test(pool: WorkerPool) -> None:
        with pytest.raises(LoadFailed, match=reason):
            await pool.load("m", write_model(tmp_path, "return x", load))

    run(test)


def test_an_instance_that_fails_leaves_none_behind_where_the_load_continues(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        # Whichever comes first fails; the other one loads until it is let go.
        load = f"""
            os.chdir({str(tmp_path)!r})
            try:
                os.close(os.open("first", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                open("second", "w").close()
                while not os.path.exists("go"):
                    time.sleep(0.01)
                return
            while not os.path.exists("second"):
                time.sleep(0.01)
            raise ValueError("no")
        """
        settings = replace(write_model(tmp_path, "return x", load), instances=2)
        with pytest.raises(LoadFailed):
            await pool.load("m", settings)
        (tmp_path / "go").touch()
        await pool.load("m2", replace(settings, name="other"))

        assert [list(slot.orders) for slot in pool._slots] == [["m2"], ["m2"]]

    run(test, size=2)


def test_a_worker_that_cannot_be_watched_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def refuse(pid: int) -> int:
        seen.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="Too many"):
        asyncio.run(WorkerProcess.spawn(Environment(sys.executable)))

    assert not runs(seen[0])
    # A connection that is still open is a warning, and so a failure, when it is collected.
    gc.collect()


@pytest.mark.parametrize(
    "death",
    [
        pytest.param("signal.raise_signal(signal.SIGSEGV)", id="crashes"),
        pytest.param("os._exit(0)", id="exits with status 0"),
    ],
)
def test_a_request_that_kills_the_worker_is_tried_again_and_alone_and_then_refused(
    tmp_path: Path, death: str
) -> None:
    async def test(pool: WorkerPool) -> None:
        settings = write_model(tmp_path, f"if 13 in x:\n    {death}\nreturn x * 2")
        await pool.load("m", settings)
        batcher = batcher_of(pool, "m", max_batch_size=8)
        futures = [batcher.submit(request(value), soon()) for value in (1.0, 13.0, 2.0)]
        good, bad, fine = await asyncio.gather(*futures, return_exceptions=True)

        assert isinstance(bad, Poisoned)
        assert [answer(good), answer(fine)] == [[2.0], [4.0]]  # type: ignore[arg-type]
        assert pool.restarts == 2

    run(test)


def test_the_neighbour_of_a_request_that_kills_the_worker_is_answered(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        for name, body in (("deadly", "os._exit(1)"), ("slow", "time.sleep(0.5)\nreturn x * 2")):
            (tmp_path / name).mkdir()
            await pool.load(name, write_model(tmp_path / name, body))
        slow = batcher_of(pool, "slow").submit(request(1.0), soon())
        deadly = [batcher_of(pool, "deadly").submit(request(1.0), soon()) for _ in range(3)]
        refused = await asyncio.gather(*deadly, return_exceptions=True)

        assert all(isinstance(error, Poisoned) for error in refused)
        assert answer(await slow) == [2.0]

    run(test)


def test_a_model_that_hangs_is_ended_at_its_deadline_and_serves_again(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        settings = write_model(tmp_path, "if x[0] == 13:\n    time.sleep(600)\nreturn x * 2")
        await pool.load("m", settings)
        with pytest.raises(DeadlineExceeded):
            await pool.infer("m", request(13.0), soon(0.2))
        batcher = Batcher(lambda r, d: pool.infer("m", r, d), BatchLimits())

        assert answer(await batcher.submit(request(1.0), soon())) == [2.0]

    run(test)


def test_a_request_that_nobody_waits_for_is_not_begun(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        body = f"""
            os.chdir({str(tmp_path)!r})
            open("begun", "a").write(str(x[0]))
            while os.path.exists("hold"):
                time.sleep(0.01)
            return x
        """
        settings = write_model(tmp_path, body)
        await pool.load("m", settings)
        (tmp_path / "hold").touch()
        left = request(2.0)
        calls = [asyncio.create_task(pool.infer("m", r, soon())) for r in (request(1.0), left)]
        while not (tmp_path / "begun").exists():
            await asyncio.sleep(0)
        pool.withdraw(left)
        # The worker reads in order, so that it then knows of the withdrawal.
        await pool.load("other", settings)
        (tmp_path / "hold").unlink()
        with pytest.raises(Cancelled):
            await calls[1]

        assert (tmp_path / "begun").read_text() == "1.0"
        assert answer(await calls[0]) == [1.0]

    run(test)


def test_a_model_that_is_unloaded_while_others_come_back_stays_away(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        hold = f"""
            os.chdir({str(tmp_path)!r})
            open("began", "a").close()
            while os.path.exists("hold"):
                time.sleep(0.01)
        """
        for name, load in (("held", hold), ("gone", "pass"), ("new", "pass")):
            (tmp_path / name).mkdir()
            settings = write_model(tmp_path / name, "return x", load)
            if name != "new":
                await pool.load(name, settings)
        (tmp_path / "began").unlink()
        (tmp_path / "hold").touch()
        os.kill(pool.pids[0], signal.SIGKILL)
        while not (tmp_path / "began").exists():
            await asyncio.sleep(0)
        await pool.unload("gone")
        (tmp_path / "hold").unlink()
        await pool.infer("held", request(1.0), soon())
        await pool.load("new", settings)

        assert pool._slots[0].loaded == {"held", "new"}

    run(test)


def test_a_slow_model_delays_no_other_model_of_its_worker(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        await pool.load("slow", write_model(tmp_path / "a", "time.sleep(600)"))
        await pool.load("fast", write_model(tmp_path / "b", "return x * 2"))
        stuck = asyncio.create_task(pool.infer("slow", request(1.0), soon()))
        await asyncio.sleep(0)

        assert answer(await pool.infer("fast", request(1.0), soon(10))) == [2.0]
        stuck.cancel()

    run(test)


def test_instances_are_spread_over_the_workers(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        settings = write_model(tmp_path, "time.sleep(0.3)\nreturn x * 0 + os.getpid()")
        await pool.load("m", ModelSettings(**{**settings.to_dict(), "instances": 2}))
        calls = [pool.infer("m", request(1.0), soon()) for _ in range(2)]
        pids = {answer(response)[0] for response in await asyncio.gather(*calls)}

        assert pool.slots("m") == 2 * BATCHES_PER_INSTANCE
        assert pids == set(pool.pids)

    run(test, size=2)


def test_coroutine_models_run(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        settings = write_model(tmp_path, "return x + 1")
        file = next(tmp_path.glob("tried_*.py"))
        file.write_text(file.read_text().replace("    def ", "    async def "))
        await pool.load("m", settings)

        assert answer(await pool.infer("m", request(1.0), soon())) == [2.0]

    run(test)


def test_an_unloaded_model_is_gone_and_the_worker_stays(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", write_model(tmp_path, "return x"))
        pids = pool.pids
        await pool.unload("m")

        assert not pool.is_up("m")
        assert pool.pids == pids

    run(test)


def test_stop_leaves_no_process(tmp_path: Path) -> None:
    async def main() -> int:
        pool = WorkerPool(Environment(sys.executable), 1, load_timeout=30)
        await pool.load("m", write_model(tmp_path, "time.sleep(600)"))
        running = asyncio.create_task(pool.infer("m", request(1.0), soon()))
        await asyncio.sleep(0)
        pid = pool.pids[0]
        await pool.stop()
        with pytest.raises(WorkerLost):
            await running
        return pid

    with pytest.raises(ProcessLookupError):
        os.kill(asyncio.run(main()), 0)


def test_what_a_model_started_ends_with_its_worker(tmp_path: Path) -> None:
    started: list[int] = []

    async def test(pool: WorkerPool) -> None:
        body = "return x + __import__('subprocess').Popen(['sleep', '600']).pid"
        await pool.load("a", write_model(tmp_path, body))
        started.append(int(answer(await pool.infer("a", request(0), soon()))[0]))

    run(test)

    until(lambda: not runs(started[0]), 60, "the model's own process has ended")


def runs(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_what_a_model_prints_stays_off_standard_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", write_model(tmp_path, "print('noise', flush=True)\nreturn x"))
        await pool.infer("m", request(1.0), soon())

    run(test)

    assert "noise" not in capfd.readouterr().out


def test_more_instances_than_workers_are_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(pool: WorkerPool) -> None:
        await pool.load("m", replace(write_model(tmp_path, "return x"), instances=3))

    run(test)

    assert "asks for 3 instances and gets 1, one for each worker" in caplog.text


def test_a_worker_that_is_stopped_lets_its_models_free_what_they_hold(tmp_path: Path) -> None:
    settings = write_model(tmp_path, "return x")
    file = next(tmp_path.glob("tried_*.py"))
    freed = f"\n    def unload(self):\n        open({str(tmp_path / 'freed')!r}, 'w').close()\n"
    file.write_text(file.read_text() + freed)

    async def test(pool: WorkerPool) -> None:
        await pool.load("m", settings)

    run(test)

    assert (tmp_path / "freed").exists()


def test_a_model_that_raises_worker_crashed_has_failed(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        body = "from headrace.errors import WorkerCrashed\nraise WorkerCrashed('me')"
        await pool.load("m", write_model(tmp_path, body))
        with pytest.raises(ModelFailed):
            await pool.infer("m", request(1.0), soon())

    run(test)


def test_a_process_that_a_model_forks_ends_with_sigterm(tmp_path: Path) -> None:
    async def test(pool: WorkerPool) -> None:
        body = """
            child = os.fork()
            if not child:
                time.sleep(30)
                os._exit(0)
            # At once, as a pool of `multiprocessing` does that has nothing left to do.
            os.kill(child, signal.SIGTERM)
            return np.array([float(os.waitpid(child, 0)[1])])
        """
        await pool.load("m", write_model(tmp_path, body))

        assert answer(await pool.infer("m", request(1.0), soon())) == [signal.SIGTERM]

    run(test)
