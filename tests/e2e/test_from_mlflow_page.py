"""docs/how-to/from-mlflow.md: its commands exist, and both servers answer what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.cli import serve
from headrace.cli.parser import Parser
from headrace.testing import TestClient
from support.pages import ADDRESS, blocks, curl_examples, helped
from support.serving import serving

mlflow = pytest.importorskip("mlflow")
pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

PAGE = Path(__file__).parents[2] / "docs/how-to/from-mlflow.md"
ROW = {"age": 36, "score": 5.5, "city": "Ulm", "member": True}
JSON = {"Content-Type": "application/json"}


def rows(head: str) -> list[list[str]]:
    """The cells of the rows of the table whose first row begins like this."""
    text = PAGE.read_text(encoding="utf-8")
    lines = text[text.index(f"\n| {head} |") :].split("\n\n")[0].strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


CHANGES, BODIES = rows("in the row"), rows("body")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the page's model is."""
    root = tmp_path_factory.mktemp("page")
    (source,) = [text for language, text in blocks(PAGE) if language == "python"]
    subprocess.run([sys.executable, "-c", source], cwd=root, check=True, timeout=180)
    return root / "people"


@pytest.fixture(scope="module")
def server(folder):
    with serving(folder, "--env-manager", "local") as server:
        yield server


@pytest.fixture(scope="module")
def ours(folder):
    with TestClient(folder, env_manager="local") as client:
        yield client


@pytest.fixture(scope="module")
def strict(folder):
    with TestClient(folder, env_manager="local", scoring="strict") as client:
        yield client


@pytest.fixture(scope="module")
def theirs(folder):
    """MLflow's own application, which leaves a variable behind."""
    from mlflow.pyfunc import scoring_server
    from starlette.testclient import TestClient as Theirs

    before = dict(os.environ)
    model = mlflow.pyfunc.load_model(str(folder))
    yield Theirs(scoring_server.init(model), raise_server_exceptions=False)
    os.environ.clear()
    os.environ.update(before)


def status(client: Any, body: str) -> int:
    found: int = client.post("/invocations", content=body, headers=JSON).status_code
    return found


def said(cell: str) -> int:
    return int(cell[:3])


@pytest.mark.parametrize("row", CHANGES, ids=lambda row: row[0])
def test_a_value_is_answered_as_the_page_says(row, ours, strict, theirs):
    change, *expected = row
    members = {**ROW, **json.loads("{" + change.strip("`") + "}")}
    body = json.dumps({"dataframe_records": [members]})
    found = [status(client, body) for client in (theirs, ours, strict)]
    assert found == [said(cell) for cell in expected]


@pytest.mark.parametrize("row", BODIES, ids=lambda row: row[0][:40])
def test_a_body_is_answered_as_the_page_says(row, ours, theirs):
    body, *expected = row
    found = [status(client, body.strip("`")) for client in (theirs, ours)]
    assert found == [said(cell) for cell in expected]


def test_a_csv_row_with_a_value_too_many_is_refused_as_the_page_says(ours, strict, theirs):
    body = "age,score,city,member\n7,36,5.5,Ulm,True\n"
    headers = {"Content-Type": "text/csv"}
    found = [
        client.post("/invocations", content=body, headers=headers) for client in (ours, strict)
    ]

    assert [answer.status_code for answer in found] == [400, 400]
    assert "row 0 (line 2): expected 4 values" in found[0].json()["message"]
    assert theirs.post("/invocations", content=body, headers=headers).status_code == 200


def test_the_page_shows_differences_of_every_kind():
    assert len(CHANGES) >= 15
    assert len(BODIES) >= 5


@pytest.mark.parametrize("example", curl_examples(PAGE), ids=["JSON", "CSV"])
def test_the_pages_requests_are_answered_as_it_shows(example, server):
    command = example.command.replace(f"http://{ADDRESS}", server.http)
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == json.loads(example.answer)


def as_given():
    """Each flag of MLflow's and of ours on the page, with a value that it takes."""
    for row in rows("flag of `mlflow models serve`"):
        for flag in re.findall(r"`(-{1,2}[\w-]+)", row[0] + row[1]):
            if flag in ("-m", "--model-uri"):
                yield [flag, "people"]
            elif flag == "--env-manager":
                yield from ([flag, word] for word in ("local", "virtualenv", "uv", "conda"))
            elif flag in ("--no-conda", "--install-mlflow", "--enable-mlserver"):
                yield [flag]
            else:
                yield [flag, "::1" if flag in ("-h", "--host") else "5001"]


@pytest.mark.parametrize("flags", list(as_given()), ids=" ".join)
def test_every_flag_of_mlflow_models_serve_is_accepted_as_it_is(flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people").mkdir()
    parser = Parser(prog="headrace")
    serve.add_command(parser.add_subparsers(dest="command"))
    options = parser.parse_args(["serve", *flags])
    assert serve.settled(options, serve.conf_of(options))


def test_every_flag_of_mlflows_own_help_is_on_the_page():
    from mlflow.models.cli import serve as theirs

    shown = " ".join(row[0] for row in rows("flag of `mlflow models serve`"))
    for option in theirs.params:
        for flag in option.opts:
            assert f"`{flag}`" in shown or f"`{flag} " in shown


def test_every_command_of_the_page_exists():
    text = " ".join(row[1] for row in rows("MLflow"))
    commands = set(re.findall(r"`headrace ([a-z]+(?: build)?)", text))
    assert {"serve", "infer", "env build", "dockerfile", "build"} <= commands
    for command in commands:
        assert "usage" in helped(*command.split())
