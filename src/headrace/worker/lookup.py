"""Look up registered models through MLflow's client, for as long as the server follows them.

Runs as `python -m headrace.worker.lookup`, so that MLflow never enters the server. Each line on
standard input is JSON: a registered model's name, or an object with `name`, `tag` and `value`,
which sets a tag of it. The first line of the answer is empty and says that the client is imported.
Each of the others, in any order, is an object with `name`, with `tag` if that was to be set, and
with `aliases`, `stages`, `latest` and `tags`, or with `trouble` and `permanent`. Ends when its
input does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from headrace.runtimes import fetch_failure
from headrace.runtimes.catalog import MLFLOW

# A registry that hangs must not hold up the models of another one for long.
LOOKUPS_AT_ONCE = 4
# A follower asks again anyway; MLflow's own defaults are two minutes and seven tries.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


def look(client: Any, name: str) -> dict[str, Any]:
    """What the registry says about one registered model."""
    try:
        model = client.get_registered_model(name)
        newest = model.latest_versions or ()
        return {
            "name": name,
            "aliases": {alias: str(version) for alias, version in (model.aliases or {}).items()},
            "stages": {each.current_stage: str(each.version) for each in newest},
            "latest": str(max((int(each.version) for each in newest), default="")),
            "tags": dict(model.tags or {}),
        }
    except Exception as exc:
        return {"name": name, **_trouble(exc)}


def tag(client: Any, name: str, key: str, value: str) -> dict[str, Any]:
    """Set a tag of a registered model."""
    try:
        client.set_registered_model_tag(name, key, value)
    except Exception as exc:
        return {"name": name, "tag": key, **_trouble(exc)}
    return {"name": name, "tag": key}


def _trouble(exc: Exception) -> dict[str, Any]:
    return {"trouble": fetch_failure.reason(exc), "permanent": fetch_failure.is_permanent(exc)}


def main() -> int:
    """Answer on the real standard output; whatever libraries print goes to standard error."""
    answer_to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for variable, value in PATIENCE.items():
        os.environ.setdefault(variable, value)
    lock = threading.Lock()

    # What is asked for; a question that is repeated meanwhile has the same answer.
    pending: set[str] = set()

    def write(answer: dict[str, Any]) -> None:
        with lock:
            answer_to.write(json.dumps(answer).encode() + b"\n")
            answer_to.flush()

    try:
        from mlflow.tracking import MlflowClient
    except ImportError:
        client = None
    else:
        client = MlflowClient()

    def answer(line: str) -> None:
        question = json.loads(line)
        if isinstance(question, str):
            question = {"name": question}
        if client is None:
            trouble = f"it needs the MLflow client: {MLFLOW.install}"
            found = {"name": question["name"], "trouble": trouble, "permanent": True}
        elif "tag" in question:
            found = tag(client, question["name"], question["tag"], question["value"])
        else:
            found = look(client, question["name"])
        pending.discard(line)
        write(found)

    answer_to.write(b"\n")
    answer_to.flush()
    with ThreadPoolExecutor(LOOKUPS_AT_ONCE) as lookups:
        for line in sys.stdin:
            if line not in pending:
                pending.add(line)
                lookups.submit(answer, line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
