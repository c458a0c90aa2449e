"""`headrace infer` with rows: what the model's metadata says, bad cells, columns to keep."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from headrace.cli.main import main
from headrace.client import Client
from support.custom import write_model
from support.serving import Server, serving

pytestmark = pytest.mark.e2e

TYPES = {
    "x": "double", "n": "long", "when": "datetime", "raw": "binary", "text": "string",
    "yes": "boolean",
}  # fmt: skip
OPTIONAL = ("yes",)
COLUMNS = [ColSpec(kind, name, name not in OPTIONAL) for name, kind in TYPES.items()]


# Says what each column holds once it reached the model.
DESCRIBE = """\
import mlflow, pandas as pd

class Describe(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        months = model_input["when"].dt.strftime("%Y-%m")
        sizes = model_input["raw"].map(len).astype(str)
        numbers = model_input["n"].map(str) + " " + model_input["x"].map(repr)
        said = months + " " + sizes + " " + model_input["text"] + " " + numbers
        return pd.DataFrame({"said": said})

mlflow.models.set_model(Describe())
"""
GOOD = {"x": 0.1, "n": 2**53 + 1, "when": "2024-05-07", "raw": "YWI=", "text": "007"}
SAID = "2024-05 2 007 9007199254740993 0.1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("typed")
    (folder / "describe.py").write_text(DESCRIBE)
    with warnings.catch_warnings():
        # It has a signature, and needs no example.
        warnings.simplefilter("ignore", UserWarning)
        mlflow.pyfunc.save_model(
            folder / "typed" / "model",
            python_model=folder / "describe.py",
            signature=ModelSignature(Schema(COLUMNS)),
        )
    settings = {"name": "m", "implementation": "mlflow", "parameters": {"uri": "./model"}}
    (folder / "typed" / "model-settings.json").write_text(json.dumps(settings))
    plain = folder / "plain"
    plain.mkdir()
    write_model(plain, "return x * 2", name="doubled")
    with serving(folder, "--env-manager", "local") as running:
        yield running


def infer(server: Server, input: Path, output: Path, *more: str, model: str = "m") -> int:
    return main(
        ["infer", "-u", server.http, "-m", model, "-i", str(input), "-o", str(output), *more]
    )


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A table in the form that the ending of the path says."""
    if path.suffix == ".csv":
        pd.DataFrame(rows, dtype=object).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=2))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype=object)
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "json"])
def test_each_column_is_what_the_metadata_says(server, tmp_path, kind):
    input = write(tmp_path / f"in.{kind}", [GOOD] * 5)
    output = tmp_path / f"out.{'jsonl' if kind == 'json' else kind}"

    assert infer(server, input, output) == 0
    assert read(output)["said"].tolist() == [SAID] * 5


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_the_client_sends_text_as_the_time_and_the_bytes_that_the_metadata_says(server, transport):
    address = server.http if transport == "http" else f"grpc://{server.announced['grpc']}"

    with Client(address) as client:
        answer = client.predict("m", pd.DataFrame([GOOD, GOOD], index=[5, 6]))
        again = client.predict("m", {name: [value] for name, value in GOOD.items()})

    assert answer["said"].to_dict() == {5: SAID, 6: SAID}
    assert again["said"].tolist() == [SAID]


BAD = [
    ("x", "abc"), ("x", "1_000"), ("n", "1.5"), ("n", ""), ("n", "1e30"), ("when", "yesterday"),
    ("raw", ""), ("raw", "%"), ("yes", "perhaps"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "cell"), BAD)
def test_one_bad_cell_of_a_csv_fails_its_row_only(server, tmp_path, capsys, column, cell):
    rows = [{**GOOD, "yes": "true"} for _ in range(20)]
    rows[7] = {**rows[7], column: cell}
    output = tmp_path / "out.csv"

    assert infer(server, write(tmp_path / "in.csv", rows), output) == 1

    answer = read(output)
    assert answer["error"].notna().to_numpy().nonzero()[0].tolist() == [7]
    assert answer["said"].drop(7).tolist() == [SAID] * 19
    assert f"'{column}'" in answer["error"][7]
    log = capsys.readouterr().err
    assert "20 rows, 1 failed" in log
    assert "row 8 (line 9): " in log


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("x", "0.1"),
        ("x", True),
        ("n", 1.5),
        ("n", None),
        ("text", 5),
        ("x", [1]),
        ("raw", 5),
        ("when", 5),
    ],
)
def test_one_bad_value_among_json_rows_fails_its_row_only(server, tmp_path, column, cell):
    rows = [dict(GOOD) for _ in range(9)]
    rows[4][column] = cell
    output = tmp_path / "out.jsonl"

    assert infer(server, write(tmp_path / "in.jsonl", rows), output) == 1

    answer = read(output)
    assert answer["error"].notna().to_numpy().nonzero()[0].tolist() == [4]
    assert answer["said"].drop(4).tolist() == [SAID] * 8
    assert f"'{column}'" in answer["error"][4]


def test_bad_first_and_last_rows_do_not_blame_the_rows_between(server, tmp_path):
    rows = [{**GOOD, "when": "bad" if at in (0, 19) else GOOD["when"]} for at in range(20)]
    output = tmp_path / "out.csv"

    assert infer(server, write(tmp_path / "in.csv", rows), output) == 1
    assert read(output)["error"].notna().to_numpy().nonzero()[0].tolist() == [0, 19]


