"""Look up registered models through MLflow's client, for as long as the server follows them.

Runs as `python -m headrace.worker.lookup`, so that MLflow never enters the server. Each line on
standard input is JSON: a list of registered models' names, or an object with `name`, `tag` and
`value`, which sets a tag of one. The first line of the answer is empty and says that the client is
imported. Each of the others, in any order, is about one model: an object with `name`, with `tag` if
that was to be set, and with `aliases`, `stages`, `latest` and `tags`, or with `trouble` and
`permanent`. Ends when its input does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from headrace.runtimes import fetch_failure
from headrace.runtimes.catalog import MLFLOW

# A registry that hangs must not hold up the models of another one for long.
LOOKUPS_AT_ONCE = 4
# More names than this would not fit into the address of a request.
MODELS_AT_ONCE = 25
# Such a name cannot be quoted in a search.
_QUOTES = frozenset("'\"`\\")
_MISSING = {"trouble": f"it needs the MLflow client: {MLFLOW.install}", "permanent": True}
# A follower asks again anyway; MLflow's own defaults are two minutes and seven tries.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


class Lookup:
    """Asks for registered models, for many of them at once where the registry can.

    One call for fifty of them costs a twentieth of fifty calls.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._can_search = True

    def groups(self, names: list[str]) -> list[list[str]]:
        """The names, in groups that one call can ask for."""
        plain = [name for name in names if self._can_search and not _QUOTES & set(name)]
        groups = [[name] for name in names if name not in plain]
        for start in range(0, len(plain), MODELS_AT_ONCE):
            groups.append(plain[start : start + MODELS_AT_ONCE])
        return groups

    def look(self, names: list[str]) -> Iterator[dict[str, Any]]:
        """What the registry says about each registered model."""
        found: dict[str, Any] = {}
        if len(names) > 1 and self._can_search:
            try:
                found = self._search(names)
            except Exception as exc:
                if not fetch_failure.is_permanent(exc):
                    yield from ({"name": name, **_trouble(exc)} for name in names)
                    return
                # Not every registry has this search, and the reason is that of one model at most.
                self._can_search = fetch_failure.status(exc) in (
                    HTTPStatus.UNAUTHORIZED,
                    HTTPStatus.FORBIDDEN,
                )
        for name in names:
            # One that is not among the results may still say why.
            yield found.get(name) or self._one(name)

    def _search(self, names: list[str]) -> dict[str, Any]:
        quoted = ", ".join(f"'{name}'" for name in names)
        models = self._client.search_registered_models(
            filter_string=f"name IN ({quoted})", max_results=len(names)
        )
        return {model.name: _described(model) for model in models}

    def _one(self, name: str) -> dict[str, Any]:
        try:
            return _described(self._client.get_registered_model(name))
        except Exception as exc:
            return {"name": name, **_trouble(exc)}


def _described(model: Any) -> dict[str, Any]:
    newest = model.latest_versions or ()
    return {
        "name": model.name,
        "aliases": {alias: str(version) for alias, version in (model.aliases or {}).items()},
        "stages": {each.current_stage: str(each.version) for each in newest},
        "latest": str(max((int(each.version) for each in newest), default="")),
        "tags": dict(model.tags or {}),
    }


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
    lookup = Lookup(client)

    def set_tag(question: dict[str, str]) -> None:
        if client is None:
            write({"name": question["name"], "tag": question["tag"], **_MISSING})
        else:
            write(tag(client, question["name"], question["tag"], question["value"]))

    def look(names: list[str]) -> None:
        if client is None:
            found: Iterable[dict[str, Any]] = ({"name": name, **_MISSING} for name in names)
        else:
            found = lookup.look(names)
        for each in found:
            pending.discard(each["name"])
            write(each)

    answer_to.write(b"\n")
    answer_to.flush()
    with ThreadPoolExecutor(LOOKUPS_AT_ONCE) as lookups:
        for line in sys.stdin:
            question = json.loads(line)
            if isinstance(question, dict):
                lookups.submit(set_tag, question)
                continue
            names = [name for name in question if name not in pending]
            pending.update(names)
            for group in lookup.groups(names):
                lookups.submit(look, group)
    return 0


if __name__ == "__main__":
    sys.exit(main())
