"""`headrace env build`: what models would wait for when they load, made ahead of time."""

from __future__ import annotations

import json

from headrace.cli.main import main
from support.wheels import FAKE_NUMPY, make_wheel, offline


def test_environments_are_built_once_and_models_without_needs_get_the_servers(
    tmp_path, monkeypatch, capsys
):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, "numpy", "9.9", FAKE_NUMPY)
    make_wheel(wheels, "other", "1.0")
    for name, value in offline(wheels).items():
        monkeypatch.setenv(name, value)
    for name, needs in (("plain", {}), ("needy", {"environment": {"packages": ["other==1.0"]}})):
        (tmp_path / "models" / name).mkdir(parents=True)
        text = json.dumps({"implementation": "m.M", **needs})
        (tmp_path / "models" / name / "model-settings.json").write_text(text)
    command = ["env", "build", str(tmp_path / "models")]
    command += ["--environments-dir", str(tmp_path / "environments")]

    assert main(command) == 0

    first = capsys.readouterr().out.splitlines()
    (python,) = (tmp_path / "environments").glob("*/bin/python")
    assert first[-2:] == [f"needy: {python}", "plain: the server's"]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == first[-2:]


def test_a_build_that_fails_says_why_and_ends_with_one(tmp_path, monkeypatch, capsys):
    for name, value in offline(tmp_path).items():
        monkeypatch.setenv(name, value)
    text = json.dumps({"implementation": "m.M", "environment": {"packages": ["no-such"]}})
    (tmp_path / "model-settings.json").write_text(text)

    command = ["env", "build", str(tmp_path), "--environments-dir", str(tmp_path / "environments")]
    assert main(command) == 1

    assert "no-such" in capsys.readouterr().err
