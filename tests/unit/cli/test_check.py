"""`headrace check`: every mistake of a folder is named, and nothing is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.main import main
from support.custom import write_model


def checked(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, dict[str, Any]]:
    """The exit status, and the JSON that is printed."""
    status = main(["check", "--json", *map(str, arguments)])
    return status, json.loads(capsys.readouterr().out)


def write(folder: Path, **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model-settings.json").write_text(json.dumps(settings))
    return folder


def test_a_folder_without_mistakes_passes_and_notes_what_has_no_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path, name="good", warm_workers=True)
    (tmp_path / "settings.json").write_text('{"kafka_enabled": true}')

    status, found = checked(capsys, tmp_path)

    assert (status, found["ok"], found["problems"]) == (0, True, [])
    assert found["models"] == [{"name": "good", "version": None}]
    assert [note["model"] for note in found["notes"]] == [None, "good"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"implementation": "sklearn", "max_batch_sise": 1}, "did you mean 'max_batch_size'?"),
        ({"implementation": "sklaern"}, "there is no runtime 'sklaern'; did you mean 'sklearn'?"),
        ({}, "names no implementation"),
        ({"implementation": "sklearn", "parameters": {"uri": "gone.joblib"}}, "does not exist"),
        ({"implementation": "mlflow"}, "there is no MLmodel file"),
        ({"implementation": "gone.py:Model"}, "there is no module 'gone.py'"),
        ({"implementation": "nowhere_to_be_found.Model"}, "no module 'nowhere_to_be_found'"),
        ({"implementation": "sklearn", "environment": {"requirements": "gone.txt"}}, "gone.txt"),
        ({"implementation": "sklearn", "max_batch_size": -1}, "max_batch_size: expected integer"),
        ({"implementation": "sklearn", "max_batch_time": -1}, "max_batch_time: expected number"),
        ({"implementation": "sklearn", "inputs": [{"name": 1}]},
         "inputs[0].name: expected string, got integer"),
        ({"implementation": "sklearn", "inputs": [{"shape": [1]}]}, "inputs[0].name: is missing"),
        ({"implementation": "sklearn", "inputs": [{"name": "x", "shape": ["a"]}]},
         "inputs[0].shape[0]: expected integer, got string"),
        ({"implementation": "sklearn", "outputs": [{"name": "x", "datatype": "FP46"}]},
         "outputs[0].datatype: there is no datatype 'FP46'; did you mean 'FP64'?"),
        ({"implementation": "sklearn", "parameters": []}, "parameters: expected an object"),
        ({"implementation": "sklearn", "parameters": {"environment_path": "gone"}}, "bin/python"),
        ({"implementation": "sklearn", "parameters": {"environment_tarball": "gone.tgz"}},
         "its environment_tarball does not exist"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_model(
    settings: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path, name="good")
    write(tmp_path / "bad", **settings)

    status, found = checked(capsys, tmp_path)

    assert (status, found["ok"]) == (1, False)
    assert [problem["model"] for problem in found["problems"]] == ["bad"]
    assert message in found["problems"][0]["message"]


def test_every_mistake_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, implementation="gone.Model", max_batch_sise=1)
    (tmp_path / "settings.json").write_text('{"paralel_workers": 2}')

    _, found = checked(capsys, tmp_path)

    assert [problem["model"] for problem in found["problems"]] == [None, "a", "a", "b", "b"]


def test_unmet_requirements_are_a_note_if_an_environment_will_be_built_and_else_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"requirements": ["numpy==1.0.7"]}
    write_model(tmp_path, name="picky", environment=environment)

    automatic = checked(capsys, tmp_path)
    local = checked(capsys, tmp_path, "--env-manager", "local")

    assert (automatic[0], local[0]) == (0, 1)
    assert "lacks 'numpy==1.0.7'" in automatic[1]["notes"][0]["message"]
    assert "lacks 'numpy==1.0.7'" in local[1]["problems"][0]["message"]


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"http_port": "abc"}', "expected integer, got 'abc'"), ("{", "it ends too early")],
)
def test_what_keeps_the_server_from_starting_is_a_problem(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.json").write_text(text)

    status, found = checked(capsys, tmp_path)

    assert status == 1
    assert message in found["problems"][0]["message"]


def test_people_get_a_line_for_each_finding_and_a_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "bad", implementation="gone.py:Model")

    assert main(["check", str(tmp_path)]) == 1

    assert capsys.readouterr().out == (
        "bad: problem: implementation 'gone.py:Model': there is no module 'gone.py'\n"
        "1 model, 1 problem\n"
    )


def test_an_empty_folder_is_a_problem_unless_that_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(capsys, tmp_path)[0] == 1
    assert checked(capsys, tmp_path, "--allow-empty")[0] == 0
