"""`headrace infer` against a whole server: order, failures, tables, and resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from headrace.cli.main import main
from support.asking import numbers
from support.custom import write_model
from support.serving import COMMAND, Server, serving, until
from support.wine import save_mlflow, trained, wines

pytestmark = pytest.mark.e2e

PREDICT = """
if (x < 0).any():
    raise ValueError("negative")
if (x == 7).any():
    time.sleep(0.3)
return x * 2
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(write_model(tmp_path_factory.mktemp("infer"), PREDICT)) as running:
        yield running


@pytest.fixture(scope="module")
def wine_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = save_mlflow(tmp_path_factory.mktemp("infer") / "wine")
    with serving(folder, "--name", "wine") as running:
        yield running


def command(server: Server, input: Path, output: Path, *more: str, model: str = "m") -> list[str]:
    return ["infer", "-u", server.http, "-m", model, "-i", str(input), "-o", str(output), *more]


def write_lines(path: Path, *requests: Any) -> Path:
    lines = [item if isinstance(item, str) else json.dumps(item) for item in requests]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def data(line: Any) -> Any:
    return line["outputs"][0]["data"]


@pytest.mark.parametrize(
    "options",
    [(), ("-b",), ("-s", "4"), ("-s", "4", "-b"), ("-w", "1")],
    ids=["plain", "binary", "four at once", "four at once, binary", "one worker"],
)
def test_answers_come_in_the_order_of_the_input(server, tmp_path, options):
    # The seventh takes longer than all that follow it.
    requests = [{**numbers(float(n), n + 0.5), "id": f"r{n}"} for n in range(30)]
    input = write_lines(tmp_path / "in.jsonl", *requests)
    output = tmp_path / "out.jsonl"

    assert main(command(server, input, output, *options)) == 0

    lines = read_lines(output)
    assert [data(line) for line in lines] == [[n * 2.0, n * 2 + 1.0] for n in range(30)]
    assert [line["parameters"]["batch_index"] for line in lines] == list(range(30))
    assert [line["parameters"]["inference_id"] for line in lines] == [f"r{n}" for n in range(30)]
    assert [line["id"] for line in lines] == [f"r{n}" for n in range(30)]
    assert sorted(os.listdir(tmp_path)) == ["in.jsonl", "out.jsonl"]


@pytest.mark.parametrize("size", ["1", "8"], ids=["one at a time", "eight at once"])
def test_only_the_lines_at_fault_fail(server, tmp_path, size, capsys):
    bad = {2: numbers(-1.0), 5: "{not json", 6: {"inputs": []}, 7: numbers(1.0, name="y")}
    requests = [bad.get(n, numbers(float(n))) for n in range(20)]
    input = write_lines(tmp_path / "in.jsonl", *requests)
    output = tmp_path / "out.jsonl"

    assert main(command(server, input, output, "-s", size)) == 1

    lines = read_lines(output)
    assert [n for n, line in enumerate(lines) if "error" in line] == [2, 5, 6, 7]
    assert [data(line) for n, line in enumerate(lines) if n not in bad] == [
        [n * 2.0] for n in range(20) if n not in bad
    ]
    assert lines[5]["parameters"] == {"batch_index": 5}
    assert lines[5]["error"]["status"] == "preprocessing error"
    assert lines[2]["error"]["status"] == "model_error"
    assert "20 entries, 4 failed" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_is_scored_row_for_row(wine_server, tmp_path, kind):
    table = wines()
    input, output = tmp_path / f"in.{kind}", tmp_path / f"out.{kind}"
    if kind == "csv":
        table.to_csv(input, index=False)
    else:
        table.to_parquet(input)

    assert main(command(wine_server, input, output, "-s", "100", model="wine")) == 0

    answer = pd.read_csv(output) if kind == "csv" else pd.read_parquet(output)
    # Rows that meet others in a batch may differ in the last bit: docs/decisions/0006.
    expected = pytest.approx(trained().predict(table).tolist(), rel=1e-12)
    assert answer.iloc[:, 0].tolist() == expected
    assert len(answer.columns) == 1


@pytest.mark.parametrize(
    "pace", [("-w", "1", "--batch-interval", "0.01"), ("-w", "5", "--batch-jitter", "0.01")]
)
def test_the_pace_of_the_workers_changes_no_answer(server, tmp_path, pace):
    input = write_lines(tmp_path / "in.jsonl", *[numbers(float(n)) for n in range(5)])
    output = tmp_path / "out.jsonl"

    assert main(command(server, input, output, *pace)) == 0
    assert [data(line) for line in read_lines(output)] == [[n * 2.0] for n in range(5)]


