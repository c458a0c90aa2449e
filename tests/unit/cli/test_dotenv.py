"""Settings in a `.env` file of the working directory."""

from __future__ import annotations

import json

import pytest

from headrace.cli.dotenv import environment, parse
from headrace.cli.main import main
from headrace.errors import ConfigurationError


def write(folder, text):
    (folder / ".env").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("MLSERVER_X=1", "1"),
        ("  export MLSERVER_X = 1 # one", "1"),
        ("mlserver_x=1", "1"),
        ("MLSERVER_X=", ""),
        ("MLSERVER_X= # comment", ""),
        ("MLSERVER_X=#1", "#1"),
        ("MLSERVER_X=a b#c", "a b#c"),
        ('MLSERVER_X="a # b" # comment', "a # b"),
        ('MLSERVER_X="a\\tb\\"c"', 'a\tb"c'),
        ("""MLSERVER_X='{"a": "it\\'s"}'""", '{"a": "it\'s"}'),
        ("MLSERVER_X='a\\tb'", "a\\tb"),
        ('MLSERVER_X="two\nlines"\n', "two\nlines"),
        ("A=b\nMLSERVER_X=${A}${HOME}${NONE:-c}${NONE}", "b/rootc"),
        ("MLSERVER_X=1\nMLSERVER_X=2", "2"),
        ("# MLSERVER_X=0\n\nMLSERVER_X=1\n", "1"),
    ],
    ids=lambda given: repr(given)[:24],
)
def test_statements_are_read_as_other_programs_read_them(text, value):
    assert parse(text, {"HOME": "/root"}) == {"MLSERVER_X": value}


def test_statements_of_other_programs_do_not_count_whatever_their_form():
    text = "PATH=/bin\nthis is no statement\nODD='unended\nHEADRACE_NAME=x"

    assert parse(text, {}) == {"HEADRACE_NAME": "x"}


def test_a_setting_that_is_not_well_formed_is_refused_with_its_line(tmp_path):
    write(tmp_path, "A=1\n\nMLSERVER_HOST='unended\n")

    with pytest.raises(ConfigurationError, match=r"\.env line 3: the value of MLSERVER_HOST"):
        environment(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe", "expected UTF-8"), (b"#" * (1 << 20) + "é".encode(), "larger than")],
    ids=["bytes", "large"],
)
def test_a_file_that_is_not_a_settings_file_is_refused(tmp_path, content, message):
    (tmp_path / ".env").write_bytes(content)

    with pytest.raises(ConfigurationError, match=message):
        environment(tmp_path)


def test_the_environment_comes_before_the_file_and_the_file_before_settings_json(
    tmp_path, monkeypatch, capsys
):
    write(tmp_path, "MLSERVER_HTTP_PORT=1\r\nMLSERVER_GRPC_PORT='2'\r\n")
    (tmp_path / "settings.json").write_text(
        json.dumps({"http_port": 9, "grpc_port": 9, "metrics_port": 9})
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLSERVER_HTTP_PORT", "3")

    assert main(["config", "show", "--json"]) == 0

    server = json.loads(capsys.readouterr().out)["server"]
    ports = [server[name]["value"] for name in ("http_port", "grpc_port", "metrics_port")]
    assert ports == [3, 2, 9]


def test_the_file_describes_the_model_of_a_folder_without_settings(tmp_path, monkeypatch, capsys):
    write(tmp_path, "MLSERVER_MODEL_NAME=iris\nMLSERVER_MODEL_IMPLEMENTATION=sklearn\n")
    monkeypatch.chdir(tmp_path)

    assert main(["config", "show", "--json"]) == 0

    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["settings"]["name"]["value"] == "iris"
