"""Models inside the server's process: what their threads leave behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import DeadlineExceeded, LoadFailed
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


def test_a_stream_whose_model_hangs_ends_at_its_deadline(models: Any) -> None:
    async def test(executor: InlineExecutor) -> None:
        await executor.load("m", settings("Gated"))
        pieces = executor.stream("m", InferenceRequest([]), in_seconds(0.2))
        await anext(pieces)
        with pytest.raises(DeadlineExceeded):
            await anext(pieces)

    run(test)
