"""A registry of MLflow's, and what a test does to it through its REST API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from contextlib import suppress
from typing import Any

from support.tracking import ENVIRONMENT

CODE = """
import mlflow
from mlflow.models import set_model

class Constant(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        {body}

set_model(Constant())
"""


class World:
    """A registry, and what a test does to it through MLflow's own REST API."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.env = {**ENVIRONMENT, "MLFLOW_TRACKING_URI": address}

    def post(self, route: str, **body: Any) -> Any:
        """What one call answers."""
        request = urllib.request.Request(
            f"{self.address}/api/2.0/mlflow/{route}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def register(self, name: str, body: str, column: str = "x", example: bool = False) -> str:
        """A new version of a model whose `predict` has this body; returns the version.

        With `example`, a row was logged with it.
        """
        flavor = {"loader_module": "mlflow.pyfunc.model", "model_code_path": "model.py", "env": {}}
        signature = {"inputs": json.dumps([{"type": "double", "name": column}])}
        described: dict[str, Any] = {
            "flavors": {"python_function": flavor}, "signature": signature,
        }  # fmt: skip
        run = self.post("runs/create", experiment_id="0", start_time=0)["run"]["info"]
        source = f"{run['artifact_uri']}/model"
        self.upload(f"{source}/model.py", CODE.format(body=body))
        if example:
            row = {"dataframe_split": {"columns": [column], "data": [[1.0]]}}
            described["saved_input_example_info"] = {"serving_input_path": "example.json"}
            self.upload(f"{source}/example.json", json.dumps(row))
        self.upload(f"{source}/MLmodel", json.dumps(described))
        with suppress(urllib.error.HTTPError):
            self.post("registered-models/create", name=name)
        made = self.post("model-versions/create", name=name, source=source, run_id=run["run_id"])
        return str(made["model_version"]["version"])

    def upload(self, uri: str, text: str) -> None:
        """Put a file where the server keeps artifacts."""
        path = uri.removeprefix("mlflow-artifacts:/")
        url = f"{self.address}/api/2.0/mlflow-artifacts/artifacts/{path}"
        request = urllib.request.Request(url, text.encode(), method="PUT")
        urllib.request.urlopen(request, timeout=60).close()

    def point(self, name: str, alias: str, version: str) -> None:
        """Move an alias."""
        self.post("registered-models/alias", name=name, alias=alias, version=version)


def answers(number: int) -> str:
    """The body of a model that answers each row with a number."""
    return f"return [{number}.0] * len(model_input)"
