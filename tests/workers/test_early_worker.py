"""The first worker starts before the server that it belongs to. The processes are real."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from headrace.executors import processors, worker_folder
from headrace.executors.early_worker import EarlyWorker, early_worker
from headrace.executors.pool import WorkerPool
from headrace.executors.process import Environment
from headrace.executors.worker_program import WorkerProgram
from headrace.runtimes import catalog
from headrace.settings import ModelSettings, ServerSettings
from support.pool import answer, request, write_model
from support.serving import until

PROGRAM = WorkerProgram(sys.executable)
MLMODEL = "flavors:\n  python_function:\n    loader_module: {}\n"


def answered_by(early: EarlyWorker, model: ModelSettings) -> int:
    """The process that answers for a model which answers with its process."""

    async def main() -> float:
        pool = WorkerPool(Environment(sys.executable, early=early), 1, load_timeout=30)
        try:
            await pool.load("m", model)
            deadline = asyncio.get_running_loop().time() + 30
            return answer(await pool.infer("m", request(1.0), deadline))[0]
        finally:
            await pool.stop()

    return int(asyncio.run(main()))


def test_the_first_worker_of_a_pool_is_the_one_that_started_early(tmp_path: Path) -> None:
    model = write_model(tmp_path, "return x * 0 + os.getpid()")
    started = PROGRAM.start()

    assert answered_by(EarlyWorker(PROGRAM, started), model) == started.process.pid


def test_it_imports_what_it_was_given_before_anything_connects_and_collects_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = tmp_path / "noted"
    noted.touch()
    note = f"import gc, pathlib; pathlib.Path({str(noted)!r}).write_text(str(gc.isenabled()))"
    (tmp_path / "notes.py").write_text(note)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    early = EarlyWorker(PROGRAM, PROGRAM.start(["notes"]))

    until(noted.read_text, 60, "the module was not imported")
    early.close()
    assert noted.read_text() == "False"


def test_a_module_that_cannot_be_imported_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("raise ValueError('broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    model = write_model(tmp_path, "return x * 0 + os.getpid()")
    started = PROGRAM.start(["broken", "not_installed"])

    assert answered_by(EarlyWorker(PROGRAM, started), model) == started.process.pid


def test_a_worker_that_died_early_is_replaced(tmp_path: Path) -> None:
    model = write_model(tmp_path, "return x * 0 + os.getpid()")
    started = PROGRAM.start()
    started.process.kill()
    until(lambda: started.process.poll() is not None, 60, "it has not ended")

    assert answered_by(EarlyWorker(PROGRAM, started), model) != started.process.pid


def test_one_that_nobody_took_is_ended() -> None:
    started = PROGRAM.start()
    EarlyWorker(PROGRAM, started).close()

    assert started.process.returncode is not None
    assert started.connection.fileno() < 0


def test_nothing_but_its_own_folder_is_in_the_file_system_while_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    early = EarlyWorker(PROGRAM, PROGRAM.start())

    (left,) = tmp_path.iterdir()

    early.close()
    assert left.name.startswith(worker_folder.PREFIX)
    assert not left.exists()


def imports(
    monkeypatch: pytest.MonkeyPatch, *models: ModelSettings, usable: int = 2, **settings: Any
) -> list[str] | None:
    """What the worker that starts early for these models imports; None if none starts."""
    asked: list[list[str]] = []
    monkeypatch.setattr(processors, "usable", lambda: usable)
    monkeypatch.setattr(WorkerProgram, "start", lambda _, modules: asked.append(list(modules)))
    early_worker(ServerSettings(**settings), models)
    return asked[0] if asked else None


SKLEARN = ModelSettings("m", "sklearn")


def test_the_framework_of_the_first_model_is_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "MLmodel").write_text(MLMODEL.format("mlflow.xgboost"))
    logged = ModelSettings("m", "mlflow", uri=str(tmp_path))
    without_settings = ModelSettings("m", catalog.MLFLOW.class_path, uri=str(tmp_path))

    assert imports(monkeypatch, SKLEARN, logged) == ["sklearn"]
    assert imports(monkeypatch, logged) == ["xgboost"]
    assert imports(monkeypatch, without_settings) == ["xgboost"]


def test_a_users_class_has_no_framework_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert imports(monkeypatch, ModelSettings("m", "mine:Model")) == []


def test_keras_is_not_imported_before_the_model_has_chosen_its_backend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert imports(monkeypatch, ModelSettings("m", "keras")) == []


def test_an_mlmodel_that_cannot_be_read_is_left_to_the_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "MLmodel").write_text("[")

    assert imports(monkeypatch, ModelSettings("m", "mlflow", uri=str(tmp_path))) == []


@pytest.mark.parametrize(
    "model",
    [
        {"inline": True},
        {"in_background": True},
        {"fault": "no"},
        {"environment": {"packages": ["six"]}},
        {"environment_path": "/opt/python"},
        {"environment_tarball": "python.tar.gz"},
        {"uri": "models:/wine/1"},
    ],
)
def test_no_worker_starts_early_for_a_model_that_runs_elsewhere_or_later(
    monkeypatch: pytest.MonkeyPatch, model: dict[str, Any]
) -> None:
    elsewhere = ModelSettings("m", "sklearn", **model)

    assert imports(monkeypatch, elsewhere) is None
    assert imports(monkeypatch, elsewhere, SKLEARN) == ["sklearn"]


@pytest.mark.parametrize(
    "settings",
    [{"parallel_workers": 0}, {"load_models_at_startup": False}, {"env_manager": "uv"}],
)
def test_no_worker_starts_early_in_a_server_that_needs_none_at_once(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    assert imports(monkeypatch, SKLEARN, **settings) is None


def test_one_processor_is_left_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    assert imports(monkeypatch, SKLEARN, usable=1) is None
