"""Models inside the server's process: what their threads leave behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import (
    DeadlineExceeded,
    LoadFailed,
    ModelFailed,
    ModelNotReady,
    Overloaded,
    ShuttingDown,
)
from headrace.executors import inline
from headrace.executors.inline import InlineExecutor
from headrace.protocol.messages import InferenceRequest
from headrace.settings import ModelSettings
from headrace.worker import measured

MODEL = """
import threading
from headrace import Model

class Gated(Model):
    gate, done = threading.Event(), threading.Event()

    def infer_stream(self, request):
        try:
            yield threading.get_ident()
            self.gate.wait(30)
            yield threading.get_ident()
        finally:
            self.thread = threading.get_ident()
            self.done.set()

class Slow(Gated):
    def load(self):
        self.gate.wait(30)

    def unload(self):
        self.done.set()

class Stuck(Gated):
    def infer(self, request):
        self.gate.wait(30)

class Noting(Gated):
    ids = []

    def infer(self, request):
        self.ids.append(request.id)
        self.gate.wait(30)

class Answers(Gated):
    def infer(self, request):
        if request.id == "wrong":
            raise ValueError("no")
        if request.id == "exits":
            raise SystemExit(1)
        return threading.current_thread().name

class HangsInStream(Gated):
    def infer_stream(self, request):
        self.gate.wait(30)
        yield "piece"

class Broken(Gated):
    def unload(self):
        raise RuntimeError("no")
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the models, freshly imported; none of them is left waiting at the end."""
    (tmp_path / "inline_models.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "inline_models", raising=False)
    module = __import__("inline_models")
    yield module
    module.Gated.gate.set()


def run(test: Callable[[InlineExecutor], Coroutine[Any, Any, None]], load_timeout: float = 30):
    async def main() -> None:
        executor = InlineExecutor(load_timeout)
        try:
            await asyncio.wait_for(test(executor), 20)
        finally:
            await executor.stop()

    asyncio.run(main())


def settings(name: str) -> ModelSettings:
    return ModelSettings(name.lower(), f"inline_models.{name}")


def in_seconds(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_a_load_that_takes_too_long_says_so_and_leaves_nothing_when_it_ends(models: Any) -> None:
    async def test(executor: InlineExecutor) -> None:
        with pytest.raises(LoadFailed, match="model 'slow' did not load within 0.05 s"):
            await executor.load("m", settings("Slow"))
        models.Slow.gate.set()

        assert await asyncio.to_thread(models.Slow.done.wait, 20)

    run(test, load_timeout=0.05)


def test_a_model_that_cannot_be_unloaded_is_gone_and_holds_up_no_other(models: Any) -> None:
    async def test(executor: InlineExecutor) -> None:
        await executor.load("a", settings("Broken"))
        await executor.load("b", settings("Gated"))

        await executor.stop()

        assert not executor.is_up("a")
        assert not executor.is_up("b")

    run(test)


def test_a_model_that_hangs_does_not_hold_up_the_shutdown(
    models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline, "LAST_UNLOADS", 0.05)

    async def test(executor: InlineExecutor) -> None:
        await executor.load("m", settings("Stuck"))
        with pytest.raises(DeadlineExceeded):
            await executor.infer("m", InferenceRequest([]), in_seconds(0.05))

        await executor.stop()

        assert not models.Stuck.gate.is_set()

    run(test)


def test_a_model_that_hangs_is_unloaded_all_the_same_and_freed_if_it_ends_after_all(
    models: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inline, "STOP_GRACE", 0.05)
    models.Stuck.unload = models.Slow.unload

    async def test(executor: InlineExecutor) -> None:
        await executor.load("m#1", settings("Stuck"))
        with pytest.raises(DeadlineExceeded):
            await executor.infer("m#1", InferenceRequest([]), in_seconds(0.05))
        await executor.unload("m#1")

        assert not executor.is_up("m#1")
        with pytest.raises(ModelNotReady):
            await executor.infer("m#1", InferenceRequest([]), in_seconds(20))
        await executor.load("m#2", settings("Stuck"))
        assert not models.Stuck.done.is_set()
        models.Stuck.gate.set()
        assert await asyncio.to_thread(models.Stuck.done.wait, 20)

    run(test)

    assert "unloading m#1 takes more than 0.05 s; its thread is left behind" in caplog.text


EXITS = """
from headrace import Model
from headrace.testing import TestClient
import threading

class Hangs(Model):
    def predict(self, n: int) -> int:
        threading.Event().wait()

    def predict_stream(self, n: int):
        threading.Event().wait()
        yield n

BODY = {"inputs": [{"name": "n", "shape": [1], "datatype": "INT64", "data": [1]}]}
with TestClient(Hangs, infer_timeout=0.1) as client:
    for route in ("infer", "infer_stream"):
        print(client.post(f"/v2/models/Hangs/{route}", json=BODY).status_code)
