"""Models that hang or are slow"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from support.asking import ask, numbers
from support.custom import write_model
from support.fault_table import fault
from support.serving import until
from support.stage import Stage

FAST = "time.sleep(0.002)\nreturn x * 2"
# Both transports' words for a deadline that has passed.
LATE = ("504 deadline_exceeded", "DEADLINE_EXCEEDED")
TIMEOUT = 0.5
START = 60.0
# Two batches, each of the requests that arrived while the one before ran.
MOST_IN_A_WORKER = 64
# So many that ask at moments of their own keep both workers busy. Requests at a steady rate leave
# one of them idle, and a stopped worker that holds nobody up may stay.
CROWD = 4
# ctypes keeps the interpreter's lock during calls of a `PyDLL`.
HOLDS_THE_LOCK = "import ctypes; ctypes.PyDLL(None).sleep(600)"


def hang_beside(stage: Stage, predict: str) -> None:
    """Ask a model that hangs, in one worker with another one that has the load."""
    write_model(stage.folder, FAST, row_independent=True)
    write_model(stage.folder, predict, name="hangs", infer_timeout=TIMEOUT)
    overrun = []

    def hang() -> None:
        began = time.monotonic()
        answer = ask(server.http, "POST", "/v2/models/hangs/infer", numbers(1))
        overrun.append(time.monotonic() - began - TIMEOUT)
        assert answer.status == 504, answer

    with stage.serving(stage.folder) as server:
        stage.repeat(server, hang, "m")
    stage.record(refused_after_its_deadline_at_the_latest=f"{max(overrun) * 1000:.0f} ms")


@fault(
    "endless-loop",
    promise="A model in an endless loop is refused at its deadline and its worker replaced; the "
    "other models of the worker go on.",
    bar="504 within 100 ms of the deadline, 0 failed beside it",
    each=1.2,
)
def test_an_endless_loop_costs_its_neighbours_in_the_worker_nothing(stage: Stage) -> None:
    hang_beside(stage, "while True: pass")


@fault(
    "lock-held",
    promise="A call in C that holds the interpreter's lock stops the whole worker; the others' "
    "requests are answered by the next one.",
    bar="504 within 100 ms of the deadline, 0 failed beside it",
    each=2.2,
)
def test_a_call_that_holds_the_interpreters_lock_costs_its_neighbours_no_answer(
    stage: Stage,
) -> None:
    hang_beside(stage, HOLDS_THE_LOCK)


@fault(
    "worker-stopped",
    promise="A worker that is stopped (SIGSTOP) is replaced at the deadline of the first request "
    "that it holds up; only the requests in it are refused, with 504.",
    bar="50 times, 0 others failed",
    each=2.0,
)
def test_a_stopped_worker_costs_only_the_requests_that_are_in_it(stage: Stage) -> None:
    loaded = "open(f'{HERE}/loaded-{os.getpid()}', 'w').close()"
    folder = write_model(
        stage.folder, FAST, loaded, row_independent=True, instances=2, infer_timeout=TIMEOUT
    )

    def workers() -> list[int]:
        """Both workers, once both have loaded the model."""
        pids = [pid for pid in server.workers() if (folder / f"loaded-{pid}").exists()]
        return pids if len(pids) == 2 else []

    def stop_one() -> None:
        stopped = random.choice(until(workers, START, "two workers"))
        os.kill(stopped, signal.SIGSTOP)
        until(lambda: not Path(f"/proc/{stopped}").exists(), START, "it is replaced")

    # One that is stopped between the load and its answer has only this time.
    with stage.serving(folder, "--parallel-workers", 2, "--load-timeout", 10) as server:
        stage.repeat(server, stop_one, may=LATE, clients=CROWD)
    assert stage.load["refused"] <= stage.times * MOST_IN_A_WORKER


@fault(
    "slow-beside-fast",
    promise="A slow model does not hold up a fast one in the same worker.",
    bar="99 % of the fast one's requests within 50 ms, 0 failed",
    each=0.5,
)
def test_a_slow_model_does_not_hold_up_a_fast_one_in_its_worker(stage: Stage) -> None:
    slow = "time.sleep(0.2)\nends = time.monotonic() + 0.1\nwhile time.monotonic() < ends: pass\n"
    write_model(stage.folder, FAST, row_independent=True)
    write_model(stage.folder, slow + "return x", name="slow")

    def ask_slow() -> None:
        assert ask(server.http, "POST", "/v2/models/slow/infer", numbers(1)).status == 200

    with stage.serving(stage.folder) as server:
        stage.repeat(server, ask_slow, "m")
