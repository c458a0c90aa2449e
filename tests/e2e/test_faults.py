"""Workers that die, models that hang or raise, callers who leave: what the others notice."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support.asking import Answer, Client, ask, connect, numbers
from support.custom import write_model
from support.serving import Server, serving, until

pytestmark = pytest.mark.e2e

INFER = "/v2/models/m/infer"
BUSY = "time.sleep(0.005)\nreturn x * 2"


class Load:
    """Clients that send requests without a pause and check every answer against its request."""

    def __init__(self, url: str, clients: int) -> None:
        self.counts = [0] * clients
        self.failures: list[Any] = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(index,)) for index in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads), "a request hangs"

    def wait_progress(self) -> None:
        """Wait until every client has two more answers; the first may be to an earlier request."""
        before = list(self.counts)
        until(
            lambda: (
                self.failures
                or all(now >= then + 2 for now, then in zip(self.counts, before, strict=True))
            ),
            30,
            "every client continues",
        )

    def _run(self, index: int) -> None:
        nonce = float(index)
        with Client(self._url) as client:
            while not self._stop.is_set():
                nonce += len(self.counts)
                try:
                    answer = client.ask("POST", INFER, numbers(nonce))
                    if answer.status != 200 or answer.json["outputs"][0]["data"] != [nonce * 2]:
                        self.failures.append((nonce, answer))
                except Exception as error:
                    self.failures.append((nonce, error))
                    return
                self.counts[index] += 1


def kill_worker(server: Server) -> int:
    """Kill the only worker once it exists; returns its process id."""
    (pid,) = until(server.workers, 60, "a worker exists")
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return pid


def test_killed_workers_cost_no_caller_an_answer(tmp_path: Path) -> None:
    folder = write_model(tmp_path, BUSY, row_independent=True)
    with serving(folder) as server, Load(server.http, 16) as load:
        for _ in range(5):
            # A request in flight at two deaths is refused on purpose, so all get past the first.
            load.wait_progress()
            time.sleep(random.uniform(0.1, 1.0))
            kill_worker(server)
        load.wait_progress()

    assert load.failures == []


def test_a_worker_killed_while_it_loads_again_costs_no_caller_an_answer(tmp_path: Path) -> None:
    folder = write_model(tmp_path, BUSY, load="time.sleep(0.4)", row_independent=True)
    with serving(folder) as server, Load(server.http, 16) as load:
        load.wait_progress()
        first = kill_worker(server)
        for _ in range(2):
            until(lambda: [pid for pid in server.workers() if pid != first], 60, "a new worker")
            time.sleep(random.uniform(0.0, 0.3))
            kill_worker(server)
        load.wait_progress()

    assert load.failures == []


def test_with_two_workers_a_killed_one_costs_no_caller_an_answer(tmp_path: Path) -> None:
    folder = write_model(tmp_path, BUSY, row_independent=True, instances=2)
    with serving(folder, "--parallel-workers", 2) as server, Load(server.http, 16) as load:
        for _ in range(4):
            load.wait_progress()
            workers = until(
                lambda: len(pids := server.workers()) == 2 and pids, 10, "both workers are up"
            )
            os.kill(random.choice(workers), signal.SIGKILL)
        load.wait_progress()

    assert load.failures == []


def test_a_request_that_kills_the_worker_twice_is_refused_and_the_next_is_fine(
    tmp_path: Path,
) -> None:
    predict = "if x[0] < 0: os._exit(1)\nreturn x * 2"
    with serving(write_model(tmp_path, predict)) as server:
        refused = ask(server.http, "POST", INFER, numbers(-1))
        fine = ask(server.http, "POST", INFER, numbers(4))

        assert refused.status == 500
        assert refused.json["code"] == "poisoned"
        assert fine.json["outputs"][0]["data"] == [8.0]


def test_a_hanging_model_costs_its_neighbours_in_the_worker_nothing(tmp_path: Path) -> None:
    write_model(tmp_path, BUSY, row_independent=True)
    write_model(tmp_path, "time.sleep(600)", name="hangs", infer_timeout=0.5)
    with serving(tmp_path) as server, Load(server.http, 8) as load:
        for _ in range(3):
            load.wait_progress()
            assert ask(server.http, "POST", "/v2/models/hangs/infer", numbers(1)).status == 504
        load.wait_progress()

    assert load.failures == []


def test_readiness_follows_a_worker_that_restarts(tmp_path: Path) -> None:
    gated = "while not os.path.exists(f'{HERE}/go'): time.sleep(0.01)"
    folder = write_model(tmp_path, load=gated)
    (folder / "go").touch()
    with serving(folder) as server:
        (folder / "go").unlink()
        kill_worker(server)
        until(lambda: ask(server.http, "GET", "/v2/health/ready").status == 503, 20, "not ready")
        assert ask(server.http, "GET", "/v2/models/m/ready").status == 503
        assert ask(server.http, "GET", "/v2/health/live").status == 200
        (folder / "go").touch()
        until(lambda: ask(server.http, "GET", "/v2/health/ready").status == 200, 30, "ready")

        assert (
            "headrace_worker_restarts_total 1.0"
            in ask(server.metrics, "GET", "/metrics").body.decode()
        )


def test_more_requests_than_may_wait_are_refused_at_once(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "time.sleep(0.5)\nreturn x * 2")
    with ThreadPoolExecutor(10) as threads, serving(folder, "--max-queue-size", 3) as server:
        answers = list(
            threads.map(lambda n: ask(server.http, "POST", INFER, numbers(n)), range(10))
        )

        served = [answer for answer in answers if answer.status == 200]
        refused = [answer for answer in answers if answer.status == 503]
        assert len(served) >= 3
        assert len(refused) >= 5
        assert len(served) + len(refused) == 10
        assert {answer.json["code"] for answer in refused} == {"overloaded"}
        assert all("retry-after" in answer.headers for answer in refused)
        assert "--max-queue-size" in refused[0].json["error"]


@pytest.fixture(scope="module")
def moody(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model that 1 makes sleep, 2 raise, 3 print 50 MB and 4 exit; anything else is doubled."""
    predict = """
        mood = x[0]
        if mood == 1:
            time.sleep(float(x[1]))
        if mood == 2:
            raise RuntimeError("the secret ingredient is 4711")
        if mood == 3:
            for _ in range(50):
                print("x" * 1_000_000)
        if mood == 4:
            sys.exit(3)
        with open(os.path.join(HERE, "seen"), "a") as seen:
            seen.write(f"{x[1]:g} ")
        return x * 2
    """
    folder = write_model(tmp_path_factory.mktemp("moody"), predict)
    with serving(folder, "--infer-timeout", 2) as server:
        server.seen = lambda: (folder / "seen").read_text().split()
        yield server


