"""A followed model with a shadow, in a server that follows a real MLflow server."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

import headrace
from headrace.client import Client
from support.asking import ask
from support.registered import World, answers
from support.serving import serving, until
from support.tracking import tracking_server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.registry,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(900),
]

FLAGS = ["--follow-interval", "0.2", "--env-manager", "local"]
PATIENCE = 120
# Run by the server when it starts: the shadow's worker gets an ordinary priority, so that it loads
# in good time on a machine that is busy with other tests.
ORDINARY_PRIORITY = """
import sys
if any("headrace.cli" in argument for argument in sys.orig_argv):
    from headrace.executors import placement
    from headrace.executors.process import Environment
    placement.Environment = lambda *given, in_background, **more: Environment(*given, **more)
"""
METRIC = re.compile(r"^headrace_shadow_(\w+)_total\{(.*)\} (\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    customized = tmp_path_factory.mktemp("customized")
    (customized / "sitecustomize.py").write_text(ORDINARY_PRIORITY)
    with tracking_server(tmp_path_factory.mktemp("registry")) as address:
        found = World(address)
        source = str(Path(headrace.__file__).parents[1])
        found.env["PYTHONPATH"] = os.pathsep.join([str(customized), source])
        yield found


def described(folder, name, **follow):
    """A folder with a model that is followed at @champion, with its shadow at @next."""
    settings = {
        "name": name,
        "implementation": "mlflow",
        "parameters": {"uri": f"models:/{name}@champion"},
        "follow": {"shadow": {"alias": "@next"}, **follow},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))
    return folder


def predicted(url, name):
    body = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}
    answer = ask(url, "POST", f"/v2/models/{name}/invocations", body)
    assert answer.status == 200, answer.body
    return answer.json["predictions"][0]


def counted(server, version):
    """What is counted of a shadow, by name, and by reason or kind where there is one."""
    found = {}
    for name, labels, value in METRIC.findall(ask(server.http, "GET", "/metrics").body.decode()):
        assert f'version="{version}"' in labels
        why = re.search(r'(?:reason|code)="(\w+)"', labels)
        found[f"{name} {why[1]}" if why else name] = float(value)
    return found


def wait_for_shadow(server, version):
    line = f"version {version} gets copies of"
    until(lambda: line in server.log(), PATIENCE, "the shadow is loaded")


def test_requests_of_every_protocol_are_mirrored_and_answered_by_the_champion(world, tmp_path):
    champion = world.register("all", answers(1))
    world.point("all", "champion", champion)
    shadow = world.register("all", answers(2))
    world.point("all", "next", shadow)
    with serving(described(tmp_path, "all"), *FLAGS, env=world.env) as server:
        wait_for_shadow(server, shadow)
        tensor = {"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]}
        bodies = {
            "/v2/models/all/infer": {"inputs": [tensor]},
            "/v2/models/all/invocations": {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}},
            "/invocations": {"dataframe_records": [{"x": 1.0}]},
            "/v1/models/all:predict": {"instances": [{"x": 1.0}]},
        }
        for path, body in bodies.items():
            answer = ask(server.http, "POST", path, body)
            assert answer.status == 200, answer.body
            assert b"1.0" in answer.body
            assert b"2.0" not in answer.body
        with Client(f"grpc://{server.announced['grpc']}") as client:
            client.infer("all", {"x": np.array([1.0])})
        # Requests that name a version are not mirrored.
        path = f"/v2/models/all/versions/{champion}/infer"
        named = ask(server.http, "POST", path, {"inputs": [tensor]})
        assert named.status == 200, named.body

        until(
            lambda: counted(server, shadow).get("compared") == len(bodies) + 1, PATIENCE, "compared"
        )
        assert counted(server, shadow) == {
            "compared": len(bodies) + 1,
            "disagreed": len(bodies) + 1,
        }
        assert f"answers otherwise than version {champion}" in server.log()
        entries = ask(server.http, "POST", "/v2/repository/index", {}).json
        assert {each["version"]: each["reason"] for each in entries}[shadow] == (
            "shadow: copies of 100 % of the requests"
        )


def test_a_version_that_does_not_load_as_a_shadow_shows_why(world, tmp_path):
    world.point("bad", "champion", world.register("bad", answers(1)))
    shadow = world.register("bad", "return 1\nimport no_such_module")
    world.point("bad", "next", shadow)
    with serving(described(tmp_path, "bad"), *FLAGS, env=world.env) as server:
        until(lambda: "gets no copies of requests" in server.log(), PATIENCE, "it is refused")
        entries = ask(server.http, "POST", "/v2/repository/index", {}).json
        entry = next(each for each in entries if each["version"] == shadow)
        assert entry["state"] == "UNAVAILABLE"
        assert "could not be read" in entry["reason"]
        assert predicted(server.http, "bad") == 1.0
        assert ask(server.http, "GET", "/v2/health/ready").status == 200


def test_a_canary_whose_shadow_disagrees_is_rolled_back(world, tmp_path):
    world.point("apart", "champion", world.register("apart", answers(1)))
    canary = world.register("apart", answers(2))
    world.point("apart", "next", canary)
    follow = {
        "canary": {"alias": "@next", "percent": 1},
        "rollback": {"disagreement": 0.1, "min_requests": 20},
    }
    with serving(described(tmp_path, "apart", **follow), *FLAGS, env=world.env) as server:
        wait_for_shadow(server, canary)

        def is_rolled_back():
            assert predicted(server.http, "apart") in (1.0, 2.0)
            return f"version {canary} is rolled back" in server.log()

        until(is_rolled_back, PATIENCE, "it is rolled back")
        assert "compared answers differ, more than 0.1 of them" in server.log()
        entries = ask(server.http, "POST", "/v2/repository/index", {}).json
        reasons = [each["reason"] for each in entries if each["version"] == canary]
        assert any(reason.startswith("rolled back: ") for reason in reasons)
        for _ in range(50):
            assert predicted(server.http, "apart") == 1.0
