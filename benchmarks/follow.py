"""`python -m benchmarks.follow`: what following fifty registered models costs while nothing moves.

A real MLflow tracking server, a server that follows fifty of its models at the default interval,
and one that serves the same model fifty times and follows nothing. The cost is the difference of
their processor time over the same minutes, in percent of one core. The tracking server's own time
is told apart.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import machine, result_files, servers, session

NAME = "follow"
MODELS = 50
SECONDS = 180
GOAL = 1.0
# The followers' first questions and the interpreter's last imports are not the steady state.
SETTLING = 20
# What a tracking server does that has nothing to do with this.
WITHOUT = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
CODE = """
import mlflow
from mlflow.models import set_model

class Constant(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [1.0] * len(model_input)

set_model(Constant())
"""
DESCRIPTION = {
    "flavors": {
        "python_function": {
            "loader_module": "mlflow.pyfunc.model",
            "model_code_path": "model.py",
            "env": {},
        }
    },
    "signature": {"inputs": json.dumps([{"type": "double", "name": "x"}])},
}


def main() -> int:
    """Measure, print, write the result; returns 1 when the goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.follow", description=__doc__)
    parser.add_argument("--models", type=session.count, default=MODELS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    path = result_files.place(NAME)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        figures = measure(Path(name), options.models, options.seconds)
    added = (
        figures["following"]["percent_of_a_core"] - figures["not_following"]["percent_of_a_core"]
    )
    reached = added < GOAL
    result = {
        "name": NAME,
        "models": options.models,
        "seconds": options.seconds,
        "interval_seconds": 15,
        "machine": machine.describe(result_files.ROOT, ""),
        "load_average": machine.load_average(),
        **figures,
        "added_percent_of_a_core": round(added, 3),
        "goals": {f"under {GOAL:g} % of a core": reached},
    }
    print(json.dumps({key: result[key] for key in (*figures, "added_percent_of_a_core")}, indent=1))
    print(f"{'pass' if reached else 'miss'}: under {GOAL:g} % of a core")
    result_files.write(path, result)
    return 0 if reached else 1


def measure(folder: Path, count: int, seconds: float) -> dict[str, Any]:
    """Start the three servers and read what each of their processes uses."""
    names = [f"model-{number:02}" for number in range(count)]
    with ExitStack() as stack:
        registry = stack.enter_context(
            servers.running(
                "tracking", folder, folder / "tracking.log", WITHOUT,
                lambda _, port: _tracking(folder, port),
            )
        )  # fmt: skip
        for name in names:
            _register(registry.url, name)
        # The model alone, which nothing has to be fetched for.
        local = folder / "model"
        local.mkdir()
        (local / "model.py").write_text(CODE)
        (local / "MLmodel").write_text(json.dumps(DESCRIPTION))
        still = _folder(folder / "still", names, lambda _: {"parameters": {"uri": str(local)}})
        moving = _folder(
            folder / "moving",
            names,
            lambda name: {"parameters": {"uri": f"models:/{name}@champion"}, "follow": {}},
        )
        environ = {"MLFLOW_TRACKING_URI": registry.url, "HEADRACE_ENV_MANAGER": "local"}
        running = {
            kind: stack.enter_context(
                servers.running("headrace-many", place, folder / f"{kind}.log", environ)
            )
            for kind, place in (("not_following", still), ("following", moving))
        }
        time.sleep(SETTLING)
        measured = {**running, "tracking_server": registry}
        before = {kind: server.cpu_seconds() for kind, server in measured.items()}
        began = time.monotonic()
        time.sleep(seconds)
        after = {kind: server.cpu_seconds() for kind, server in measured.items()}
        took = time.monotonic() - began
    figures: dict[str, Any] = {}
    for kind in measured:
        used = {part: after[kind][part] - before[kind][part] for part in after[kind]}
        figures[kind] = {
            **{f"{part}_cpu_seconds": round(value, 2) for part, value in used.items()},
            "percent_of_a_core": round(100 * sum(used.values()) / took, 3),
        }
    return figures


def _tracking(folder: Path, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]


def _register(url: str, name: str) -> None:
    """A registered model of one version, with an alias."""
    run = _post(url, "runs/create", experiment_id="0", start_time=0)["run"]["info"]
    source = f"{run['artifact_uri']}/model"
    for file, text in (("model.py", CODE), ("MLmodel", json.dumps(DESCRIPTION))):
        path = f"{source}/{file}".removeprefix("mlflow-artifacts:/")
        place = f"{url}/api/2.0/mlflow-artifacts/artifacts/{path}"
        urllib.request.urlopen(
            urllib.request.Request(place, text.encode(), method="PUT"), timeout=60
        ).close()
    _post(url, "registered-models/create", name=name)
    _post(url, "model-versions/create", name=name, source=source, run_id=run["run_id"])
    _post(url, "registered-models/alias", name=name, alias="champion", version="1")


def _post(url: str, route: str, **body: Any) -> Any:
    request = urllib.request.Request(
        f"{url}/api/2.0/mlflow/{route}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def _folder(place: Path, names: list[str], described: Any) -> Path:
    """A folder with a settings file for each model."""
    for name in names:
        (place / name).mkdir(parents=True)
        settings = {"implementation": "mlflow", **described(name)}
        (place / name / "model-settings.json").write_text(json.dumps(settings))
    return place


if __name__ == "__main__":
    session.run(main)