def infer(server: Server, *values: float, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(server.http, "POST", INFER, numbers(*values), named)


def require_well(server: Server) -> None:
    assert infer(server, 0, 21).json["outputs"][0]["data"] == [0.0, 42.0]


def log_lines(server: Server, request_id: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("request_id") == request_id]


def test_a_model_that_hangs_is_ended_at_the_infer_timeout(moody: Server) -> None:
    answer = infer(moody, 1, 600)

    assert answer.status == 504
    assert answer.json["code"] == "deadline_exceeded"
    require_well(moody)


def test_the_callers_own_deadline_is_kept(moody: Server) -> None:
    # Within the server's own timeout it would be answered.
    answer = infer(moody, 1, 1, X_Request_Timeout="0.3")

    assert answer.status == 504
    require_well(moody)


def test_an_impatient_caller_does_not_end_the_worker(moody: Server) -> None:
    before = moody.workers()
    assert infer(moody, 1, 0.8, X_Request_Timeout="0.1").status == 504
    require_well(moody)

    assert moody.workers() == before


@pytest.mark.parametrize("given", ["0", "-1", "soon", "nan", "inf", "1e99"])
def test_a_deadline_that_is_not_a_time_is_refused(moody: Server, given: str) -> None:
    answer = infer(moody, 0, 0, X_Request_Timeout=given)

    assert answer.status == 400
    assert "X-Request-Timeout" in answer.json["error"]


def test_the_details_of_a_model_that_raises_are_only_in_the_log(
    moody: Server,
) -> None:
    answer = infer(moody, 2, 0, X_Request_Id="trace-me-1")

    assert answer.status == 500
    assert answer.json["code"] == "model_error"
    assert "'m'" in answer.json["error"]
    for secret in (b"4711", b"RuntimeError", b"Traceback", b"/"):
        assert secret not in answer.body
    assert answer.headers["x-request-id"] == "trace-me-1"
    lines = log_lines(moody, "trace-me-1")
    assert any("secret ingredient is 4711" in line.get("traceback", "") for line in lines), lines
    assert any(line.get("status") == 500 for line in lines), lines
    require_well(moody)


def test_a_failure_is_found_in_the_log_by_the_header_even_when_the_body_has_an_id(
    moody: Server,
) -> None:
    body = {**numbers(2, 0), "id": "of-the-body"}
    answer = ask(moody.http, "POST", INFER, body, {"X-Request-Id": "of-the-head"})

    assert answer.headers["x-request-id"] == "of-the-head"
    assert any("traceback" in line for line in log_lines(moody, "of-the-head"))


def test_request_ids_are_echoed_or_made(moody: Server) -> None:
    given = infer(moody, 0, 0, X_Request_Id="abc-123")
    named = ask(moody.http, "POST", INFER, {**numbers(0, 0), "id": "mine"})
    made = [infer(moody, 0, 0) for _ in range(2)]
    forged = infer(moody, 0, 0, X_Request_Id="a b" + "c" * 300)

    assert given.headers["x-request-id"] == "abc-123"
    assert named.json["id"] == "mine"
    assert len({answer.headers["x-request-id"] for answer in made} - {""}) == 2
    assert "c" * 300 not in forged.headers["x-request-id"]


def test_a_model_that_prints_fifty_megabytes_answers(moody: Server) -> None:
    assert infer(moody, 3, 7).json["outputs"][0]["data"] == [6.0, 14.0]
    assert moody.output().count("\n") == 1, "standard output belongs to the ready line"
    require_well(moody)


def test_a_model_that_calls_sys_exit_fails_that_request_at_once(moody: Server) -> None:
    answer = infer(moody, 4, 0)

    assert answer.status == 500
    assert answer.json["code"] == "model_error"
    require_well(moody)


def test_a_caller_who_leaves_the_queue_is_never_executed(moody: Server) -> None:
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(infer, moody, 1, 1)
        time.sleep(0.3)
        with connect(moody.http) as leaver:
            body = json.dumps(numbers(0, 666)).encode()
            head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            leaver.sendall(head.encode() + body)
            neighbour = threads.submit(infer, moody, 0, 777)
            time.sleep(0.3)

        assert slow.result().status == 200
        assert neighbour.result().json["outputs"][0]["data"] == [0.0, 1554.0]
    require_well(moody)
    assert "777" in moody.seen()
    assert "666" not in moody.seen()
