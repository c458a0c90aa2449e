"""Large text is decoded in another process: the same answers, and nothing that stays behind."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from headrace.http.large_requests import MUCH_TEXT
from support.asking import Client, ask
from support.custom import write_model
from support.serving import Server, serving, until

pytestmark = pytest.mark.e2e

JSON, CSV = {"Content-Type": "application/json"}, {"Content-Type": "text/csv"}
NUMBERS = {"name": "x", "shape": [2], "datatype": "FP64", "data": [1.5, 2]}
LARGE_BODY = json.dumps({"inputs": [NUMBERS]}).encode() + b" " * MUCH_TEXT
# Seconds, on a slow machine.
PATIENCE = 60
# Requests of every protocol, right ones and wrong ones.
REQUESTS: dict[str, tuple[str, Any]] = {
    "tensors": ("/v2/models/m/infer", {"inputs": [NUMBERS]}),
    "a wrong shape": ("/v2/models/m/infer", {"inputs": [{**NUMBERS, "shape": [3]}]}),
    "an unknown datatype": ("/v2/models/m/infer", {"inputs": [{**NUMBERS, "datatype": "FP8"}]}),
    "no inputs": ("/v2/models/m/infer", {}),
    "requested outputs": ("/v2/models/m/infer", {"inputs": [NUMBERS], "outputs": [{"name": "q"}]}),
    "instances": ("/v1/models/m:predict", {"instances": [1, 2]}),
    "neither instances nor inputs": ("/v1/models/m:predict", {"instance": [1, 2]}),
    "scoring": ("/invocations", {"inputs": [1, 2]}),
    "a table": ("/invocations", {"dataframe_split": {"columns": ["x"], "data": [[1], [2]]}}),
    "unknown keys": ("/invocations", {"inputs": [1, 2], "surplus": 1}),
    "chat with what is no chat": ("/v1/chat/completions", {"model": "m", "messages": []}),
    "no model of that name": ("/v1/chat/completions", {"model": "n", "messages": []}),
    "a list": ("/v2/models/m/infer", []),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    folder = write_model(tmp_path_factory.mktemp("models"), "return x * 2", name="m")
    with serving(folder) as server:
        yield server


def decoders(server: Server) -> list[int]:
    """The live processes that decode for a server."""
    found = []
    for pid in server.workers():
        with suppress(OSError):
            if b"headrace.decoding" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


@pytest.mark.parametrize("name", list(REQUESTS))
def test_a_request_is_answered_the_same_whichever_process_decodes_it(server, name: str) -> None:
    path, value = REQUESTS[name]
    body = json.dumps(value).encode()
    small, large = [
        ask(server.http, "POST", path, sent, {**JSON, "X-Request-Id": "one"})
        for sent in (body, body + b" " * MUCH_TEXT)
    ]

    assert (large.status, large.json) == (small.status, small.json)
    assert decoders(server)


def test_rows_of_csv_are_decoded_there_too(server) -> None:
    rows = MUCH_TEXT // 2
    answer = ask(server.http, "POST", "/invocations", b"x\n" + b"1\n" * rows, CSV)

    assert (answer.status, len(answer.json["predictions"])) == (200, rows)


def test_arrays_of_numbers_are_not_text(tmp_path: Path) -> None:
    count = MUCH_TEXT
    tensor = {**NUMBERS, "shape": [count], "data": [1.0] * count}
    with serving(write_model(tmp_path, "return x.sum()", name="m")) as server:
        answer = ask(server.http, "POST", "/v2/models/m/infer", {"inputs": [tensor]})

        assert answer.json["outputs"][0]["data"] == [count]
        assert not decoders(server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_process_ends_with_its_server(tmp_path: Path, number: int) -> None:
    with serving(write_model(tmp_path, "return x", name="m"), exit_code=None) as server:
        ask(server.http, "POST", "/v2/models/m/infer", LARGE_BODY, JSON)
        assert decoders(server)
        server.signal(number)

        until(lambda: not decoders(server), PATIENCE, "it has ended")


def stop_decoder(server: Server) -> None:
    """Start the process that decodes, and stop it."""
    ask(server.http, "POST", "/v2/models/m/infer", LARGE_BODY, JSON)
    (decoder,) = decoders(server)
    os.kill(decoder, signal.SIGSTOP)


def test_a_request_whose_time_runs_out_while_it_is_decoded_is_refused(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, "return x", name="m")) as server:
        stop_decoder(server)
        headers = {**JSON, "X-Request-Timeout": "0.5"}
        answers = [
            ask(server.http, "POST", "/v2/models/m/infer", LARGE_BODY, headers) for _ in range(2)
        ]

        assert [each.status for each in answers] == [504, 504]
        assert ask(server.http, "GET", "/v2/health/live").status == 200


def test_a_server_that_stops_does_not_wait_for_a_process_that_hangs(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "return x", name="m")
    with serving(folder, "--drain-timeout", 1, exit_code=None) as server:
        stop_decoder(server)
        with Client(server.http) as client:
            client.begin("POST", "/v2/models/m/infer", LARGE_BODY, JSON)
            server.signal()

            server.wait(20)
    assert not decoders(server)


def test_a_wrong_timeout_is_refused_before_anything_is_decoded(server) -> None:
    headers = {**JSON, "X-Request-Timeout": "soon"}
    answer = ask(server.http, "POST", "/v2/models/m/infer", LARGE_BODY, headers)

    assert (answer.status, "X-Request-Timeout" in answer.json["error"]) == (400, True)
    assert "never awaited" not in server.log()
