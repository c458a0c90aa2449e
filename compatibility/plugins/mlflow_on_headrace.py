"""Points MLflow's own tests at Headrace: what they score, Headrace serves."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from typing import Any

# A test that names none of these sends nothing to a server.
SCORES = (
    "score_model_in_process", "pyfunc_serve_and_score_model", "pyfunc_scoring_endpoint",
    "RestEndpoint",
)  # fmt: skip
CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"


def pytest_configure(config: Any) -> None:
    """Replace the two ways in which the tests serve a model, before they import them."""
    import tests.helper_functions as helpers
    import tests.pyfunc.utils as utils

    start = helpers._start_scoring_proc
    helpers._start_scoring_proc = lambda cmd, *args, **more: start(served(cmd), *args, **more)
    utils.score_model_in_process = score
    # Asked while modules are imported, whether or not the package index can be reached.
    helpers._is_available_on_pypi = lambda *package, **more: False
    _save_as_before()


def _save_as_before() -> None:
    """Save models as when the tests were written: later versions refuse some of theirs."""
    for flavor in ("sklearn", "lightgbm", "xgboost"):
        module = importlib.import_module(f"mlflow.{flavor}")
        if hasattr(module, "_get_default_serialization_format"):
            module._get_default_serialization_format = lambda: "cloudpickle"


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Leave out the tests that send no request."""
    kept = [item for item in items if _scores(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _scores(item: Any) -> bool:
    source = inspect.getsource(item.function)
    return any(name in source for name in SCORES)


def served(command: list[str]) -> list[str]:
    """`mlflow models serve` as a command of Headrace; any other command as it is."""
    if command[1:5] != ["-m", "mlflow", "models", "serve"]:
        return command
    model, port = command[command.index("-m", 5) + 1], command[command.index("-p") + 1]
    ports = ["--http-port", port, "--grpc-port", "0", "--metrics-port", "0"]
    serve = [sys.executable, "-m", "headrace", "serve", model, "--name", "model"]
    return [*serve, *ports, "--env-manager", "local"]


def score(model_uri: str, data: Any, content_type: str) -> Any:
    """Score a model with the whole server in this process, as MLflow's helper does with its own."""
    import pandas as pd
    from mlflow.artifacts import download_artifacts

    from headrace.testing import TestClient

    if isinstance(data, pd.DataFrame):
        if content_type == CSV:
            data = data.to_csv(index=False)
        elif content_type == PARQUET:
            data = data.to_parquet()
        else:
            data = json.dumps({"dataframe_split": data.to_dict(orient="split")})
    elif not isinstance(data, (str, dict)):
        data = json.dumps({"instances": data})
    before = dict(os.environ)
    try:
        with TestClient(download_artifacts(model_uri), env_manager="local") as client:
            return client.post("/invocations", content=data, headers={"Content-Type": content_type})
    finally:
        os.environ.clear()
        os.environ.update(before)
