"""A server that follows the registry of a real MLflow server."""

from __future__ import annotations

import base64
import os
from contextlib import ExitStack

import pytest

from headrace.testing import TestClient
from support.asking import ask
from support.registered import World, answers
from support.serving import serving, starting, until
from support.tracking import tracking_server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.registry,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(900),
]

MOVES = ["--follow", "--follow-interval", "0.2", "--env-manager", "local"]
PATIENCE = 120
LONGEST_LOAD = 600


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


def test_an_application_in_another_server_follows_as_well(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.point("mounted", "champion", world.register("mounted", answers(1)))
    for name, value in world.env.items():
        monkeypatch.setenv(name, value)
    settings = {"follow": True, "follow_interval": 0.2, "env_manager": "local"}
    with TestClient("models:/mounted@champion", parallel_workers=1, **settings) as client:
        body = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}

        def predicts(value: float) -> bool:
            answer = client.post("/v2/models/mounted/invocations", json=body)
            return bool(answer.json()["predictions"][0] == value)

        assert predicts(1.0)
        world.point("mounted", "champion", world.register("mounted", answers(2)))
        until(lambda: predicts(2.0), PATIENCE, "the new version answers")


def test_a_model_that_is_loaded_by_request_is_followed_until_it_is_unloaded(world: World) -> None:
    world.point("asked", "champion", world.register("asked", answers(1)))
    lazy = [*MOVES, "--no-load-models-at-startup"]
    with serving("models:/asked@champion", *lazy, env=world.env) as server:
        assert index(server.http)[""]["reason"] == "not loaded yet"
        load = "/v2/repository/models/asked/load"
        # MLflow's client and the model's worker start now.
        assert ask(server.http, "POST", load, {}, timeout=LONGEST_LOAD).status == 200
        assert predicted(server.http, "asked") == 1.0
        world.point("asked", "champion", world.register("asked", answers(2)))
        until(lambda: predicted(server.http, "asked") == 2.0, PATIENCE, "it is followed")
        assert ask(server.http, "POST", "/v2/repository/models/asked/unload", {}).status == 200
        states = {entry["state"] for entry in index(server.http).values()}
        assert states == {"UNAVAILABLE"}


def test_a_model_says_which_version_it_is_where_it_came_from_and_what_its_files_are(world):
    version = world.register("pinned", answers(1))
    world.point("pinned", "champion", version)
    with serving("models:/pinned@champion", *MOVES, env=world.env) as server:
        shown = ask(server.http, "GET", "/v2/models/pinned").json["parameters"]
        assert shown["uri"] == f"models:/pinned/{version}"
        assert shown["source"].startswith("mlflow-artifacts:/")
        assert shown["digest"].startswith("sha256:")
        assert shown["digest"] in server.log()


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


def test_a_webhook_of_the_registry_makes_the_server_ask_at_once(tmp_path):
    secret = "what only these two know"
    (tmp_path / "secret").write_text(secret + "\n")
    # The registry sends to public addresses over HTTPS unless it is told otherwise.
    allowed = {
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        # It remembers for this long that nobody is to be told.
        "MLFLOW_WEBHOOK_CACHE_TTL": "0",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
    }
    moves = ["--follow", "--follow-interval", "3600", "--env-manager", "local"]
    with tracking_server(tmp_path, allowed) as address:
        world = World(address)
        world.point("wine", "champion", world.register("wine", answers(1)))
        signed = ["--mlflow-webhook-secret-file", tmp_path / "secret"]
        with serving("models:/wine@champion", *moves, *signed, env=world.env) as server:
            world.post(
                "webhooks",
                name="moves",
                url=f"{server.http}/admin/mlflow-webhook",
                events=[{"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}],
                secret=secret,
            )
            world.point("wine", "champion", world.register("wine", answers(2)))
            until(lambda: predicted(server.http) == 2.0, PATIENCE, "the new version answers")
            assert "a webhook says that the registry changed" in server.log()
            assert secret not in server.log()