"""


def test_a_model_that_hangs_does_not_keep_its_process_from_ending() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXITS], capture_output=True, text=True, timeout=100
    )

    assert (done.returncode, done.stdout.split()) == (0, ["504", "504"])


def test_scrapes_at_the_same_time_get_the_same_answer(
    models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "families", lambda: ["family"])

    async def test(executor: InlineExecutor) -> None:
        await executor.load("m", settings("Gated"))

        answers = await asyncio.gather(executor.measured(10), executor.measured(10))

        assert answers == [[["family"]], [["family"]]]

    run(test)


def test_a_stream_that_the_caller_leaves_ends_in_the_thread_it_ran_in(models: Any) -> None:
    async def test(executor: InlineExecutor) -> None:
        await executor.load("m", settings("Gated"))
        pieces = executor.stream("m", InferenceRequest([]), in_seconds(20))
        ran_in = await anext(pieces)
        await pieces.aclose()

        assert await asyncio.to_thread(models.Gated.done.wait, 20)
        model = executor._host._models["m"].model
        assert model.thread == ran_in != threading.get_ident()

    run(test)


def test_a_stream_that_hangs_keeps_its_place_until_its_thread_ends(
    models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline, "MOST_STREAMS", 2)

    async def test(executor: InlineExecutor) -> None:
        await executor.load("m", settings("HangsInStream"))
        await executor.load("other", settings("Gated"))
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                await anext(executor.stream("m", InferenceRequest([]), in_seconds(0.05)))
        with pytest.raises(Overloaded):
            await anext(executor.stream("m", InferenceRequest([]), in_seconds(20)))
        others = executor.stream("other", InferenceRequest([]), in_seconds(20))
        await anext(others)
        threads = list(executor._streams["m"])
        models.Gated.gate.set()
        for thread in threads:
            await asyncio.to_thread(thread.join, 20)
        await others.aclose()

        assert [thread.is_alive() for thread in threads] == [False, False]
        assert [piece async for piece in executor.stream("m", InferenceRequest([]), in_seconds(20))]

    run(test)


def test_a_stream_fails_at_once_when_the_server_stops(models: Any) -> None:
    async def test(executor: InlineExecutor) -> None:
        await executor.load("m", settings("Gated"))
        pieces = executor.stream("m", InferenceRequest([]), in_seconds(20))
        await anext(pieces)
        second = asyncio.create_task(anext(pieces))
        await asyncio.sleep(0)
        await executor.stop()
        with pytest.raises(ShuttingDown):
            await second

        assert not models.Gated.gate.is_set()

    run(test)


def test_a_stream_whose_model_hangs_ends_at_its_deadline(models: Any) -> None:
    async def test(executor: InlineExecutor) -> None:
        await executor.load("m", settings("Gated"))
        pieces = executor.stream("m", InferenceRequest([]), in_seconds(0.2))
        await anext(pieces)
        with pytest.raises(DeadlineExceeded):
            await anext(pieces)

    run(test)


async def begun(executor: InlineExecutor, id: str = "", seconds: float = 20.0) -> Any:
    """The outcome of a batch that was begun."""
    outcome = asyncio.get_running_loop().create_future()
    request = InferenceRequest([], id=id)
    assert executor.begin("m", request, in_seconds(seconds), outcome.set_result)
    return await outcome


def test_a_batch_that_is_begun_runs_in_the_thread_of_its_model(models: Any) -> None:
    async def test(executor: InlineExecutor) -> None:
        await executor.load("m", settings("Answers"))
        assert await begun(executor) == "model-answers"

    run(test)


@pytest.mark.parametrize("id", ["wrong", "exits"])
def test_a_batch_that_is_begun_and_fails_ends_with_the_error(id: str, models: Any) -> None:
    async def test(executor: InlineExecutor) -> None:
        await executor.load("m", settings("Answers"))
        assert isinstance(await begun(executor, id), ModelFailed)
        assert await begun(executor) == "model-answers"

    run(test)


def test_a_batch_that_is_begun_and_hangs_ends_once_at_its_deadline(models: Any) -> None:
    async def test(executor: InlineExecutor) -> None:
        await executor.load("m", settings("Stuck"))
        assert isinstance(await begun(executor, seconds=0.05), DeadlineExceeded)
        models.Gated.gate.set()
        # What the model answers after all must not end it again.
        await executor.unload("m")

    run(test)


def test_a_batch_whose_time_is_up_behind_one_that_hangs_never_runs(models: Any) -> None:
    async def test(executor: InlineExecutor) -> None:
        await executor.load("m", settings("Noting"))
        for id in ("hangs", "late"):
            assert isinstance(await begun(executor, id, 0.05), DeadlineExceeded)
        models.Gated.gate.set()
        await begun(executor, "next")

        assert models.Noting.ids == ["hangs", "next"]

    run(test)


def test_a_batch_of_a_model_that_is_not_loaded_is_not_begun() -> None:
    async def test(executor: InlineExecutor) -> None:
        assert not executor.begin("m", InferenceRequest([]), in_seconds(1), pytest.fail)

    run(test)