@pytest.mark.parametrize("transport", ["rest", "grpc"])
@pytest.mark.parametrize("flag", ["", "-v", "-vv"])
def test_verbose_logs_each_request_and_extra_verbose_its_contents(
    server, tmp_path, flag, transport
):
    input = write_lines(tmp_path / "in.jsonl", numbers(31.25), numbers(-1.0))
    address = server.http if transport == "rest" else server.announced["grpc"]
    arguments = command(server, input, tmp_path / "out.jsonl", "-t", transport)
    more = ["-u", address, "-H", "Authorization: secret-77", *filter(None, [flag])]

    # In a process of its own, because the flags change its logging.
    process = subprocess.run([*COMMAND, *arguments, *more], capture_output=True, text=True)

    assert process.returncode == 1, process.stderr
    log = process.stderr
    assert ("entries 0 to 0: answered" in log) is (flag != "")
    assert ("entries 1 to 1: model 'm' failed" in log) is (flag != "")
    # gRPC carries the numbers as raw bytes.
    sent, received = {"rest": ("31.25", "62.5"), "grpc": ("raw_input", "raw_output")}[transport]
    assert (sent in log) is (received in log) is (flag == "-vv")
    assert "secret-77" not in log


def test_lines_are_scored_over_grpc(server, tmp_path):
    requests = [numbers(float(n)) if n != 4 else numbers(-1.0) for n in range(20)]
    input = write_lines(tmp_path / "in.jsonl", *requests)
    output = tmp_path / "out.jsonl"
    address = server.announced["grpc"]

    assert main([*command(server, input, output, "-t", "grpc"), "-u", address]) == 1

    lines = read_lines(output)
    assert lines[4]["error"]["status"] == "model_error"
    assert [data(line) for n, line in enumerate(lines) if n != 4] == [
        [n * 2.0] for n in range(20) if n != 4
    ]


def test_a_table_may_be_answered_in_lines(wine_server, tmp_path):
    wines()[:25].to_csv(tmp_path / "in.csv", index=False)
    output = tmp_path / "out.jsonl"

    command_line = command(wine_server, tmp_path / "in.csv", output, "-s", "10", model="wine")
    assert main(command_line) == 0

    lines = read_lines(output)
    assert [line["parameters"]["batch_index"] for line in lines] == [0, 10, 20]
    assert [line["parameters"]["rows"] for line in lines] == [10, 10, 5]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_only_the_rows_at_fault_fail(server, tmp_path, kind):
    values = [float(n) if n not in (3, 11) else -1.0 for n in range(20)]
    table = pd.DataFrame({"x": values})
    input, output = tmp_path / f"in.{kind}", tmp_path / f"out.{kind}"
    table.to_csv(input, index=False) if kind == "csv" else table.to_parquet(input)

    assert main(command(server, input, output)) == 1

    answer = pd.read_csv(output) if kind == "csv" else pd.read_parquet(output)
    assert answer["error"].notna().to_numpy().nonzero()[0].tolist() == [3, 11]
    assert answer["error"][3].startswith("model_error: ")
    good = answer["error"].isna()
    assert answer["output-1"][good].tolist() == [v * 2 for v in values if v >= 0]


def test_a_missing_column_fails_every_row_with_few_requests(server, tmp_path):
    pd.DataFrame({"why": [1.0] * 5000}).to_csv(tmp_path / "in.csv", index=False)
    output = tmp_path / "out.csv"

    arguments = command(server, tmp_path / "in.csv", output, "--keep-going", "-v")
    process = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)

    assert process.returncode == 1
    assert pd.read_csv(output)["error"].str.contains("'why'").tolist() == [True] * 5000
    # Each batch, and what it answers without any row.
    assert process.stderr.count(": sending") == 2 * 5


def test_an_interrupted_run_resumes_where_it_stopped(server, tmp_path):
    requests = [numbers(7.0, float(n)) for n in range(60)]
    input = write_lines(tmp_path / "in.jsonl", *requests)
    output, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    arguments = command(server, input, output, "-w", "2")
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        # A suite that runs as a background job has its children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until(lambda: part.exists() and part.read_bytes().count(b"\n") >= 2, 120, "some are answered")
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=120)

    assert process.returncode == 130, log
    assert "run the same command to resume" in log
    assert not output.exists()
    answered = part.read_bytes()
    part.write_bytes(answered + b'{"model_name":"m","half a li')

    assert main([*arguments[:-1], "10"]) == 0
    assert output.read_bytes().startswith(answered)
    assert [data(line) for line in read_lines(output)] == [[14.0, n * 2.0] for n in range(60)]


def test_a_table_resumes_within_a_batch(server, tmp_path):
    frame = pd.DataFrame({"x": [float(n) for n in range(100, 130)]})
    frame.to_csv(tmp_path / "in.csv", index=False)
    output = tmp_path / "out.jsonl"
    arguments = command(server, tmp_path / "in.csv", output)
    assert main([*arguments, "-s", "7"]) == 0
    whole = output.read_bytes().splitlines(keepends=True)
    stop = ["-u", "http://127.0.0.1:9", "-r", "0"]
    assert main([*arguments, *stop]) == 1
    (tmp_path / "out.jsonl.part").write_bytes(b"".join(whole[:2]))

    assert main([*arguments, "-s", "10"]) == 0

    lines = read_lines(output)
    assert [line["parameters"]["batch_index"] for line in lines] == [0, 7, 14, 20]
    assert sum([data(line) for line in lines], []) == [n * 2.0 for n in range(100, 130)]


