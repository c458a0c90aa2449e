"""A server that watches its models on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor

import headrace.sklearn
from support.asking import Client, ask, request, tensor
from support.custom import write_model
from support.serving import serving, starting, until

pytestmark = pytest.mark.e2e

WATCH = ["--watch", "--follow-interval", "0.2"]
PATIENCE = 120
LOAD = "self.factor = float(open(os.path.join(HERE, 'factor')).read())"


def write(root: Path, name: str, factor: int) -> None:
    """A model that answers with what the file `factor` says when it is loaded."""
    if not (root / name).exists():
        # It is moved to its place whole, as tools for models do.
        write_model(root / ".new", predict="return x * self.factor", load=LOAD, name=name)
        (root / ".new" / name / "factor").write_text(str(factor))
        (root / ".new" / name).rename(root / name)
    (root / name / "factor").write_text(str(factor))


def answer(client: Client, name: str) -> float | int:
    """What a model answers to 1, or the status if that is no answer."""
    one = request(tensor("x", "FP64", [1, 1], [1.0]))
    answer = client.ask("POST", f"/v2/models/{name}/infer", one)
    return answer.json["outputs"][0]["data"][0] if answer.status == 200 else answer.status


def test_models_in_a_folder_come_change_and_go_while_others_answer(tmp_path: Path) -> None:
    write(tmp_path, "a", 1)
    write(tmp_path, "still", 7)
    with serving(tmp_path, *WATCH) as server, Client(server.http) as client:

        def answers(name: str, wanted: float) -> bool:
            assert answer(client, "still") == 7
            return answer(client, name) == wanted

        write(tmp_path, "a", 2)
        until(lambda: answers("a", 2), PATIENCE, "the model is loaded again")
        write(tmp_path, "b", 3)
        until(lambda: answers("b", 3), PATIENCE, "the new model answers")
        shutil.rmtree(tmp_path / "a")
        until(lambda: answers("a", 404), PATIENCE, "the model that is gone is unknown")
        assert ask(server.http, "GET", "/v2/health/ready").status == 200


def test_a_change_that_does_not_load_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, "m", 1)
    with serving(tmp_path, *WATCH) as server, Client(server.http) as client:
        (tmp_path / "m" / "factor").write_text("not a number")
        until(lambda: "not loaded: " in server.log(), PATIENCE, "the load fails")
        assert answer(client, "m") == 1
        write(tmp_path, "m", 5)
        until(lambda: answer(client, "m") == 5, PATIENCE, "a good one is loaded")


@pytest.mark.parametrize("flag", ["--watch", "--follow"])
def test_the_latest_version_in_the_store_is_served(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))

    def store(value: float) -> str:
        model = DummyRegressor(strategy="constant", constant=value)
        model.fit(np.zeros((2, 1)), np.zeros(2))
        return str(headrace.sklearn.save_model("wine", model).tag)

    store(1)
    env = {"HEADRACE_HOME": str(tmp_path)}
    arguments = ["wine:latest", flag, "--follow-interval", "0.2"]
    with serving(*arguments, env=env) as server, Client(server.http) as client:
        assert answer(client, "wine") == 1
        tag = store(2)
        until(lambda: answer(client, "wine") == 2, PATIENCE, "the new version answers")
        versions = ask(server.http, "GET", "/v2/models/wine").json["versions"]
        assert versions == [tag.partition(":")[2]]


def test_what_cannot_change_cannot_be_watched(tmp_path: Path) -> None:
    with starting("models:/wine@champion", "--watch") as server:
        assert server.wait(PATIENCE) == 2
        assert "--watch is for folders of models" in server.log()


def test_one_version_in_the_store_cannot_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    headrace.sklearn.save_model("wine:v1", DummyRegressor().fit([[0.0]], [0.0]))
    with starting("wine:v1", "--follow", env={"HEADRACE_HOME": str(tmp_path)}) as server:
        assert server.wait(PATIENCE) == 2
        assert "wine:latest" in server.log()
