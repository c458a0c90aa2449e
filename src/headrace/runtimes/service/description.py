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

from headrace.errors import IN_LOG, HeadraceError, InvalidModel, LoadFailed, shorten
from headrace.masking import masked
from headrace.runners import Runner
from headrace.runners.runner_targets import RunnableTarget
from headrace.runtimes import RUNNABLE
from headrace.runtimes.service import service_file
from headrace.services.service import Service

# In the options of a stored model that was saved without signatures: its runtime decides.
AUTOMATIC = "automatic_batching"


# Rows in a batch of methods that merge requests, unless the runner sets a number.
DEFAULT_MAX_BATCH_SIZE = 100


def describe(service: Service, module: str, attribute: str, folder: str) -> dict[str, Any]:
    """The service's name, its endpoints, and the settings of each runner's model.

    `models` are those that it, or a Runnable, loads itself; the others say where they are stored.

    Raises:
        InvalidModel: a runner's model cannot be served.
    """
    return {
        "name": service.name,
        "endpoints": [asdict(each.declared()) for each in service.apis.values()],
        "runners": [
            _settings_of_runnable(runner, module, attribute, folder)
            if isinstance(runner.target, RunnableTarget)
            else settings_of(runner)
            for runner in service.runners
        ],
        "models": [str(model.tag) for model in _loaded_models(service)],
    }


def _loaded_models(service: Service) -> list[Any]:
    own = list(service.models)
    for runner in service.runners:
        if isinstance(runner.target, RunnableTarget):
            own += [model for model in runner.models if model not in own]
    return own


def _settings_of_runnable(
    runner: Runner, module: str, attribute: str, folder: str
) -> dict[str, Any]:
    """The fields of `ModelSettings` by which a worker creates and calls a runner's Runnable."""
    return {
        "name": runner.name,
        "implementation": RUNNABLE,
        "folder": folder,
        "extra": {"module": module, "attribute": attribute, "runner": runner.name},
        # A user's code, which imports the service: it shares a process with nothing else.
        "inference_pool_gid": f"runner {runner.name}",
        **_batching(runner),
    }


def settings_of(runner: Runner) -> dict[str, Any]:
    """The fields of `ModelSettings` by which a worker serves a runner's stored model.

    Raises:
        InvalidModel: the module that saved the model serves none.
    """
    (stored,) = runner.models
    module = importlib.import_module(_current(stored.info.module))
    if not hasattr(module, "settings_of"):
        raise InvalidModel(
            f"runner '{runner.name}': {shorten(stored.info.module)} cannot serve model "
            f"'{stored.tag}'"
        )
    fields: dict[str, Any] = {**module.settings_of(stored), "name": runner.name}
    fields["version"] = str(stored.tag).partition(":")[2] or None
    if stored.info.options.get(AUTOMATIC):
        sizes = [method.limits.max_batch_size for method in runner.methods.values()]
        return {**fields, **({} if sizes[0] is None else {"max_batch_size": sizes[0]})}
    return {**fields, **_batching(runner, fields.get("extra", {}).get("predict_fn"))}


def _batching(runner: Runner, default: str | None = None) -> dict[str, Any]:
    """How requests are merged, as the signatures of the methods say.

    `default` is the method that answers requests which name none, the first one if it is None.
    """
    methods = list(runner.methods.values())
    if not any(method.batchable for method in methods):
        return {"max_batch_size": 1}
    sizes = {
        method.name: method.limits.max_batch_size or DEFAULT_MAX_BATCH_SIZE
        for method in methods
        if method.batchable
    }
    alone = [each.name for each in methods if not each.batchable or each.batch_dim[0]]
    default = default or methods[0].name
    if default in alone:
        alone.append("")
    most = max(sizes.values())
    # Requests of clients need not name the method.
    named = {**sizes, "": sizes.get(default, 1)}
    smaller = {name: size for name, size in named.items() if size < most}
    found: dict[str, Any] = {"max_batch_size": most, "unbatched": alone}
    return {**found, "batch_sizes": smaller} if smaller else found


def _current(module: str) -> str:
    """Our name of a module; models that BentoML stored are read by ours."""
    package, _, name = module.partition(".")
    return f"headrace.{name}" if package in ("bentoml", "vtsserving") else module


def _in_full(error: HeadraceError) -> str:
    """The message with the text of its cause: for whoever starts the server, like its log."""
    cause, message = error.__cause__, error.message
    if cause is None or not message.endswith(f"; {IN_LOG}"):
        return message
    # The text of a syntax error has its place, which the message says as well.
    words = cause.msg if isinstance(cause, SyntaxError) else cause
    return f"{message.removesuffix(f'; {IN_LOG}')}: {shorten(masked(str(words)), 200)}"


def main() -> int:
    """Answer on the real standard output; whatever user code prints goes to standard error."""
    answer_to = os.dup(1)
    os.dup2(2, 1)
    module, attribute, folder = sys.argv[1:]
    try:
        service = service_file.load(module, attribute, folder)
        answer = describe(service, module, attribute, folder)
    except HeadraceError as error:
        answer = {"kind": error.kind, "message": _in_full(error)}
    except Exception as error:
        answer = {
            "kind": LoadFailed.kind,
            "message": f"{type(error).__name__} was raised: {shorten(masked(str(error)), 300)}",
        }
    with os.fdopen(answer_to, "wb") as file:
        file.write(json.dumps(answer).encode())
    # Threads that user code started must not keep this process.
    sys.stderr.flush()
    os._exit(0 if "kind" not in answer else 1)


if __name__ == "__main__":
    main()
