"""Describes a service without serving it: `python -m headrace.runtimes.service.description`.

Runs in a process of its own, so that user code never enters the server. Takes the module, the
attribute and the folder, and prints one JSON object: the service, or `{"kind", "message"}`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict
from typing import Any

from headrace.errors import HeadraceError, InvalidModel, LoadFailed, shorten
from headrace.runners import Runner
from headrace.runners.runner import DEFAULT_MAX_BATCH_SIZE
from headrace.runtimes.service import service_file
from headrace.services.service import Service

# In the options of a stored model that was saved without signatures: its runtime decides.
AUTOMATIC = "automatic_batching"


def describe(service: Service) -> dict[str, Any]:
    """The service's name, its endpoints, and the settings of each runner's model.

    Raises:
        InvalidModel: a runner's model cannot be served.
    """
    return {
        "name": service.name,
        "endpoints": [asdict(each.declared()) for each in service.apis.values()],
        "runners": [settings_of(runner) for runner in service.runners],
        "models": [str(model.tag) for model in service.models],
    }


def settings_of(runner: Runner) -> dict[str, Any]:
    """The fields of `ModelSettings` by which a worker serves a runner's model.

    Raises:
        InvalidModel: the module that saved the model serves none.
    """
    stored = runner.model
    module = importlib.import_module(_current(stored.info.module))
    if not hasattr(module, "settings_of"):
        raise InvalidModel(
            f"runner '{runner.name}': {shorten(stored.info.module)} cannot serve model "
            f"'{stored.tag}'"
        )
    fields: dict[str, Any] = {**module.settings_of(stored), "name": runner.name}
    fields["version"] = str(stored.tag).partition(":")[2] or None
    return {**fields, **_batching(runner)}


def _batching(runner: Runner) -> dict[str, Any]:
    """How requests are merged: as the signatures say, or as the runtime decides without any."""
    size = runner.max_batch_size
    if runner.model.info.options.get(AUTOMATIC):
        return {} if size is None else {"max_batch_size": size}
    methods = runner.methods.values()
    if not any(method.batchable for method in methods):
        return {"max_batch_size": 1}
    alone = [each.name for each in methods if not each.batchable or each.batch_dim[0]]
    if len(runner.methods) == 1 or next(iter(runner.methods)) in alone:
        alone += [""] if alone else []
    return {"max_batch_size": size or DEFAULT_MAX_BATCH_SIZE, "unbatched": alone}


def _current(module: str) -> str:
    """Our name of a module; models that BentoML stored are read by ours."""
    package, _, name = module.partition(".")
    return f"headrace.{name}" if package in ("bentoml", "vtsserving") else module


def main() -> int:
    """Answer on the real standard output; whatever user code prints goes to standard error."""
    answer_to = os.dup(1)
    os.dup2(2, 1)
    module, attribute, folder = sys.argv[1:]
    try:
        answer = describe(service_file.load(module, attribute, folder))
    except HeadraceError as error:
        answer = {"kind": error.kind, "message": error.message}
    except Exception as error:
        answer = {
            "kind": LoadFailed.kind,
            "message": f"{type(error).__name__} was raised: {shorten(error, 300)}",
        }
    with os.fdopen(answer_to, "wb") as file:
        file.write(json.dumps(answer).encode())
    # Threads that user code started must not keep this process.
    sys.stderr.flush()
    os._exit(0 if "kind" not in answer else 1)


if __name__ == "__main__":
    main()
