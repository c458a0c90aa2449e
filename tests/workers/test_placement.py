"""Which models share workers, and workers on another interpreter. All processes are real."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
import venv
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.environments import probe
from headrace.errors import LoadFailed
from headrace.executors.early_worker import EarlyWorker
from headrace.executors.placement import Placement
from headrace.executors.worker_program import WorkerProgram
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor
from headrace.settings import ModelSettings, ServerSettings

ASKING = """
import os, sys
from headrace.model import Model

class Asking(Model):
    def predict(self, expression: str) -> str:
        return str(eval(expression))
"""


FIRST = EarlyWorker(WorkerProgram(sys.executable))


class Chosen:
    """Gives each model the interpreter that its settings name in `extra`."""

    async def python_for(self, settings: ModelSettings, progress: Any) -> str:
        return str(settings.extra.get("python", sys.executable))

    async def close(self) -> None: ...


def asking(folder: Path, name: str = "asking", **extra: Any) -> ModelSettings:
    (folder / "asking.py").write_text(ASKING)
    known = {"inference_pool_gid": extra.pop("gid", None)}
    known["in_background"] = extra.pop("background", False)
    return ModelSettings(name, "asking.Asking", folder=str(folder), extra=extra, **known)


async def load(placement: Placement, settings: ModelSettings) -> Callable[[str], Any]:
    """Load a model; returns a function that has it evaluate an expression."""
    executor = await placement.place(settings.name, settings, print)
    await executor.load(settings.name, settings)

    async def ask(expression: str) -> str:
        data = len(expression).to_bytes(4, "little") + expression.encode()
        request = InferenceRequest([Tensor("expression", "BYTES", [1], data)])
        deadline = asyncio.get_running_loop().time() + 30
        response = await executor.infer(settings.name, request, deadline)
        return bytes(response.outputs[0].data)[4:].decode()

    return ask


def run(test: Callable[[Placement], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        placement = Placement(ServerSettings(), Chosen(), FIRST)
        try:
            await asyncio.wait_for(test(placement), 60)
        finally:
            await placement.stop()

    asyncio.run(main())


def bare_environment(folder: Path) -> str:
    """An interpreter that has numpy and nothing else."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    packages = Path(np.__file__).parent.parent
    for name in ("numpy", "numpy.libs"):
        if (packages / name).exists():
            (site / name).symlink_to(packages / name)
    return str(folder / "bin" / "python")


def test_models_of_one_environment_share_a_worker(tmp_path: Path) -> None:
    async def test(placement: Placement) -> None:
        first = await load(placement, asking(tmp_path, "a"))
        second = await load(placement, asking(tmp_path, "b"))

        assert await first("os.getpid()") == await second("os.getpid()")

    run(test)


def test_models_of_different_groups_share_no_worker(tmp_path: Path) -> None:
    async def test(placement: Placement) -> None:
        first = await load(placement, asking(tmp_path, "a", gid="1"))
        second = await load(placement, asking(tmp_path, "b", gid="2"))

        assert await first("os.getpid()") != await second("os.getpid()")

    run(test)


def test_a_worker_in_the_background_gives_way_to_every_other_process(tmp_path: Path) -> None:
    async def test(placement: Placement) -> None:
        ask = await load(placement, asking(tmp_path, background=True))

        assert await ask("os.nice(0)") == "19"
        if Path("/proc/self/autogroup").exists():
            assert (await ask("open('/proc/self/autogroup').read()")).strip().endswith("nice 19")
        assert await ask("open('/proc/self/oom_score_adj').read().strip()") == "1000"
        # Models run in threads of their own, and each thread has a policy.
        assert await ask("os.sched_getscheduler(0) == os.SCHED_IDLE") == "True"
        other = await load(placement, asking(tmp_path, "other"))
        assert await other("os.sched_getscheduler(0) == os.SCHED_IDLE") == "False"
        # Not as expendable, but more so than the server.
        score = int(Path("/proc/self/oom_score_adj").read_text())
        assert score < int(await other("open('/proc/self/oom_score_adj').read()")) < 1000

    run(test)


def test_models_with_different_modules_of_the_same_name_share_no_worker(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "late.py").write_text(f"NAME = '{name}'")

    async def test(placement: Placement) -> None:
        first = await load(placement, asking(tmp_path / "a", "a"))
        second = await load(placement, asking(tmp_path / "b", "b"))
        third = await load(placement, asking(tmp_path / "a", "c"))

        assert await first("__import__('late').NAME") == "a"
        assert await second("__import__('late').NAME") == "b"
        assert await first("os.getpid()") != await second("os.getpid()")
        assert await first("os.getpid()") == await third("os.getpid()")

    run(test)


