"""Models from the registry of a real MLflow server."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

import headrace
from support.asking import ask
from support.clients import run_script
from support.serving import serving, starting
from support.tracking import ENVIRONMENT, tracking_server
from support.wine import DATA, columns, save_mlflow, trained, wines

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.registry,
    pytest.mark.filterwarnings("ignore"),
    # Two starts of MLflow come before the first test.
    pytest.mark.timeout(900),
]
# Importing MLflow alone takes most of a minute on a machine that is busy.
STARTED = 400

# Python runs this in every process that can find it: it records which ones import MLflow.
WATCH = """
import os, sys

def watch(event, arguments):
    if event == "import" and arguments[0].partition(".")[0] == "mlflow":
        open(os.path.join(os.environ["WATCHED"], str(os.getpid())), "a").close()

sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """The address of the registry and what is in it."""
    with tracking_server(tmp_path_factory.mktemp("tracking")) as address:
        env = {**ENVIRONMENT, "MLFLOW_TRACKING_URI": address}
        script = "register_wine.py"
        logged = run_script(Path(sys.executable), script, str(DATA), timeout=STARTED, **env)
        yield env, logged


def predictions(server, name):
    body = {"inputs": columns(wines().head(3))}
    answer = ask(server.http, "POST", f"/v2/models/{name}/infer", body)
    assert answer.status == 200, answer.body
    return answer.json["outputs"][0]["data"]


@pytest.fixture(scope="module")
def champion(registry, tmp_path_factory):
    """A server of the alias, and the ids of its processes that imported MLflow."""
    env, _ = registry
    folder = tmp_path_factory.mktemp("watch")
    (folder / "sitecustomize.py").write_text(WATCH)
    (folder / "seen").mkdir()
    source = Path(headrace.__file__).parents[1]
    watched = {
        "PYTHONPATH": os.pathsep.join([str(folder), str(source)]),
        "WATCHED": str(folder / "seen"),
    }
    with serving("models:/wine@champion", env={**env, **watched}, timeout=STARTED) as server:
        yield server, lambda: {int(path.name) for path in (folder / "seen").iterdir()}


def test_an_alias_is_served_under_the_name_of_the_model(champion, registry):
    server, _ = champion
    _, logged = registry
    assert predictions(server, "wine") == pytest.approx(logged[0]["expected"], rel=1e-12)


def test_neither_the_server_nor_its_workers_import_mlflow(champion):
    server, importers = champion
    predictions(server, "wine")
    # The child that fetched the model, gone by now, shows that watching works.
    assert len(importers()) == 1
    assert server.workers()
    assert not importers() & {server.process.pid, *server.workers()}


@pytest.mark.parametrize(
    ("uri", "name", "which"),
    [
        pytest.param("models:/wine/1", "wine", 0, id="version"),
        pytest.param("models:/wine/latest", "wine", 1, id="latest"),
        pytest.param("runs:/{run}/model", "model", 1, id="run"),
        pytest.param("models:/{model_id}", "{model_id}", 0, id="model id"),
    ],
)
def test_a_model_of_the_registry_is_served_while_its_download_lasts(
    uri, name, which, registry, tmp_path
):
    env, logged = registry
    model, downloads = logged[which], tmp_path / "downloads"
    with serving(
        uri.format(**model), env={**env, "HEADRACE_HOME": str(tmp_path)}, timeout=STARTED
    ) as server:
        assert predictions(server, name.format(**model)) == pytest.approx(
            model["expected"], rel=1e-12
        )
        assert list(downloads.rglob("MLmodel"))
    assert not list(downloads.iterdir())


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param("models:/wine@nobody", id="alias"),
        pytest.param("models:/wine/99", id="version"),
        pytest.param("runs:/00000000000000000000000000000000/model", id="run"),
        pytest.param("models:/nobody/1", id="model"),
        pytest.param("ss3://bucket/model", id="scheme"),
    ],
)
def test_what_the_registry_does_not_have_ends_the_server_at_once_with_its_reason(uri, registry):
    env, _ = registry
    with starting(uri, env=env) as server:
        assert server.wait(STARTED) == 1
        log = server.log()
    assert f"MLflow cannot fetch '{uri}': " in log
    tries = [line for line in log.splitlines() if f"fetching {uri}" in line]
    # A slow machine is told how long a fetch has taken so far.
    assert len([line for line in tries if "so far" not in line]) == 1
    assert "Traceback" not in log


def test_a_registry_that_does_not_answer_ends_the_server_with_its_reason():
    env = {
        **ENVIRONMENT,
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    with starting("models:/wine/1", env=env) as server:
        assert server.wait(STARTED) == 1
        log = server.log()
    assert "MLflow cannot fetch 'models:/wine/1'" in log
    assert log.count("fetching models:/wine/1 from http://127.0.0.1:9") == 1
    assert "Traceback" not in log


@pytest.mark.parametrize("listens", [True, False], ids=["it never answers", "it is down"])
def test_a_registry_that_is_dead_takes_the_fetch_timeout_once(listens):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        env = {**ENVIRONMENT, "MLFLOW_TRACKING_URI": address}
        with starting("models:/wine/1", "--fetch-timeout", "0.5", env=env) as server:
            assert server.wait(STARTED) == 1
            log = server.log()
    assert log.count(f"fetching models:/wine/1 from {address}, for at most 0.5 s") == 1
    assert log.count("'models:/wine/1' was not fetched within 0.5 s (--fetch-timeout)") == 1


def test_a_file_uri_is_served(tmp_path):
    folder = save_mlflow(tmp_path / "red wine")
    with serving(folder.as_uri(), "--name", "wine", timeout=STARTED) as server:
        assert predictions(server, "wine") == trained().predict(wines().head(3)).tolist()


def test_a_file_uri_without_a_model_ends_the_server_with_its_reason(tmp_path):
    with starting(tmp_path.as_uri(), "--name", "wine") as server:
        assert server.wait(STARTED) == 1
        assert "no MLmodel file" in server.log()


PLUGIN = """
import json
import mlflow.sklearn
import pandas
from headrace.plugins import BasePlugin

class Plugin(BasePlugin):
    def load_model(self, model_uri):
        return mlflow.sklearn.load_model(model_uri)

    def predict(self, model, data):
        return model.predict(pandas.DataFrame(json.loads(data)))

    def request_content_type(self):
        return "application/json"
"""


@pytest.mark.parametrize(
    "uri", ["models:/wine@champion", "models:/wine/Production", "runs:/{run}/model"]
)
def test_a_plugin_loads_a_model_of_the_registry(uri, registry, tmp_path):
    env, logged = registry
    (tmp_path / "plugin.py").write_text(PLUGIN)
    rows = wines().head(3).to_dict("records")
    with serving(
        uri.format(**logged[0]), "--plugin", tmp_path / "plugin.py", env=env, timeout=STARTED
    ) as server:
        answer = ask(server.http, "POST", "/api/predict", rows)

    assert answer.json == pytest.approx(logged[0]["expected"], rel=1e-12)
