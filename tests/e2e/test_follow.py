"""A server that follows the registry of a real MLflow server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress

import pytest

from support.asking import ask
from support.serving import serving, starting, until
from support.tracking import ENVIRONMENT, tracking_server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(900),
]

CODE = """
import mlflow
from mlflow.models import set_model

class Constant(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        {body}

set_model(Constant())
"""
MOVES = ["--follow", "--follow-interval", "0.2", "--env-manager", "local"]
PATIENCE = 120


class World:
    """A registry, and what a test does to it through MLflow's own REST API."""

    def __init__(self, address):
        self.address = address
        self.env = {**ENVIRONMENT, "MLFLOW_TRACKING_URI": address}

    def post(self, route, **body):
        request = urllib.request.Request(
            f"{self.address}/api/2.0/mlflow/{route}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def register(self, name, body, column="x"):
        """A new version of a model whose `predict` has this body; returns the version."""
        flavor = {"loader_module": "mlflow.pyfunc.model", "model_code_path": "model.py", "env": {}}
        signature = {"inputs": json.dumps([{"type": "double", "name": column}])}
        described = {"flavors": {"python_function": flavor}, "signature": signature}
        run = self.post("runs/create", experiment_id="0", start_time=0)["run"]["info"]
        source = f"{run['artifact_uri']}/model"
        self.upload(f"{source}/model.py", CODE.format(body=body))
        self.upload(f"{source}/MLmodel", json.dumps(described))
        with suppress(urllib.error.HTTPError):
            self.post("registered-models/create", name=name)
        made = self.post("model-versions/create", name=name, source=source, run_id=run["run_id"])
        return made["model_version"]["version"]

    def upload(self, uri, text):
        """Put a file where the server keeps artifacts."""
        path = uri.removeprefix("mlflow-artifacts:/")
        url = f"{self.address}/api/2.0/mlflow-artifacts/artifacts/{path}"
        request = urllib.request.Request(url, text.encode(), method="PUT")
        urllib.request.urlopen(request, timeout=60).close()

    def point(self, name, alias, version):
        self.post("registered-models/alias", name=name, alias=alias, version=version)


def answers(number):
    return f"return [{number}.0] * len(model_input)"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with tracking_server(tmp_path_factory.mktemp("registry")) as address:
        yield World(address)


def predicted(url, name="wine"):
    body = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}
    answer = ask(url, "POST", f"/v2/models/{name}/invocations", body)
    assert answer.status == 200, answer.body
    return answer.json["predictions"][0]


def index(url):
    entries = ask(url, "POST", "/v2/repository/index", {}).json
    return {entry["version"]: entry for entry in entries}


def test_a_version_that_the_alias_moves_to_is_served(world):
    first = world.register("wine", answers(1))
    world.point("wine", "champion", first)
    with serving("models:/wine@champion", *MOVES, env=world.env) as server:
        assert predicted(server.http) == 1.0
        world.point("wine", "champion", world.register("wine", answers(2)))
        until(lambda: predicted(server.http) == 2.0, PATIENCE, "the new version answers")
        world.point("wine", "champion", first)
        until(lambda: predicted(server.http) == 1.0, PATIENCE, "the old version answers again")


def test_a_version_that_does_not_load_gets_no_request_until_the_alias_moves(world):
    world.point("held", "champion", world.register("held", answers(1)))
    with serving("models:/held@champion", *MOVES, env=world.env) as server:
        broken = world.register("held", "return 1\nimport no_such_module")
        world.point("held", "champion", broken)
        entry = until(lambda: index(server.http).get(broken), PATIENCE, "the version is listed")
        until(lambda: server.log().count("gets no requests"), PATIENCE, "it is held back")
        assert index(server.http)[broken]["state"] == "UNAVAILABLE", entry
        assert "could not be read" in index(server.http)[broken]["reason"]
        assert predicted(server.http, "held") == 1.0
        world.point("held", "champion", world.register("held", answers(3)))
        until(lambda: predicted(server.http, "held") == 3.0, PATIENCE, "a good one answers")
        assert server.log().count("gets no requests") == 1


def test_a_version_with_other_inputs_gets_no_request_unless_that_is_asked_for(world):
    first = world.register("shape", answers(1))
    world.point("shape", "champion", first)
    with serving("models:/shape@champion", *MOVES, env=world.env) as server:
        other = world.register("shape", answers(2), column="y")
        world.point("shape", "champion", other)
        until(lambda: server.log().count("gets no requests"), PATIENCE, "it is held back")
        assert "input 'x' is gone" in index(server.http)[other]["reason"]
        assert predicted(server.http, "shape") == 1.0
    world.point("shape", "champion", first)
    forced = [*MOVES, "--follow-incompatible"]
    with serving("models:/shape@champion", *forced, env=world.env) as server:
        world.point("shape", "champion", other)
        until(lambda: server.log().count("moved to version") == 2, PATIENCE, "it moves")


def test_a_registry_that_is_down_changes_nothing(tmp_path):
    with ExitStack() as up:
        world = World(up.enter_context(tracking_server(tmp_path)))
        version = world.register("wine", answers(1))
        world.point("wine", "champion", version)
        with serving("models:/wine@champion", *MOVES, env=world.env) as server:
            up.close()

            def is_stale():
                return "may be stale" in index(server.http)[version]["reason"]

            until(is_stale, PATIENCE, "the index says so")
            assert predicted(server.http) == 1.0
            assert ask(server.http, "GET", "/v2/health/ready").status == 200


def test_an_alias_that_does_not_exist_ends_the_start_with_its_name(world):
    world.register("unnamed", answers(1))
    with starting("models:/unnamed@champion", *MOVES, env=world.env) as server:
        assert server.wait(PATIENCE) == 1
        assert "registered model 'unnamed' has no @champion" in server.log()