def test_the_part_of_another_run_is_not_continued(server, tmp_path, capsys):
    input = write_lines(tmp_path / "in.jsonl", numbers(1.0))
    arguments = command(server, input, tmp_path / "out.jsonl")
    assert main([*arguments, "-u", "http://127.0.0.1:9", "-r", "0"]) == 1
    write_lines(tmp_path / "out.jsonl.part", {"model_name": "m"})
    write_lines(input, numbers(1.0), numbers(2.0))

    assert main(arguments) == 2
    assert "belongs to another run" in capsys.readouterr().err


def test_a_run_that_answered_nothing_does_not_block_another(server, tmp_path):
    input = write_lines(tmp_path / "in.jsonl", numbers(1.0))
    output = tmp_path / "out.jsonl"
    assert main(command(server, input, output, model="mistyped")) == 1

    assert main(command(server, input, output)) == 0
    assert data(read_lines(output)[0]) == [2.0]


def test_a_run_that_was_killed_before_it_began_does_not_block_another(server, tmp_path):
    input = write_lines(tmp_path / "in.jsonl", numbers(1.0))
    for left in ("out.jsonl.part", "out.jsonl.part.run"):
        (tmp_path / left).touch()

    assert main(command(server, input, tmp_path / "out.jsonl")) == 0


def test_a_server_that_is_gone_ends_the_run_and_fails_no_line(tmp_path):
    input = write_lines(tmp_path / "in.jsonl", *[numbers(float(n)) for n in range(500)])
    output = tmp_path / "out.jsonl"
    with serving(write_model(tmp_path, "time.sleep(0.02)\nreturn x"), exit_code=None) as running:
        arguments = command(running, input, output, "-w", "2", "-r", "1")
        process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
        part = tmp_path / "out.jsonl.part"
        until(lambda: part.exists() and part.stat().st_size > 1000, 20, "some are answered")
        running.signal(signal.SIGKILL)
        running.wait(60)
    _, log = process.communicate(timeout=30)

    assert process.returncode == 1
    assert "cannot be reached" in log
    assert 0 < len(read_lines(part)) < 500
    assert not [line for line in read_lines(part) if "error" in line]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-i", "in.txt", "-o", "out.jsonl"], "in.txt: expected a file that ends in"),
        (["-i", "none.jsonl", "-o", "out.jsonl"], "there is no such file"),
        (["-i", "in.jsonl", "-o", "out.csv"], "needs a table as input"),
        (["-i", "in.jsonl", "-o", "in.jsonl"], "would replace the input"),
        (["-i", "in.jsonl", "-o", "no/out.jsonl"], "there is no folder no to write the answers in"),
        (["-i", "in.jsonl", "-o", "folder.jsonl"], "folder.jsonl: is a folder"),
        (["-i", "in.jsonl", "-o", "out.jsonl", "-w", "0"], "--workers must be above 0"),
        (["-i", "in.jsonl", "-o", "out.jsonl", "--timeout", "nan"], "--timeout must be above 0"),
        (["-i", "in.jsonl", "-o", "out.jsonl", "-H", "nocolon"], "expected NAME:VALUE"),
        (["-o", "out.jsonl"], "--input-data-path is missing"),
        (
            ["-i", "in.jsonl", "-o", "out.jsonl", "--batch-interval", "-1"],
            "--batch-interval: expected seconds from 0",
        ),
    ],
    ids=[
        "ending",
        "no file",
        "lines to table",
        "same file",
        "no folder",
        "a folder",
        "no workers",
        "no timeout",
        "header",
        "no input",
        "interval",
    ],
)
def test_a_command_that_cannot_work_says_why(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "in.jsonl", numbers(1.0))
    (tmp_path / "folder.jsonl").mkdir()

    assert main(["infer", "-m", "m", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_mlservers_variables_are_read_and_ours_win(server, tmp_path, monkeypatch):
    input = write_lines(tmp_path / "in.jsonl", numbers(1.0))
    settings = {
        "MLSERVER_INFER_URL": server.http.removeprefix("http://"),
        "MLSERVER_INFER_MODEL_NAME": "nobody",
        "HEADRACE_INFER_MODEL_NAME": "m",
        "MLSERVER_INFER_INPUT_DATA_PATH": str(input),
        "MLSERVER_INFER_OUTPUT_DATA_PATH": str(tmp_path / "out.jsonl"),
        "MLSERVER_INFER_BINARY_DATA": "true",
        "MLSERVER_INFER_CONNECTION_TIMEOUT": "20",
        "MLSERVER_INFER_BATCH_INTERVAL": "0.1",
        "MLSERVER_INFER_BATCH_JITTER": "0.1",
        "MLSERVER_INFER_VERBOSE": "false",
        "MLSERVER_INFER_EXTRA_VERBOSE": "0",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    assert main(["infer"]) == 0
    assert data(read_lines(tmp_path / "out.jsonl")[0]) == [2.0]
