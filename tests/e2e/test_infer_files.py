"""`headrace infer` with files as people have them: other forms, other rows, other encodings."""

from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from headrace.cli.main import main
from headrace.client import Client
from support.custom import write_model
from support.serving import Server, serving, until

pytestmark = pytest.mark.e2e

HINTED = """\
import mlflow
import pydantic

class Person(pydantic.BaseModel):
    name: str
    age: int
    nick: str = "-"

class M(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: {hint}, params=None) -> list[str]:
        return [{answer} for x in model_input]

mlflow.models.set_model(M())
"""
HINTS = {
    "persons": ("list[Person]", 'f"{x.name} {x.age} {x.nick}"'),
    "texts": ("list[str]", "x.upper()"),
    "dicts": ("list[dict[str, int]]", "str(sorted(x.items()))"),
    "lists": ("list[list[str]]", "'+'.join(x)"),
}
CHAT = """\
import mlflow
from mlflow.types.llm import ChatChoice, ChatCompletionResponse, ChatMessage

class M(mlflow.pyfunc.ChatModel):
    def predict(self, context, messages, params):
        answer = ChatMessage(role="assistant", content=messages[-1].content.upper())
        return ChatCompletionResponse(choices=[ChatChoice(message=answer)])

mlflow.models.set_model(M())
"""
TABLE = """\
import mlflow, pandas as pd

class M(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return pd.DataFrame({"said": [str(list(row)) for row in model_input.to_numpy(object)]})

mlflow.models.set_model(M())
"""
COLUMNS = [ColSpec("long", "age"), ColSpec("string", "city"), ColSpec("boolean", "yes", False)]
HEADER = "age,city,yes\n"
ROW, SAID = "30,Zürich,true\n", "[30, 'Zürich', True]"


