"""A model repository with a fake executor, whose actions the test observes and controls."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from headrace.errors import InvalidModel, LoadFailed
from headrace.executors.executor import Exhausted
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.protocol.tensor import Tensor
from headrace.repository.loading import Loader
from headrace.repository.repository import ModelRepository
from headrace.settings import ModelSettings, ServerSettings


class FakeExecutor:
    """Loads whatever does not say `broken`; answers with the key of the load that ran.

    A model with a `fault` in its `extra` raises that when it is asked, and one that `hangs` never
    answers. The versions in `held` load once their event is set, and those in `broken` never do.
    """

    def __init__(self) -> None:
        self.loaded: dict[str, ModelSettings] = {}
        self.tried: dict[str, int] = {}
        self.loading = 0
        self.most_loading = 0
        self.withdrawn = 0
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.held: dict[str | None, asyncio.Event] = {}
        self.broken: set[str | None] = set()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        self.loading += 1
        self.most_loading = max(self.most_loading, self.loading)
        try:
            await self.held.get(settings.version, self.may_load).wait()
            await asyncio.sleep(0)
        finally:
            self.loading -= 1
        self.tried[settings.name] = self.tried.get(settings.name, 0) + 1
        if settings.extra.get("broken"):
            raise LoadFailed("it is broken")
        if settings.extra.get("exhausted"):
            raise Exhausted("it had its time")
        if settings.extra.get("invalid") or settings.version in self.broken:
            raise InvalidModel("it never loads")
        if self.tried[settings.name] <= settings.extra.get("fails", 0):
            raise LoadFailed("it failed for the moment")
        self.loaded[key] = settings
        return ModelMetadata(signature=settings.extra.get("signature"), streams=True)

    def slots(self, key: str) -> int:
        return 1

    def is_up(self, key: str) -> bool:
        return key in self.loaded

    def trouble(self, key: str) -> str:
        return "it is down"

    def begin(self, key: str, request: InferenceRequest, deadline: float, done: Any) -> bool:
        return False

    async def infer(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> InferenceResponse:
        await self.may_answer.wait()
        await self._misbehave(key)
        return InferenceResponse([], {"key": key})

    async def _misbehave(self, key: str) -> None:
        assert key in self.loaded, "asked after it was unloaded"
        extra = self.loaded[key].extra
        if fault := extra.get("fault"):
            raise fault
        if extra.get("hangs"):
            await asyncio.get_running_loop().create_future()

    async def infer_alone(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> InferenceResponse:
        return await self.infer(key, request, deadline)

    async def stream(
        self, key: str, request: InferenceRequest, deadline: float
    ) -> AsyncGenerator[InferenceResponse, None]:
        await self.may_answer.wait()
        await self._misbehave(key)
        yield InferenceResponse([], {"key": key})

    def withdraw(self, request: InferenceRequest) -> None:
        self.withdrawn += 1

    async def unload(self, key: str) -> None:
        self.loaded.pop(key, None)

    async def stop(self) -> None: ...


class FakePlacement:
    """Puts every model on one executor, once `may_place` is set."""

    def __init__(self, executor: FakeExecutor) -> None:
        self._executor = executor
        self.may_place = asyncio.Event()
        self.may_place.set()

    async def place(self, key: str, settings: ModelSettings, progress: Any) -> FakeExecutor:
        progress("half of it is there")
        await self.may_place.wait()
        return self._executor

    def place_alone(self, key: str) -> None: ...

    async def leave(self, key: str) -> None: ...

    async def stop(self) -> None: ...


class World:
    """A repository, its executor, and the folder it finds models in."""

    def __init__(self) -> None:
        self.executor = FakeExecutor()
        self.disk: list[ModelSettings] = []
        self.placement = FakePlacement(self.executor)
        loader = Loader(ServerSettings(), self.placement)
        self.repository = ModelRepository(
            loader, lambda name: [settings for settings in self.disk if settings.name == name]
        )

    async def answer(self, name: str, version: str | None = None) -> str:
        model = self.repository.get(name, version)
        response = await model.submit(request(), None)
        return str((response.parameters or {})["key"])


def request() -> InferenceRequest:
    return InferenceRequest([Tensor("x", "FP64", [1], bytes(8))])


def model(name: str = "m", version: str | None = None, **extra: Any) -> ModelSettings:
    return ModelSettings(name, "fake:Fake", version=version, extra=extra)


def in_world(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test, with a world as its first argument and pytest's fixtures as the others."""

    def run(**fixtures: Any) -> None:
        async def body() -> None:
            await test(World(), **fixtures)

        asyncio.run(body())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    signature = inspect.signature(test)
    fixtures = list(signature.parameters.values())[1:]
    vars(run)["__signature__"] = signature.replace(parameters=fixtures)
    return run