@pytest.mark.parametrize("rows", [True, False], ids=["row", "request"])
def test_a_json_file_may_be_one_object_on_several_lines(server, tmp_path, rows):
    tensor = {"name": "x", "datatype": "FP64", "shape": [1], "data": [4]}
    input, output = tmp_path / "in.json", tmp_path / "out.jsonl"
    input.write_text(json.dumps({"x": 4.0} if rows else {"inputs": [tensor]}, indent=2))

    assert infer(server, input, output, model="doubled") == 0
    (answer,) = read(output).to_dict("records")
    assert answer["output-1"] == 8.0 if rows else answer["outputs"][0]["data"] == [8.0]


def test_a_file_that_is_no_json_is_refused(server, tmp_path, capsys):
    input = tmp_path / "in.json"
    input.write_text('[{"x": 4.0},')

    assert infer(server, input, tmp_path / "out.jsonl") == 2
    assert "not valid JSON" in capsys.readouterr().err


def test_a_line_that_is_no_object_fails_alone(server, tmp_path):
    input = write(tmp_path / "in.jsonl", [GOOD] * 3)
    lines = input.read_text().splitlines()
    input.write_text("\n".join([*lines[:2], "[1", "7", lines[2]]))
    output = tmp_path / "out.jsonl"

    assert infer(server, input, output) == 1
    assert read(output)["error"].isna().tolist() == [True, True, False, False, True]


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_extra_columns_are_left_out_or_carried_through(server, tmp_path, kind):
    rows = [{"id": f"00{at}", "note": "NA", **GOOD} for at in range(30)]
    rows[3]["n"] = None
    input = write(tmp_path / f"in.{kind}", rows)
    output = tmp_path / f"out.{kind}"

    flags = ("--ignore-extra", "--keep", "id,text", "-s", "7")
    assert infer(server, input, output, *flags) == 1

    answer = read(output)
    assert list(answer.columns) == ["id", "text", "said", "error"]
    assert answer["id"].tolist() == [f"00{at}" for at in range(30)]
    assert answer["text"].tolist() == ["007"] * 30
    assert answer["said"].drop(3).tolist() == [SAID] * 29
    assert "expected INT64, got nothing" in answer["error"][3]


def test_a_file_whose_rows_all_fail_ends_early_and_says_what_to_do(server, tmp_path, capsys):
    input = write(tmp_path / "in.csv", [{"id": at, **GOOD} for at in range(3000)])
    output = tmp_path / "out.csv"

    assert infer(server, input, output) == 1

    log = capsys.readouterr().err
    assert "surplus column 'id'" in log
    assert "--ignore-extra leaves out" in log
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]
    # Nothing is left that would keep the mended command from starting.
    assert infer(server, input, output, "--keep", "id") == 0
    assert read(output)["id"].tolist() == [str(at) for at in range(3000)]


def test_a_short_file_with_a_surplus_column_is_told_what_to_do(server, tmp_path, capsys):
    input = write(tmp_path / "in.csv", [{"id": at, **GOOD} for at in range(3)])

    assert infer(server, input, tmp_path / "out.csv") == 1
    assert "do not include 'id': --ignore-extra leaves out" in capsys.readouterr().err


def test_a_few_rows_that_all_fail_are_written_with_their_reasons(server, tmp_path, capsys):
    input = write(tmp_path / "in.csv", [{**GOOD, "x": f"bad{at}"} for at in range(20)])
    output = tmp_path / "out.csv"

    assert infer(server, input, output) == 1

    assert read(output)["error"].notna().all()
    log = capsys.readouterr().err
    assert "20 rows, the first is row 1 (line 2): column 'x': expected FP64, got 'bad0'" in log


def test_bad_rows_at_the_start_can_be_passed(server, tmp_path, capsys):
    rows = [{**GOOD, "x": "bad" if at < 150 else 0.1} for at in range(160)]
    input, output = write(tmp_path / "in.csv", rows), tmp_path / "out.csv"

    assert infer(server, input, output, "-w", "1") == 1
    assert not output.exists()
    assert "--keep-going" in capsys.readouterr().err
    assert infer(server, input, output, "--keep-going") == 1
    assert read(output)["said"].isna().sum() == 150


def test_text_of_a_csv_stays_as_it_is_written(server, tmp_path):
    input = write(tmp_path / "in.csv", [{**GOOD, "text": word} for word in ("NA", "null", "1e5")])
    output = tmp_path / "out.csv"

    assert infer(server, input, output) == 0
    assert [said.split()[2] for said in read(output)["said"]] == ["NA", "null", "1e5"]


def test_rows_of_nested_lists_are_a_tensor(server, tmp_path):
    input = write(tmp_path / "in.jsonl", [{"x": [at, at + 0.5]} for at in range(3)])
    output = tmp_path / "out.jsonl"

    assert infer(server, input, output, model="doubled") == 0
    answers = [np.asarray(row).tolist() for row in read(output)["output-1"]]
    assert answers == [[at * 2.0, at * 2 + 1.0] for at in range(3)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--keep", "idd"), "the file has no column 'idd'; it has 'x', 'n'"),
        (("--keep", "x", "-o", "out.jsonl"), "--keep needs a table of answers"),
    ],
)
def test_a_selection_that_cannot_work_says_why(
    server, tmp_path, monkeypatch, capsys, flags, message
):
    monkeypatch.chdir(tmp_path)
    input = write(tmp_path / "in.csv", [GOOD])

    assert infer(server, input, tmp_path / "out.csv", *flags) == 2
    assert message in capsys.readouterr().err
