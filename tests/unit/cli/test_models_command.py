"""`headrace models`: what is printed, for people and for scripts, and how it ends."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml

from headrace import models
from headrace.cli.main import main
from support.stored import store


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["models", *arguments]) == status
    captured = capsys.readouterr()
    return captured.out if status == 0 else captured.err


def test_a_list_is_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "list") == "no models\n"
    store("iris:v1"), store("rose:v1")

    head, first, second = printed(capsys, "list").splitlines()
    assert head.split() == ["TAG", "MODULE", "SIZE", "CREATION", "TIME"]
    assert first.split()[:2] == ["iris:v1", "headrace.sklearn"]
    assert second.startswith("rose:v1")
    assert printed(capsys, "list", "rose").splitlines()[1:] == [second]


def test_a_list_is_json_yaml_or_paths_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    model = store("iris:v1", labels={"a": "b"})

    [row] = json.loads(printed(capsys, "list", "-o", "json"))
    assert (row["tag"], row["labels"], row["path"]) == ("iris:v1", {"a": "b"}, model.path[:-1])
    assert yaml.safe_load(printed(capsys, "list", "-o", "yaml")) == [row]
    assert printed(capsys, "list", "-o", "path") == f"{row['path']}\n"


def test_a_model_is_shown_in_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    model = store("iris:v1", metadata={"scores": {"f1": 0.5}}, signatures={"predict": {}})

    assert printed(capsys, "get", "iris:latest", "-o", "path") == f"{model.path[:-1]}\n"
    document = json.loads(printed(capsys, "get", "iris", "-o", "json"))
    assert document["metadata"] == {"scores": {"f1": 0.5}}
    assert yaml.safe_load(printed(capsys, "get", "iris", "-o", "yaml")) == document
    lines = [line.split() for line in printed(capsys, "get", "iris").splitlines()]
    assert ["metadata.scores.f1", "0.5"] in lines
    assert ["signatures.predict.batchable", "False"] in lines


def test_errors_are_one_line_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    error = printed(capsys, "get", "iris", status=1)
    assert error.startswith("headrace: model 'iris' is not in the store")
    assert printed(capsys, "get", "../x", status=1).startswith("headrace: '../x' is not the name")
    assert "no such file" in printed(capsys, "import", "nothing.zip", status=1)


def test_a_model_is_exported_and_imported(capsys: pytest.CaptureFixture[str]) -> None:
    store("iris:v1")

    assert printed(capsys, "export", "iris", "a.zip") == 'Model(tag="iris:v1") exported to a.zip\n'
    assert "iris-v1.tar.gz" in printed(capsys, "export", "iris", "--format", "tar.gz")
    models.delete("iris")
    assert printed(capsys, "import", "a.zip") == 'Model(tag="iris:v1") imported\n'


def test_an_export_replaces_nothing_and_makes_no_folder_by_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store("iris:v1")
    printed(capsys, "export", "iris", "a.zip")

    assert "'a.zip' exists" in printed(capsys, "export", "iris", "a.zip", status=1)
    assert "exported to a.zip" in printed(capsys, "export", "iris", "a.zip", "--overwrite")
    assert "'.rar' is no known archive format" in printed(
        capsys, "export", "iris", "a.rar", status=1
    )
    assert not Path("a.rar").exists()


def test_all_models_of_another_home_folder_are_imported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store("iris:v1"), store("iris:v2"), store("rose:v1")
    (tmp_path / "home").rename(tmp_path / "bentoml")

    assert len(printed(capsys, "import", "bentoml").splitlines()) == 3
    assert len(models.list()) == 3


def test_removing_asks_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store("iris:v1"), store("iris:v2")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert main(["models", "delete", "iris"]) == 2
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert main(["models", "delete", "iris:v1"]) == 1
    assert len(models.list()) == 2
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert 'Model(tag="iris:v1") deleted' in printed(capsys, "delete", "iris:v1")
    printed(capsys, "delete", "iris", "rose", "-y", status=1)
    assert len(models.list()) == 1
    printed(capsys, "delete", "iris", "-y")
    assert models.list() == []


def test_a_model_goes_to_an_object_store_and_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store("iris:v1")
    url = f"file://{tmp_path}/team"

    assert printed(capsys, "push", "iris", url) == 'Model(tag="iris:v1") pushed\n'
    assert printed(capsys, "push", "iris", url) == 'Model(tag="iris:v1") was there already\n'
    models.delete("iris")
    assert printed(capsys, "list", "--url", url).splitlines()[1].startswith("iris:v1")
    assert json.loads(printed(capsys, "list", "--url", url, "-o", "json"))[0]["tag"] == "iris:v1"
    assert printed(capsys, "pull", "iris", url) == 'Model(tag="iris:v1") pulled\n'


def test_a_model_gets_a_second_tag(capsys: pytest.CaptureFixture[str]) -> None:
    store("iris:v1")

    assert printed(capsys, "tag", "iris", "iris:prod") == 'Model(tag="iris:prod") created\n'
    assert str(models.get("iris:prod").tag) == "iris:prod"
