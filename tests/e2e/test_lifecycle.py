"""The end of a server: what it finishes, what it refuses, and that nothing is left."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.asking import Answer, Client, ask, connect, numbers
from support.custom import write_model
from support.serving import Server, serving, starting, until

pytestmark = pytest.mark.e2e

INFER = "/v2/models/m/infer"
READY = "/v2/health/ready"
# Longer than a test waits for anything.
PATIENT = ("--infer-timeout", 600, "--drain-timeout", 600)
# Sleeps for as many seconds as the first number says.
SLEEPER = "time.sleep(abs(float(x.flat[0])))\nreturn x * 2"


def in_flight(server: Server) -> int:
    """Requests that the server's model queues or runs."""
    text = ask(server.metrics, "GET", "/metrics").body.decode()
    (line,) = (row for row in text.splitlines() if row.startswith("headrace_in_flight_requests{"))
    return int(float(line.split()[-1]))


def infer(server: Server, *values: float) -> Answer:
    return ask(server.http, "POST", INFER, numbers(*values))


def test_fifty_slow_requests_are_answered_after_sigterm(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "time.sleep(1)\nreturn x * 2", row_independent=True)
    with ThreadPoolExecutor(50) as threads, serving(folder) as server:
        calls = [threads.submit(infer, server, nonce) for nonce in range(50)]
        until(lambda: in_flight(server) == 50, 20, "fifty requests are in flight")
        server.signal()
        draining = until(
            lambda: (answer := ask(server.http, "GET", READY)).status == 503 and answer,
            20,
            "readiness turns",
        )
        late = ask(server.http, "POST", INFER, numbers(50))
        code = server.wait(20)
        answers = [call.result() for call in calls]

        assert code == 0
        assert draining.headers["connection"] == "close"
        assert "draining" in draining.json["error"]
        assert late.status == 200, late
        assert late.headers["connection"] == "close"
        for nonce, answer in enumerate(answers):
            assert answer.status == 200, answer
            assert answer.json["outputs"][0]["data"] == [nonce * 2.0]
            assert answer.headers["connection"] == "close"


def test_idle_connections_do_not_delay_the_exit(tmp_path: Path) -> None:
    long = ("--header-timeout", 600, "--keep-alive-timeout", 600, *PATIENT)
    with serving(write_model(tmp_path), *long) as server:
        clients = [Client(server.http) for _ in range(20)]
        for client in clients:
            assert client.ask("POST", INFER, numbers(1)).status == 200
        untouched = connect(server.http)
        server.signal()

        assert server.wait(60) == 0
        for client in clients:
            client.__exit__()
        untouched.close()


def test_requests_that_have_begun_to_arrive_are_answered(tmp_path: Path) -> None:
    body = json.dumps(numbers(1)).encode()
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (
        INFER.encode(),
        len(body),
    )
    whole = head + body
    with serving(write_model(tmp_path), *PATIENT) as server:
        begun = [(connect(server.http), at) for at in (1, 20, len(head), len(head) + 5)]
        for sock, at in begun:
            sock.sendall(whole[:at])
        # The server has read what was sent before.
        assert infer(server, 1).status == 200
        server.signal()
        until(lambda: ask(server.http, "GET", READY).status == 503, 20, "readiness turns")
        for sock, at in begun:
            sock.sendall(whole[at:])
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
            sock.close()

        assert server.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_end_the_server_like_sigterm(tmp_path: Path, number: int) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("the signal is ignored in this shell, so the server ignores it too")
    with serving(write_model(tmp_path)) as server:
        server.signal(number)

        assert server.wait(60) == 0


def test_a_second_signal_ends_the_server_at_once(tmp_path: Path) -> None:
    with (
        ThreadPoolExecutor() as threads,
        serving(write_model(tmp_path, SLEEPER), *PATIENT, exit_code=1) as server,
    ):
        call = threads.submit(infer, server, 600)
        until(lambda: in_flight(server) == 1, 60, "the request is in flight")
        server.signal()
        until(lambda: ask(server.http, "GET", READY).status == 503, 20, "draining")
        server.signal()
        server.wait(60)

        with pytest.raises((http.client.HTTPException, OSError)):
            call.result(60)


