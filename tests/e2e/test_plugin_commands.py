"""The commands that serve a plugin: ours, and the one of the MLflow pluggable scoring server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import headrace
from support.asking import ask
from support.plugins import source
from support.serving import serving, starting

pytestmark = pytest.mark.e2e

PREDICT = 'return {"model": model, "got": data.decode()}'
OLD = """
import json
from mlflow_pluggable_scoring_server.plugin import BasePlugin
import helper

class Plugin(BasePlugin):
    def load_model(self, model_uri):
        with open(model_uri) as file:
            return file.read()

    def predict(self, model, data):
        return json.dumps([model, helper.WORD, data.decode("utf-8")])

    def request_content_type(self):
        return "text/plain"
"""
TEXT = {"Content-Type": "text/plain"}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder as users of that server have: a plugin, a module of its own, and a model file."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/plugin.py").write_text(OLD)
    (tmp_path / "code/helper.py").write_text("WORD = 'helped'")
    (tmp_path / "model.txt").write_text("weights")
    return tmp_path


@contextmanager
def webserver(folder: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """`python -m headrace.plugins.webserver` in a folder; yields the addresses it announced."""
    reading, writing = os.pipe()
    variables = {"HEADRACE_READY_FD": str(writing), "HEADRACE_HOME": str(folder / "home")}
    variables["PYTHONPATH"] = str(Path(headrace.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace.plugins.webserver", *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        pass_fds=[writing],
        stdin=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as ready:
            yield json.loads(ready.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_any_file_is_served_with_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"\x00")
    (tmp_path / "plugin.py").write_text(source(PREDICT))
    with serving(tmp_path / "model.bin", "--plugin", tmp_path / "plugin.py") as server:
        answer = ask(server.http, "POST", "/api/predict", b"a", TEXT)

    assert answer.json == {"model": str(tmp_path / "model.bin"), "got": "a"}


def test_a_class_and_a_name_are_chosen(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(source().replace("class Plugin", "class Wine"))
    chosen = ["--plugin", tmp_path / "mine.py", "--plugin-class", "Wine", "--name", "wine"]
    with serving(tmp_path, *chosen) as server:
        answer = ask(server.http, "POST", "/v2/models/wine/raw", b"a", TEXT)

    assert answer.body == b"A"


def test_a_plugin_is_named_by_its_import_path(tmp_path: Path) -> None:
    package = tmp_path / "packaged"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "scoring.py").write_text(source())
    env = {"PYTHONPATH": str(tmp_path)}
    with serving(tmp_path, "--plugin", "packaged.scoring.Plugin", env=env) as server:
        assert ask(server.http, "POST", "/api/predict", b"a", TEXT).body == b"A"


def test_an_incomplete_plugin_ends_the_server_with_what_it_lacks(tmp_path: Path) -> None:
    code = "from headrace.plugins import BasePlugin\nclass Plugin(BasePlugin): pass"
    (tmp_path / "plugin.py").write_text(code)
    with starting(tmp_path, "--plugin", tmp_path / "plugin.py") as server:
        assert server.wait(30) == 1
        log = server.log()

    assert "does not define load_model and predict and request_content_type" in log


def test_a_plugin_is_loaded_again_with_what_changed(tmp_path: Path) -> None:
    file = tmp_path / "plugin.py"
    file.write_text(source("return 'first'"))
    with serving(tmp_path, "--plugin", file, "--name", "p") as server:
        assert ask(server.http, "POST", "/api/predict", b"a", TEXT).body == b"first"
        file.write_text(source("return 'second one'"))
        assert ask(server.http, "POST", "/v2/repository/models/p/load").status == 200

        assert ask(server.http, "POST", "/api/predict", b"a", TEXT).body == b"second one"


@pytest.mark.parametrize("flag", ["--plugin", "--plugin-file"])
def test_the_older_command_line_is_accepted_word_for_word(flag: str, old: Path) -> None:
    arguments = ["--host", "localhost", "--port", "0", flag, "code/plugin.py"]
    arguments += ["--plugin-class", "plugin.Plugin", "--model-uri", "file:model.txt"]
    with webserver(old, *arguments) as announced:
        answer = ask(announced["http"], "POST", "/api/predict", b"a", TEXT)
        status = ask(announced["http"], "GET", "/api/status").json

    assert answer.json == ["weights", "helped", "a"]
    assert status["system"]["current_dir"] == old.name


def test_the_older_file_of_settings_is_read(old: Path) -> None:
    (old / "conf.yaml").write_text(
        "port: 0\nhost: localhost\nplugin: code/plugin.py\nmodel_uri: file:model.txt\n"
        "logging: {level: WARNING, format: '[%(asctime)s] %(levelname)s: %(message)s'}\n"
    )
    with webserver(old, "--conf", "conf.yaml") as announced:
        assert ask(announced["http"], "POST", "/api/predict", b"a", TEXT).status == 200
        status = ask(announced["http"], "GET", "/api/status").json

    assert status["system"]["current_logging_level"] == "WARNING"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model-uri", "m"], "--plugin-file is missing"),
        (["--plugin", "p.py"], "--model-uri is missing"),
        (["--plugin", "p.py", "--model-uri", ""], "--model-uri is missing"),
        (["--plugin", "p.py", "--model-uri", "m"], "there is no file 'p.py'"),
        (["--conf", "nowhere.yaml"], "No such file"),
    ],
)
def test_what_is_missing_is_reported(
    arguments: list[str], words: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    from headrace.plugins.webserver import main

    monkeypatch.chdir(tmp_path)

    assert main(arguments) == 2
    assert words in capsys.readouterr().err
