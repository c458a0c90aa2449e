"""One server, models whose requirements conflict. Every package comes from the index."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.asking import ask
from support.clients import ROOT, TEST_TIMEOUT, environment, pinned
from support.serving import Server, serving

pytestmark = [pytest.mark.e2e, pytest.mark.runtimes, pytest.mark.timeout(TEST_TIMEOUT)]

WINE = ROOT / "examples/data/wine-quality-red.csv"
# Runs in the model's own environment: trains, saves, and answers as the model itself does.
TRAIN = """
import json, sys
import joblib, numpy, sklearn
from sklearn.ensemble import RandomForestRegressor
table = numpy.loadtxt(sys.argv[1], delimiter=",", skiprows=1)
rows, quality = table[:, :-1], table[:, -1]
model = RandomForestRegressor(20, random_state=0).fit(rows[:800], quality[:800])
joblib.dump(model, sys.argv[2])
print(json.dumps({
    "rows": rows[800:840].tolist(), "answers": model.predict(rows[800:840]).tolist(),
    "versions": [sklearn.__version__, numpy.__version__],
}))
"""
PLUGIN = """
import importlib.metadata as installed
from headrace.plugins import BasePlugin
class Plugin(BasePlugin):
    def load_model(self, model_uri):
        return None
    def predict(self, model, data):
        return {"pillow": installed.version("Pillow")}
    def request_content_type(self):
        return "text/plain"
"""


def trained(folder: Path, name: str, **wanted: Any) -> dict[str, Any]:
    """Train a model in an environment of its own; returns rows and the answers it gives there."""
    python = environment(name)
    (folder / name).mkdir()
    done = subprocess.run(
        [python, "-c", TRAIN, WINE, folder / name / "model.joblib"],
        capture_output=True, check=True, text=True, timeout=120,
    )  # fmt: skip
    own: dict[str, Any] = json.loads(done.stdout)
    settings = {"implementation": "sklearn", "environment": wanted}
    if not wanted:
        (folder / name / "requirements.txt").write_text("\n".join(pinned(name)))
        settings["environment"] = {"requirements": "requirements.txt"}
    (folder / name / "model-settings.json").write_text(json.dumps(settings))
    return own


class World:
    """The running server, and what each model answers in its own interpreter."""

    def __init__(self, server: Server, home: Path, own: dict[str, dict[str, Any]]) -> None:
        self.server = server
        self.home = home
        self.own = own

    def environments(self) -> dict[str, set[str]]:
        """The distributions in each environment that the server built, by its key."""
        return {
            record.stem: {
                folder.name.partition("-")[0].lower()
                for folder in record.with_suffix("").glob("lib/python*/site-packages/*.dist-info")
            }
            for record in self.home.glob("environments/*.json")
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, home = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("home")
    own = {
        "old": trained(folder, "old", requirements=pinned("old")),
        "new": trained(folder, "new"),
    }
    (folder / "picture").mkdir()
    (folder / "picture" / "plugin.py").write_text(PLUGIN)
    (folder / "picture" / "model-settings.json").write_text(
        json.dumps(
            {"implementation": "plugin.Plugin", "environment": {"packages": ["Pillow==13.0.0"]}}
        )
    )
    python = environment("server", ours=True)
    env = {"HEADRACE_HOME": str(home)}
    with serving(folder, env=env, python=python, timeout=TEST_TIMEOUT) as server:
        yield World(server, home, own)


@pytest.mark.parametrize("name", ["old", "new"])
def test_a_model_answers_as_in_its_own_interpreter(world: World, name: str) -> None:
    own = world.own[name]
    flat = [value for row in own["rows"] for value in row]
    tensor = {"name": "x", "shape": [len(own["rows"]), 11], "datatype": "FP64", "data": flat}
    answer = ask(world.server.http, "POST", f"/v2/models/{name}/infer", {"inputs": [tensor]})

    assert answer.status == 200
    assert answer.json["outputs"][0]["data"] == own["answers"]


def test_the_versions_conflict(world: World) -> None:
    assert world.own["old"]["versions"] == ["1.3.2", "1.26.4"]
    assert world.own["new"]["versions"] > ["1.4", "2"]


def test_the_server_has_no_framework_itself(world: World) -> None:
    python = environment("server", ours=True)
    tried = subprocess.run([python, "-c", "import sklearn"], capture_output=True, timeout=60)

    assert tried.returncode == 1


def test_the_packages_of_a_plugin_reach_no_other_model(world: World) -> None:
    with_pillow = [names for names in world.environments().values() if "pillow" in names]

    assert len(world.environments()) == 3
    assert len(with_pillow) == 1
    assert not any(name.startswith("scikit") for name in with_pillow[0])
