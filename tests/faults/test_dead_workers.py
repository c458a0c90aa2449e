"""Workers that die"""

from __future__ import annotations

import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor

from support.asking import ask, numbers
from support.custom import write_model
from support.fault_table import fault
from support.memory_group import memory_group
from support.serving import Server, until
from support.stage import Stage

BUSY = "time.sleep(0.005)\nreturn x * 2"
START = 60.0
# 0.5 takes the model a moment; a negative number ends the worker.
MATES = 8
POISONED = """
if (x == 0.5).any(): time.sleep(0.3)
if (x < 0).any(): os._exit(1)
return x * 2
"""
# Of the server and its workers together.
LIMIT = 600 << 20


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def all_workers(server: Server, count: int) -> list[int]:
    """The workers, once as many are there as should be."""
    return until(lambda: len(pids := server.workers()) == count and pids, START, "workers are up")


@fault(
    "worker-killed",
    promise="A worker that is killed in the middle of a batch costs no caller an answer: the batch "
    "runs again in another worker.",
    bar="100 kills, 0 failed",
    per_round=2,
    each=0.6,
    priority=1,
)
def test_a_killed_worker_costs_no_caller_an_answer(stage: Stage) -> None:
    folder = write_model(stage.folder, BUSY, row_independent=True, instances=2)
    with stage.serving(folder, "--parallel-workers", 2) as server:
        stage.repeat(server, lambda: kill(random.choice(all_workers(server, 2))))
        all_workers(server, 2)


@fault(
    "all-workers-killed",
    promise="All workers killed at the same moment: each comes back, and requests wait for them.",
    bar="50 times, 0 failed",
    each=0.8,
    priority=1,
)
def test_all_workers_killed_at_once_cost_no_caller_an_answer(stage: Stage) -> None:
    folder = write_model(stage.folder, BUSY, row_independent=True, instances=3)
    with stage.serving(folder, "--parallel-workers", 3) as server:
        stage.repeat(server, lambda: kill(*all_workers(server, 3)))
        all_workers(server, 3)


@fault(
    "worker-exits",
    promise="A model that ends its process with status 0 has died like any other, and the request "
    "that it was working on is answered by the next worker.",
    bar="50 times, 0 failed",
    each=0.6,
)
def test_a_worker_that_exits_with_zero_costs_no_caller_an_answer(stage: Stage) -> None:
    exits = "if os.path.exists(f'{HERE}/exit'): os.unlink(f'{HERE}/exit'); os._exit(0)\n"
    folder = write_model(stage.folder, exits + BUSY, row_independent=True)

    def end_a_worker() -> None:
        (folder / "exit").touch()
        until(lambda: not (folder / "exit").exists(), START, "the model exits")

    with stage.serving(folder) as server:
        stage.repeat(server, end_a_worker)


@fault(
    "poison-request",
    promise="A request that ends every worker it runs in is refused; the seven that were merged "
    "with it are answered, and so is everybody else of that worker.",
    bar="7 of 8 right, the eighth refused",
    each=2.0,
    priority=1,
)
def test_seven_of_eight_batch_mates_of_a_poison_request_are_answered(stage: Stage) -> None:
    write_model(stage.folder, BUSY, row_independent=True)
    write_model(stage.folder, POISONED, name="poisoned", row_independent=True, max_batch_size=MATES)
    refusals = []

    def poison() -> None:
        def infer(number: float) -> tuple[float, int, bytes]:
            answer = ask(server.http, "POST", "/v2/models/poisoned/infer", numbers(number))
            return number, answer.status, answer.body if answer.status != 200 else b""

        good = [float(number) for number in range(1, MATES)]
        # Two that keep the model busy, so that the others meet in one batch.
        answers = list(pool.map(infer, [0.5, 0.5, *good[:3], -1.0, *good[3:]]))
        assert [each for each in answers if each[0] > 0 and each[1] != 200] == []
        refusals.extend(status for number, status, _ in answers if number < 0)

    with ThreadPoolExecutor(MATES + 2) as pool, stage.serving(stage.folder) as server:
        stage.repeat(server, poison)
    stage.record(refused_with=sorted(set(refusals)))
    assert set(refusals) <= {500, 503}


@fault(
    "memory-limit",
    promise="A request for which the model gets no memory is an error of that request only.",
    bar="50 times, 0 failed beside it",
    each=0.3,
)
def test_a_request_without_memory_for_it_fails_alone(stage: Stage) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))"
    write_model(stage.folder, BUSY, row_independent=True)
    own_worker = {"inference_pool_gid": "greedy"}
    write_model(
        stage.folder, "return np.ones(1 << 33)", limit, name="greedy", parameters=own_worker
    )

    def ask_too_much() -> None:
        answer = ask(server.http, "POST", "/v2/models/greedy/infer", numbers(1))
        assert answer.status in (500, 507), answer

    with stage.serving(stage.folder) as server:
        stage.repeat(server, ask_too_much, "m")


@fault(
    "out-of-memory",
    promise="A worker that the kernel kills for lack of memory is replaced; the request that asked "
    "for the memory is refused, and nobody else is.",
    bar="50 times, 0 failed beside it",
    each=2.5,
)
def test_a_worker_that_the_kernel_kills_for_lack_of_memory_costs_only_its_request(
    stage: Stage,
) -> None:
    greedy = f"if x[0] < 0: x = np.ones({LIMIT // 4})\nreturn x[:1] * 2"
    write_model(stage.folder, BUSY, row_independent=True)
    own_worker = {"inference_pool_gid": "greedy"}
    write_model(stage.folder, greedy, name="greedy", parameters=own_worker)

    def ask_too_much() -> None:
        answer = ask(server.http, "POST", "/v2/models/greedy/infer", numbers(-1))
        assert answer.status == 500, answer
        assert answer.json["code"] == "poisoned"
        answer = ask(server.http, "POST", "/v2/models/greedy/infer", numbers(3))
        assert answer.status == 200, answer

    with memory_group(LIMIT) as group:
        python = stage.python_with(f"echo $$ > {group}/cgroup.procs")
        with stage.serving(stage.folder, python=python) as server:
            stage.repeat(server, ask_too_much, "m")
