"""Following: what is held back, and what is unloaded."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from headrace.errors import Conflict, InvalidModel
from headrace.protocol.messages import ModelMetadata
from headrace.repository.follower import Follower
from headrace.serving.served_model import State
from headrace.settings import ModelSettings, ServerSettings
from headrace.sources.model_registry import Registered
from support import virtual_time


class FakeRegistry:
    """Names one version after the other, and then the last one."""

    def __init__(self, *versions: str) -> None:
        self._versions = list(versions)

    async def look(self, name: str) -> Registered:
        version = self._versions.pop(0) if len(self._versions) > 1 else self._versions[0]
        return Registered({"champion": version}, {}, version)

    async def close(self) -> None: ...


class FakeRepository:
    """Loads every version but the broken ones, and is busy as often as it is told to be."""

    def __init__(self, broken: str = "", conflicts: int = 0) -> None:
        self.tried: list[str] = []
        self.loaded: dict[str, Any] = {}
        self._broken = broken
        self._conflicts = conflicts

    def known(self, name: str, version: str) -> Any:
        return self.loaded.get(version)

    async def add(self, settings: ModelSettings, alone: bool = False) -> Any:
        version = str(settings.version)
        self.tried.append(version)
        if version == self._broken:
            raise InvalidModel("it is broken")
        state = SimpleNamespace(
            version=version, state=State.READY, model_metadata=ModelMetadata(), reason=""
        )
        self.loaded[version] = state
        return state

    async def drop(self, name: str, version: str) -> None:
        if self._conflicts:
            self._conflicts -= 1
            raise Conflict("another version is being loaded")
        del self.loaded[version]

    def expect(self, settings: ModelSettings) -> Any: ...

    def prefer(self, model: Any) -> None: ...


def follow(repository: FakeRepository, *versions: str) -> None:
    """Follow a registry that names these, for an hour."""
    model = ModelSettings("m", "mlflow", uri="models:/m@champion", follow={"keep": 60})
    plane = cast(Any, repository)
    registry = cast(Any, FakeRegistry(*versions))

    async def main() -> None:
        follower = Follower(plane, ServerSettings(), [model], registry)
        await follower.start()
        await asyncio.sleep(3600)
        await follower.close()

    virtual_time.run(main())


def test_the_version_before_is_unloaded_even_if_another_is_being_loaded_at_that_time() -> None:
    repository = FakeRepository(conflicts=3)
    follow(repository, "1", "2")

    assert list(repository.loaded) == ["2"]


def test_a_version_that_is_at_fault_is_tried_again_once_another_one_was_named() -> None:
    repository = FakeRepository(broken="2")
    follow(repository, "1", "2", "2", "1", "2")

    assert repository.tried == ["1", "2", "2"]
