"""Look up registered models through MLflow's client, for as long as the server follows them.

Runs as `python -m headrace.worker.lookup`, so that MLflow never enters the server. Each line on
standard input is a registered model's name as JSON. The first line of the answer is empty and says
that the client is imported. Each of the others, in any order, is an object with `name`, and either
`aliases`, `stages` and `latest` or `trouble` and `permanent`. Ends when its input does.
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
        }
    except Exception as exc:
        permanent = fetch_failure.is_permanent(exc)
        return {"name": name, "trouble": fetch_failure.reason(exc), "permanent": permanent}


def main() -> int:
    """Answer on the real standard output; whatever libraries print goes to standard error."""
    answer_to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for variable, value in PATIENCE.items():
        os.environ.setdefault(variable, value)
    lock = threading.Lock()

    # Names that are asked for; a question that is repeated meanwhile has the same answer.
    pending: set[str] = set()

    def write(answer: dict[str, Any]) -> None:
        pending.discard(answer["name"])
        with lock:
            answer_to.write(json.dumps(answer).encode() + b"\n")
            answer_to.flush()

    try:
        from mlflow.tracking import MlflowClient
    except ImportError:
        client = None
    else:
        client = MlflowClient()

    def answer(name: str) -> None:
        if client is None:
            trouble = f"it needs the MLflow client: {MLFLOW.install}"
            write({"name": name, "trouble": trouble, "permanent": True})
        else:
            write(look(client, name))

    answer_to.write(b"\n")
    answer_to.flush()
    with ThreadPoolExecutor(LOOKUPS_AT_ONCE) as lookups:
        for line in sys.stdin:
            name = json.loads(line)
            if name not in pending:
                pending.add(name)
                lookups.submit(answer, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
