"""The first worker, which starts while the server still imports itself.

It imports the framework of the first model meanwhile. Otherwise the two would follow one another,
and a server of one model would be ready later by what its own imports take.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from headrace.environments import mlflow_files
from headrace.errors import HeadraceError
from headrace.executors import processors
from headrace.executors.worker_program import StartedWorker, WorkerProgram, server_program
from headrace.runtimes import catalog
from headrace.settings import ModelSettings, ServerSettings


class EarlyWorker:
    """A worker for the first pool that asks for one of this program."""

    def __init__(self, program: WorkerProgram, started: StartedWorker | None = None) -> None:
        self.program = program
        self._started = started

    def take(self) -> StartedWorker | None:
        """The worker; None if it was taken before, or has died."""
        if self._started is not None and self._started.process.poll() is not None:
            # The next one says why, in its log and to the model that it dies of.
            self.close()
        started, self._started = self._started, None
        return started

    def close(self) -> None:
        """End it if nobody took it."""
        started, self._started = self._started, None
        if started is not None:
            started.end()
            os.close(started.output)


def early_worker(settings: ServerSettings, models: Sequence[ModelSettings]) -> EarlyWorker:
    """Start the first worker, if it is likely that one of these models will run in it."""
    program = server_program(settings, models)
    model = next((each for each in models if _is_for_server_program(each, settings)), None)
    started = None
    # With one processor, the worker would only take it from the server, which is to be live first.
    if model is not None and processors.usable() > 1:
        # The pool tries again, and says why if that fails too.
        with contextlib.suppress(OSError):
            started = program.start(_imports(model))
    return EarlyWorker(program, started)


def _is_for_server_program(model: ModelSettings, settings: ServerSettings) -> bool:
    """Whether a model is likely to run in a worker on the server's interpreter, and at once."""
    if settings.parallel_workers <= 0 or not settings.load_models_at_startup:
        return False
    if model.inline or model.in_background or model.memory_limit or model.fault:
        return False
    if model.follow is not None:
        return False
    # With uv, whatever says what it needs gets an environment.
    if settings.env_manager == "uv" or model.environment:
        return False
    if model.environment_path or model.environment_tarball:
        return False
    # What has to be fetched may take minutes.
    return not model.uri or os.path.exists(model.uri)


def _imports(model: ModelSettings) -> tuple[str, ...]:
    """The modules that a worker can import before it is asked to load this model."""
    entry = catalog.find(model.implementation)
    # A folder with an `MLmodel` file but no settings file gets the class itself.
    if entry is catalog.MLFLOW or model.implementation == catalog.MLFLOW.class_path:
        # The load says what is wrong with the files.
        with contextlib.suppress(HeadraceError, OSError):
            saved = mlflow_files.read(model.uri or model.folder)
            entry = catalog.mlflow_entry(saved.loader) if saved is not None else None
    return entry.early_imports if entry is not None else ()