def save(folder: Path, name: str, code: str, **options: Any) -> None:
    (folder / f"{name}.py").write_text(code)
    target = folder / "models" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(target / "model", python_model=folder / f"{name}.py", **options)
    settings = {"name": name, "implementation": "mlflow", "parameters": {"uri": "./model"}}
    (target / "model-settings.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("files")
    for name, (hint, answer) in HINTS.items():
        save(folder, name, HINTED.format(hint=hint, answer=answer))
    save(folder, "chat", CHAT)
    save(folder, "table", TABLE, signature=ModelSignature(Schema(COLUMNS)))
    with serving(folder / "models", "--env-manager", "local") as running:
        yield running


def infer(server: Server, input: Path, output: Path, model: str, *more: str) -> int:
    return main(
        ["infer", "-u", server.http, "-m", model, "-i", str(input), "-o", str(output), *more]
    )


def answers(path: Path) -> list[Any]:
    """The only output of each row, None where the row failed."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [None if "error" in row else next(iter(row.values())) for row in rows]
    table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=object)
    return [None if pd.isna(cell) else cell for cell in table.iloc[:, 0]]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("model", "rows", "expected"),
    [
        (
            "persons",
            [{"name": "a", "age": 1}, {"name": "b", "age": 2, "nick": "x"}, {"name": "c"}],
            ["a 1 -", "b 2 x", None],
        ),
        ("persons", [{"input-0": {"name": "a", "age": 1}}], ["a 1 -"]),
        ("texts", ["a", "b", 3], ["A", "B", None]),
        ("dicts", [{"a": 1}, {"b": 2, "c": 3}, {"d": "e"}], ["[('a', 1)]", "[('b', 2), ('c', 3)]"]),
        ("lists", [["a", "b"], ["c"], ["d", 1]], ["a+b", "c", None]),
    ],
)
def test_a_row_of_json_is_an_element_of_a_type_hinted_model(
    server, tmp_path, model, rows, expected
):
    input = write(tmp_path / "in.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "out.jsonl"

    status = infer(server, input, output, model)

    wanted = [*expected, None] if model == "dicts" else expected
    assert answers(output) == wanted
    assert status == (1 if None in wanted else 0)


def test_the_rows_of_a_table_are_elements_of_a_type_hinted_model(server, tmp_path):
    table = pd.DataFrame({"name": ["a", "007"], "age": [1, 2], "nick": ["x", None]})
    input, output = tmp_path / "in.parquet", tmp_path / "out.csv"
    table.to_parquet(input)

    assert infer(server, input, output, "persons") == 0
    assert answers(output) == ["a 1 x", "007 2 -"]
    with Client(server.http) as client:
        assert client.predict("persons", table).iloc[:, 0].tolist() == ["a 1 x", "007 2 -"]


def test_a_conversation_a_line_is_answered_by_a_chat_model(server, tmp_path):
    lines = [{"messages": [{"role": "user", "content": text}]} for text in ("hi", "ho")]
    input = write(tmp_path / "in.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    output = tmp_path / "out.jsonl"

    assert infer(server, input, output, "chat") == 0
    contents = [answer["choices"][0]["message"]["content"] for answer in answers(output)]
    assert contents == ["HI", "HO"]
    with Client(server.http) as client:
        (found,) = client.predict("chat", {"messages": [lines[0]["messages"]]}).values()
    assert found[0]["choices"][0]["message"]["content"] == "HI"


def test_a_surplus_key_fails_its_row_only(server, tmp_path):
    rows = [{"age": at, "city": "Bern", **({"zip": 1} if at in (3, 7) else {})} for at in range(9)]
    input = write(tmp_path / "in.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "out.csv"

    assert infer(server, input, output, "table") == 1
    expected = [None if at in (3, 7) else f"[{at}, 'Bern']" for at in range(9)]
    assert answers(output) == expected


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_row_without_an_optional_value_is_scored_as_it_is_alone(server, tmp_path, kind):
    rows = [(1, "true"), (2, ""), (3, "false")]
    text = HEADER + "".join(f"{age},Bern,{yes}\n" for age, yes in rows)
    if kind == "jsonl":
        values = [{"age": 1, "city": "Bern", "yes": True}, {"age": 2, "city": "Bern", "yes": None},
                  {"age": 3, "city": "Bern", "yes": False}]  # fmt: skip
        text = "".join(json.dumps(value) + "\n" for value in values)
    output = tmp_path / "out.csv"

    assert infer(server, write(tmp_path / f"in.{kind}", text), output, "table") == 0
    assert answers(output) == ["[1, 'Bern', True]", "[2, 'Bern']", "[3, 'Bern', False]"]


TEXT = HEADER + ROW
FORMS = {
    "in.csv": (TEXT.encode("utf-8-sig"), ()),
    "utf-16.csv": (TEXT.encode("utf-16"), ()),
    "cp1252.csv": (TEXT.encode("cp1252"), ("--encoding", "cp1252")),
    "semicolon.csv": (TEXT.replace(",", ";").encode(), ("--delimiter", ";")),
    "in.tsv": (TEXT.replace(",", "\t").encode(), ()),
    "in.csv.gz": (gzip.compress(TEXT.encode()), ()),
    "named-otherwise.csv": (gzip.compress(TEXT.encode("utf-8-sig")), ()),
    "in.jsonl": ('{"age": 30, "city": "Zürich", "yes": true}\n'.encode("utf-8-sig"), ()),
    "in.json.gz": (gzip.compress('[{"age": 30, "city": "Zürich", "yes": true}]'.encode()), ()),
    "cp1252.jsonl": (
        '{"age": 30, "city": "Zürich", "yes": true}\n'.encode("cp1252"),
        ("--encoding", "cp1252"),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_encodings_delimiters_and_compression_are_read(server, tmp_path, name):
    content, flags = FORMS[name]
    output = tmp_path / "out.tsv"

    assert infer(server, write(tmp_path / name, content), output, "table", *flags) == 0
    assert answers(output) == [SAID]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", TEXT.replace(",", ";"), "separated by ';': add --delimiter ';'"),
        ("in.csv", TEXT.encode("cp1252"), "--encoding cp1252"),
        ("in.jsonl", '{"city": "Zürich"}\n'.encode("cp1252"), "not valid JSON"),
        ("in.csv", "", "the file is empty"),
        ("in.jsonl", "", "the file is empty"),
        ("in.csv.gz", gzip.compress(TEXT.encode(), mtime=0)[:-9], "not a whole gzip file"),
        ("in.csv", "age,city,age\n1,Bern,2\n", "several columns are named 'age'"),
        ("in.json", '{"age": {"0": 1}, "city": {"0": "Bern"}}', "orient='records', lines=True"),
        ("in.json", '{"dataframe_split": {"columns": [], "data": []}}', "MLflow's /invocations"),
        ("in.xlsx", b"PK", "expected a file that ends in one of"),
        ("folder.csv", None, "is a folder"),
        ("missing.csv", None, "there is no such file"),
    ],
    ids=[
        "delimiter",
        "encoding",
        "json encoding",
        "empty csv",
        "empty json",
        "torn gzip",
        "names",
        "columns",
        "mlflow",
        "ending",
        "folder",
        "missing",
    ],  # fmt: skip
)
def test_a_file_that_cannot_be_scored_says_why(server, tmp_path, capsys, name, content, message):
    (tmp_path / "folder.csv").mkdir()
    input = tmp_path / name if content is None else write(tmp_path / name, content)

    assert infer(server, input, tmp_path / "out.csv", "table") == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Age, city,yes\n1,a,true\n", "rename 'Age' to 'age', ' city' to 'city'"),
        ("1,Bern,true\n2,Chur,true\n", "the first line of the file seems to hold values"),
        (",age,city\n0,1,Bern\n", "do not include 'Unnamed: 0': --ignore-extra"),
    ],
)
def test_columns_that_the_model_does_not_know_say_what_to_do(
    server, tmp_path, capsys, text, message
):
    assert infer(server, write(tmp_path / "in.csv", text), tmp_path / "out.csv", "table") == 1
    assert message in capsys.readouterr().err


def test_a_failed_row_is_named_by_its_number_and_its_line(server, tmp_path, capsys):
    text = HEADER + '1,"a\nb",true\n\n2,Bern,true\nbad,Bern,true\n'
    output = tmp_path / "out.csv"

    assert infer(server, write(tmp_path / "in.csv", text), output, "table") == 1
    assert "row 3 (line 6): column 'age': expected INT64, got 'bad'" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [(), ("-b",)], ids=["json", "binary"])
def test_a_row_of_csv_with_a_value_too_many_fails_alone(server, tmp_path, capsys, flags):
    text = HEADER + ROW + "31,Bern,true,false\n" + ROW
    output = tmp_path / "out.csv"

    assert infer(server, write(tmp_path / "in.csv", text), output, "table", *flags) == 1
    assert answers(output) == [SAID, None, SAID]
    assert "row 2 (line 3): expected 3 values" in capsys.readouterr().err


def test_a_wrong_model_name_is_told_the_nearest_one(server, tmp_path, capsys):
    input = write(tmp_path / "in.csv", TEXT)

    assert infer(server, input, tmp_path / "out.csv", "tabel") == 1
    assert "did you mean 'table'" in capsys.readouterr().err


def test_the_fields_of_a_csv_row_are_the_numbers_that_they_are_in_json(server, tmp_path):
    output = tmp_path / "out.csv"
    text = "name,age,nick\na,1,\nb,2,007\nc,old,x\n"

    assert infer(server, write(tmp_path / "in.csv", text), output, "persons") == 1
    assert answers(output) == ["a 1 -", "b 2 007", None]


SLOW = "time.sleep(0.02)\nreturn x * 2"


def test_a_server_that_goes_away_ends_the_run_where_the_next_one_resumes(tmp_path, capsys):
    folder = write_model(tmp_path, SLOW, name="slow")
    input, output = tmp_path / "in.csv", tmp_path / "out.csv"
    input.write_text("x\n" + "".join(f"{at}.0\n" for at in range(400)))
    part = tmp_path / "out.csv.part"

    with serving(folder) as first, ThreadPoolExecutor(1) as pool:
        flags = ("-s", "1", "-w", "1", "-r", "0")
        run = pool.submit(infer, first, input, output, "slow", *flags)
        until(lambda: part.exists() and part.stat().st_size > 0, 60, "some are answered")
        first.signal()
        assert run.result(60) == 1
    said = capsys.readouterr().err
    assert "run the same command to resume" in said
    assert str(part) in said
    lines = part.read_bytes().count(b"\n")
    assert 0 < lines < 400

    with serving(folder) as second:
        assert infer(second, input, output, "slow") == 0
    assert f"resuming after {lines} row" in capsys.readouterr().err
    assert [float(cell) for cell in answers(output)] == [at * 2.0 for at in range(400)]
