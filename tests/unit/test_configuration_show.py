"""`headrace config show`."""

from __future__ import annotations

import json

import pytest

from headrace.cli.main import main


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "settings.json").write_text('{"http_port": 9000, "kafka_enabled": true}')
    model = tmp_path / "iris"
    model.mkdir()
    settings = {"implementation": "sklearn", "warm_workers": True}
    (model / "model-settings.json").write_text(json.dumps(settings))
    return tmp_path


def test_each_value_is_shown_with_its_source(folder, capsys, monkeypatch):
    monkeypatch.setenv("HEADRACE_INFER_TIMEOUT", "5")
    file = folder / "settings.json"

    assert main(["config", "show", str(folder), "--host", "::1"]) == 0

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["host", '"::1"', "--host"] in lines
    assert ["http_port", "9000", f"{file}:", "http_port"] in lines
    assert ["infer_timeout", "5.0", "HEADRACE_INFER_TIMEOUT"] in lines
    assert ["load_timeout", "300.0", "default"] in lines
    assert ["model", "iris"] in lines
    assert ["implementation", '"sklearn"', str(folder / "iris/model-settings.json")] in lines


def test_what_has_no_effect_is_shown(folder, capsys):
    main(["config", "show", str(folder)])

    out = capsys.readouterr().out
    assert "kafka_enabled is accepted and has no effect" in out
    assert "warm_workers is accepted and has no effect" in out


def test_the_same_as_json(folder, capsys):
    assert main(["config", "show", str(folder), "--json", "--no-allow-repository-api"]) == 0

    shown = json.loads(capsys.readouterr().out)
    assert shown["server"]["allow_repository_api"] == {
        "value": False,
        "from": "--no-allow-repository-api",
    }
    [model] = shown["models"]
    assert model["settings"]["name"] == {"value": "iris", "from": "default"}
    assert model["ignored"] == ["warm_workers"]


def test_a_wrong_value_ends_with_its_place(folder, capsys):
    (folder / "settings.json").write_text('{"http_port": "many"}')

    assert main(["config", "show", str(folder)]) == 2

    assert "settings.json: http_port" in capsys.readouterr().err


def test_an_empty_folder_is_shown(tmp_path, capsys):
    assert main(["config", "show", str(tmp_path)]) == 0

    assert "no model found" in capsys.readouterr().out