def test_the_drain_ends_at_its_timeout_and_says_so(tmp_path: Path) -> None:
    arguments = (write_model(tmp_path, SLEEPER), "--infer-timeout", 600, "--drain-timeout", 1)
    with ThreadPoolExecutor() as threads, serving(*arguments, exit_code=3) as server:
        calls = [threads.submit(infer, server, 600) for _ in range(3)]
        until(lambda: in_flight(server) == 3, 60, "the requests are in flight")
        server.signal()
        server.wait(60)

        for call in calls:
            error = call.exception(5)
            assert isinstance(error, (http.client.HTTPException, OSError)) or (
                error is None and call.result().status == 503
            ), error
        assert "--drain-timeout" in server.log()


@pytest.mark.parametrize("busy", ["infer", "load"])
def test_a_model_that_hangs_inside_the_server_does_not_keep_it_alive(
    tmp_path: Path, busy: str
) -> None:
    hang = "open(os.path.join(HERE, 'loading'), 'w').close()\ntime.sleep(600)"
    folder = write_model(tmp_path, SLEEPER, load=hang if busy == "load" else "pass")
    arguments = (folder, "--parallel-workers", 0, "--drain-timeout", 1)
    with ThreadPoolExecutor() as threads, starting(*arguments) as server:
        if busy == "infer":
            server.wait_ready()
            threads.submit(infer, server, 60)
            until(lambda: in_flight(server) == 1, 60, "the request is in flight")
        else:
            until(lambda: list(tmp_path.rglob("loading")), 60, "the load is under way")
        server.signal()

        assert server.wait(60) == (3 if busy == "infer" else 0)
        assert "a model is still running" in server.log()


def test_the_drain_delay_keeps_serving_while_not_ready(tmp_path: Path) -> None:
    with serving(write_model(tmp_path), "--drain-delay", 1) as server:
        server.signal()
        until(lambda: ask(server.http, "GET", READY).status == 503, 20, "draining")
        answers = [ask(server.http, "POST", INFER, numbers(nonce)) for nonce in range(10)]

        assert [answer.json["outputs"][0]["data"][0] for answer in answers] == [
            2.0 * nonce for nonce in range(10)
        ]
        assert ask(server.http, "GET", "/v2/health/live").status == 200


@pytest.mark.parametrize(
    "busy",
    [
        pytest.param(SLEEPER, id="sleeping"),
        # It holds the interpreter's lock: nothing else in the worker runs.
        pytest.param("__import__('ctypes').PyDLL(None).sleep(600)\nreturn x", id="in native code"),
    ],
)
def test_a_killed_server_takes_its_workers_with_it(tmp_path: Path, busy: str) -> None:
    folder = write_model(tmp_path, busy)
    arguments = (folder, "--parallel-workers", 2)
    with ThreadPoolExecutor() as threads, serving(*arguments, exit_code=-9) as server:
        call = threads.submit(infer, server, 60)
        until(lambda: in_flight(server) == 1, 60, "the request is in flight")
        assert server.workers()
        server.signal(signal.SIGKILL)
        server.wait(60)

        until(lambda: not server.workers(), 20, "the workers are gone")
        assert isinstance(call.exception(5), (http.client.HTTPException, OSError))


def test_a_stopped_worker_does_not_keep_the_server_alive(tmp_path: Path) -> None:
    with serving(write_model(tmp_path)) as server:
        (worker,) = server.workers()
        os.kill(worker, signal.SIGSTOP)
        server.signal()

        assert server.wait(60) == 0


def test_without_workers_the_answers_are_the_same_and_no_process_is_started(
    tmp_path: Path,
) -> None:
    with serving(write_model(tmp_path), "--parallel-workers", 0) as server:
        answer = ask(server.http, "POST", INFER, numbers(1, 2))

        assert answer.json["outputs"][0]["data"] == [2.0, 4.0]
        assert server.workers() == []


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_drain_sends_a_large_answer_whole(tmp_path: Path, encoding: str) -> None:
    # Random digits, so that neither the network's buffers nor gzip make it small.
    body = "return np.random.default_rng(0).random(1_500_000)"
    gated = f"open(f'{{HERE}}/begun', 'w').close()\n{body}"
    folder = write_model(tmp_path, gated)
    with ThreadPoolExecutor() as threads, serving(folder, *PATIENT) as server:
        fields = {"Accept-Encoding": encoding}
        call = threads.submit(ask, server.http, "POST", INFER, numbers(1), fields)
        until((folder / "begun").exists, 60, "the model has begun")
        server.signal()

        assert server.wait(120) == 0
        answer = call.result(60)
        text = gzip.decompress(answer.body) if encoding == "gzip" else answer.body
        assert len(json.loads(text)["outputs"][0]["data"]) == 1_500_000