def test_a_named_group_is_shared_whatever_modules_its_models_bring(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    async def test(placement: Placement) -> None:
        first = await load(placement, asking(tmp_path / "a", "a", gid="1"))
        second = await load(placement, asking(tmp_path / "b", "b", gid="1"))

        assert await first("os.getpid()") == await second("os.getpid()")

    run(test)


def test_a_worker_runs_where_only_numpy_is(tmp_path: Path) -> None:
    python = bare_environment(tmp_path / "bare")

    async def test(placement: Placement) -> None:
        ask = await load(placement, asking(tmp_path, python=python))

        assert await ask("sys.prefix") == str(tmp_path / "bare")
        assert await ask("__import__('importlib.util').util.find_spec('msgspec')") == "None"
        assert await ask("__import__('shutil').which('python')") == python

    run(test)


def test_what_the_server_imports_from_elsewhere_is_not_in_another_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = bare_environment(tmp_path / "bare")
    (tmp_path / "leaked").mkdir()
    (tmp_path / "leaked" / "leak.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "leaked"))

    async def test(placement: Placement) -> None:
        own = await load(placement, asking(tmp_path, "own"))
        bare = await load(placement, asking(tmp_path, "bare", python=python))

        assert await own("__import__('importlib.util').util.find_spec('leak') is None") == "False"
        assert await bare("__import__('importlib.util').util.find_spec('leak') is None") == "True"

    run(test)


def test_an_environment_without_numpy_is_refused_whatever_the_server_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "empty", symlinks=True)
    monkeypatch.setenv("PYTHONPATH", str(Path(np.__file__).parent.parent))

    with pytest.raises(LoadFailed, match="it: numpy, which every worker needs"):
        asyncio.run(probe.version_of(tmp_path / "empty" / "bin" / "python", "it"))


def test_the_modules_of_a_worker_do_not_answer_imports_of_other_names(tmp_path: Path) -> None:
    async def test(placement: Placement) -> None:
        ask = await load(placement, asking(tmp_path))

        assert await ask("__import__('importlib.util').util.find_spec('frames')") == "None"

    run(test)


def test_a_child_of_a_model_finds_headrace_too(tmp_path: Path) -> None:
    python = bare_environment(tmp_path / "bare")
    (tmp_path / "job.py").write_text(
        textwrap.dedent("""
            import multiprocessing
            def work(_):
                import headrace.errors
                return headrace.errors.HeadraceError.kind
            def done():
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    return pool.map(work, [0])[0]
        """)
    )

    async def test(placement: Placement) -> None:
        ask = await load(placement, asking(tmp_path, python=python))

        assert await ask("__import__('job').done()") == "internal"

    run(test)


def test_the_workers_of_an_environment_end_with_its_last_model(tmp_path: Path) -> None:
    async def test(placement: Placement) -> None:
        ask = await load(placement, asking(tmp_path, "a", gid="1"))
        pid = int(await ask("os.getpid()"))
        await placement.leave("a")

        assert placement.pools == []
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    run(test)


def test_a_model_that_shares_nothing_is_not_loaded_a_second_time(tmp_path: Path) -> None:
    async def test(placement: Placement) -> None:
        await placement.place("a", asking(tmp_path, "a"), print)
        assert placement.place_alone("a") is None
        await placement.place("b", asking(tmp_path, "b"), print)
        assert placement.place_alone("b") is not None

    run(test)


def test_restarts_never_fall_while_a_pool_stops(tmp_path: Path) -> None:
    async def test(placement: Placement) -> None:
        await load(placement, asking(tmp_path, "a"))
        placement.pools[0]._slots[0].restarts = 3
        leaving = asyncio.create_task(placement.leave("a"))
        seen = []
        while not leaving.done():
            seen.append(placement.restarts)
            await asyncio.sleep(0)

        assert set(seen) == {3}

    run(test)


def test_programs_that_a_model_starts_inherit_no_shared_memory(tmp_path: Path) -> None:
    inherited = (
        "[fd for fd in os.listdir('/proc/self/fd') if 'memfd' in "
        "os.path.realpath('/proc/self/fd/' + fd) and os.get_inheritable(int(fd))]"
    )

    async def test(placement: Placement) -> None:
        ask = await load(placement, asking(tmp_path))

        assert await ask(inherited) == "[]"

    run(test)


def test_a_model_inside_the_server_gets_no_environment(tmp_path: Path) -> None:
    settings = ModelSettings("a", "x:Y", inline=True, environment={"packages": ["numpy"]})

    async def main() -> None:
        placement = Placement(ServerSettings(), Chosen(), FIRST)
        with pytest.raises(LoadFailed, match="runs inside the server"):
            await placement.place("a", settings, print)

    asyncio.run(main())
