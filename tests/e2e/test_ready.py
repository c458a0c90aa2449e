"""From the first moment to ready: what answers when, and what a failed start leaves behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.asking import ask, numbers
from support.custom import write_model
from support.serving import COMMAND, serving, starting, until

pytestmark = pytest.mark.e2e

# Longer than any test waits for anything else.
LONG_LOAD = "time.sleep(600)"
LIVE = "/v2/health/live"
READY = "/v2/health/ready"


def test_an_output_that_nobody_reads_does_not_end_the_server(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    flags = ["--http-port", "0", "--ready-fd", "99999999999"]
    read, write = os.pipe()
    os.close(read)
    with open(tmp_path / "log", "w+") as log:
        server = subprocess.Popen([*COMMAND, "serve", folder, *flags], stdout=write, stderr=log)
        try:
            os.close(write)
            read_log = (tmp_path / "log").read_text
            until(lambda: "--ready-fd" in read_log(), 30, "the addresses are announced")
            server.terminate()

            assert server.wait(20) == 0
            assert "standard output: Broken pipe" in read_log()
            assert "Traceback" not in read_log()
        finally:
            server.kill()


def test_numbers_that_grpc_cannot_hold_are_cut_to_what_it_can(tmp_path: Path) -> None:
    large = ("--max-body-size", 3 << 30, "--max-header-size", 10**20)
    with serving(write_model(tmp_path), *large) as server:
        assert ask(server.http, "GET", READY).status == 200


def test_live_answers_while_a_model_loads(tmp_path: Path) -> None:
    with starting(write_model(tmp_path, load=LONG_LOAD)) as server:
        server.wait_listening()

        until(lambda: ask(server.http, "GET", LIVE).status == 200, 60, "live")
        assert ask(server.http, "GET", READY).status == 503


def test_a_loading_model_is_named_until_it_is_ready(tmp_path: Path) -> None:
    gated = "while not os.path.exists(f'{HERE}/go'): time.sleep(0.01)"
    folder = write_model(tmp_path, load=gated, name="slow")
    with starting(folder) as server:
        server.wait_listening()
        ready = ask(server.http, "GET", READY)
        model = ask(server.http, "GET", "/v2/models/slow/ready")
        infer = ask(server.http, "POST", "/v2/models/slow/infer", numbers(1))

        assert ready.status == model.status == infer.status == 503
        assert ready.json["models"] == {"slow": "LOADING"}
        assert "slow" in ready.json["error"]
        assert "retry-after" in infer.headers
        assert infer.json["code"] == "model_not_ready"
        assert server.output() == ""

        (folder / "go").touch()
        server.wait_ready()

        lines = [json.loads(line) for line in server.log().splitlines()]
        told = [line["message"] for line in lines if line["logger"] == "headrace.worker"]
        assert [step.split()[0].rstrip(",") for step in told] == ["importing", "loading"]
        assert {line["model"] for line in lines if "model" in line} == {"slow"}
        assert ask(server.http, "GET", READY).json == {"ready": True}
        assert ask(server.http, "GET", "/v2/models/slow/ready").status == 200
        assert ask(server.http, "POST", "/v2/models/slow/infer", numbers(1)).status == 200


def test_a_signal_while_a_model_loads_ends_the_server(tmp_path: Path) -> None:
    with starting(write_model(tmp_path, load=LONG_LOAD)) as server:
        server.wait_listening()
        until(server.workers, 60, "the worker is up")
        server.signal()

        assert server.wait(60) == 0
        until(lambda: not server.workers(), 20, "no process is left")
        assert "raceback" not in server.log()


def test_the_ready_line_and_the_ready_descriptor_agree(tmp_path: Path) -> None:
    with serving(write_model(tmp_path)) as server:
        line = server.output()

        assert line.count("\n") == 1
        assert server.announced["http"] in line
        assert server.announced["metrics"] in line
        assert ask(server.metrics, "GET", "/metrics").status == 200


@pytest.mark.parametrize("flag", ["--http-port", "--metrics-port"])
def test_a_taken_port_ends_the_start_before_any_model_is_loaded(tmp_path: Path, flag: str) -> None:
    folder = write_model(tmp_path, load=LONG_LOAD)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with starting(folder, flag, port) as server:
            assert server.wait(30) != 0
            message = server.log()
            assert server.workers() == []

    assert all(word in message for word in ("127.0.0.1", str(port), flag)), message
    assert "Traceback" not in message


def test_two_servers_never_share_a_port(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    with serving(folder) as first:
        port = urlsplit(first.http).port
        with starting(folder, "--http-port", port) as second:
            assert second.wait(60) != 0

        assert ask(first.http, "GET", READY).status == 200


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        ("raise ValueError('weights are missing')", "weights are missing"),
        ("return False", "returned False"),
        ("sys.exit('no licence')", "no licence"),
        ("os._exit(7)", "exited with status 7"),
    ],
    ids=["raises", "returns False", "sys.exit", "dies"],
)
def test_the_only_model_failing_to_load_ends_the_server(
    tmp_path: Path, load: str, reason: str
) -> None:
    with starting(write_model(tmp_path, load=load)) as server:
        assert server.wait(30) not in (0, 3)
        assert reason in server.log()
        assert server.output() == ""
        until(lambda: not server.workers(), 20, "no process is left")


def test_a_module_that_cannot_be_imported_is_explained_in_the_log(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    (folder / "custom_m.py").write_text("raise RuntimeError('wrong generation of card')")

    with starting(folder) as server:
        assert server.wait(30) == 1
        assert "wrong generation of card" in server.log()


def test_a_failed_model_does_not_stop_the_others(tmp_path: Path) -> None:
    write_model(tmp_path, name="good")
    write_model(tmp_path, name="bad", load="raise ValueError('weights are missing')")

    with serving(tmp_path) as server:
        good = ask(server.http, "POST", "/v2/models/good/infer", numbers(3))
        bad = ask(server.http, "POST", "/v2/models/bad/infer", numbers(3))
        ready = ask(server.http, "GET", READY)

        assert good.json["outputs"][0]["data"] == [6.0]
        assert bad.status == 503
        assert "bad" in bad.json["error"]
        assert ready.status == 503
        assert list(ready.json["models"]) == ["bad"]
        assert "raised ValueError while loading" in ready.json["models"]["bad"]
        assert ask(server.http, "GET", "/v2/models/good/ready").status == 200
        one = ask(server.http, "GET", "/v2/models/bad/ready")
        assert "raised ValueError while loading" in one.json["error"]


def test_a_model_that_dies_while_loading_does_not_stop_the_others(tmp_path: Path) -> None:
    write_model(tmp_path, name="good", load="time.sleep(0.5)")
    write_model(tmp_path, name="bad", load="os._exit(7)")

    with serving(tmp_path) as server:
        good = ask(server.http, "POST", "/v2/models/good/infer", numbers(3))

        assert good.status == 200, good
        assert list(ask(server.http, "GET", READY).json["models"]) == ["bad"]


def test_models_that_cannot_share_a_process_are_served_from_two(tmp_path: Path) -> None:
    load = """
    if "native" in sys.modules:
        os._exit(139)
    sys.modules["native"] = sys
    """
    for name in ("first", "second"):
        write_model(tmp_path, name=name, load=load)

    with serving(tmp_path) as server:
        answers = [
            ask(server.http, "POST", f"/v2/models/{name}/infer", numbers(1.0)).status
            for name in ("first", "second")
        ]

        assert answers == [200, 200]
        assert len(server.workers()) == 2


def test_a_model_that_crashes_while_loading_ends_the_worker_of_its_neighbours_once(
    tmp_path: Path,
) -> None:
    write_model(tmp_path, "return x * 0 + os.getpid()", name="good")
    write_model(tmp_path, name="bad", load="__import__('ctypes').string_at(0)")

    def tries() -> int:
        return server.log().count("SIGSEGV while loading it")

    def worker() -> float:
        answer = ask(server.http, "POST", "/v2/models/good/infer", numbers(1))
        assert answer.status == 200, answer
        process: float = answer.json["outputs"][0]["data"][0]
        return process

    with serving(tmp_path) as server:
        before, seen = worker(), tries()
        until(lambda: tries() >= seen + 3, 120, "it was retried several times")

        assert worker() == before


def test_a_server_without_a_model_is_not_ready_unless_that_is_allowed(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        refused = ask(server.http, "GET", READY)
        assert refused.status == 503
        assert "no model is served" in refused.json["error"]
        assert "there is no model-settings.json in it or below it" in server.log()

        write_model(tmp_path / "late", name="late")
        assert ask(server.http, "POST", "/v2/repository/models/late/load").status == 200
        assert ask(server.http, "GET", READY).status == 200

    (tmp_path / "empty").mkdir()
    with serving(tmp_path / "empty", "--allow-empty") as server:
        assert ask(server.http, "GET", READY).status == 200


def test_a_model_whose_description_is_wrong_does_not_keep_others_from_answering(
    tmp_path: Path,
) -> None:
    write_model(tmp_path / "good", name="good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model-settings.json").write_text('{"max_batch_sise": 1}')
    with serving(tmp_path) as server:
        assert ask(server.http, "POST", "/v2/models/good/infer", numbers(1)).status == 200
        ready = ask(server.http, "GET", READY)
        assert ready.json["models"].keys() == {"bad"}
        assert "names no implementation" in ready.json["models"]["bad"]

        (tmp_path / "bad" / "model-settings.json").unlink()
        write_model(tmp_path / "bad", name="bad")
        assert ask(server.http, "POST", "/v2/repository/models/bad/load").status == 200
        assert ask(server.http, "GET", READY).status == 200


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_cannot_be_listened_on_names_the_flag(host: str, tmp_path: Path) -> None:
    arguments = ["serve", str(tmp_path), "--host", host, "--http-port", "0"]

    ended = subprocess.run([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, timeout=60)

    assert ended.returncode == 2
    assert f"cannot listen on {host}" in ended.stderr
    assert "(--host)" in ended.stderr
