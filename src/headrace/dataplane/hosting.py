"""Loads and unloads models that a platform names while the server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.errors import (
    ConfigurationError,
    Conflict,
    HeadraceError,
    InvalidModel,
    MemoryShort,
    NotFound,
    ShuttingDown,
    shorten,
)
from headrace.executors.executor import WorkerLost
from headrace.executors.memory import has_room_for
from headrace.repository.repository import ModelRepository
from headrace.repository.requested_loads import RequestedLoads
from headrace.serving.served_model import State
from headrace.settings import ModelSettings
from headrace.sources.hosted_source import HostedSource


class Hosting:
    """The models of a platform, by the names that it gives them.

    `may_load` says whether the server still takes work. `loads` is what loads and unloads, if it
    is not the repository itself.
    """

    def __init__(
        self,
        repository: ModelRepository,
        source: HostedSource,
        may_load: Callable[[], bool],
        fits: Callable[[int], bool] = has_room_for,
        loads: RequestedLoads | None = None,
    ) -> None:
        self._repository = repository
        self._loads = loads or repository
        self._source = source
        self._may_load = may_load
        self._fits = fits
        self._loading: set[str] = set()

    async def load(self, name: str, place: str) -> None:
        """Load the model in a folder. Returns when it can answer.

        Raises:
            Conflict: a model of that name is loaded, or is being loaded.
            MemoryShort: there is not enough memory for it.
            LoadFailed: with the reason; nothing of it is left.
            ShuttingDown: the server is draining.
        """
        if not self._may_load():
            raise ShuttingDown("the server is draining")
        if name in self._loading or self._is_there(name):
            raise Conflict(f"model '{shorten(name)}' is already loaded")
        self._loading.add(name)
        self._source.places[name] = place
        task = asyncio.create_task(self._load(name))
        # A caller who leaves does not end the load, and nobody else reads how that ends.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(task)

    async def unload(self, name: str) -> None:
        """Finish the requests of a model, free it and forget it.

        Raises:
            NotFound: the platform has loaded no model of that name.
            Conflict: it is being loaded or unloaded.
        """
        self.place(name)
        await self._loads.unload(name)
        self._forget(name)

    def place(self, name: str) -> str:
        """The folder of a model.

        Raises:
            NotFound: the platform has loaded no model of that name.
        """
        place = self._source.places.get(name)
        if place is None or not self._is_loaded(name):
            raise NotFound(f"model '{shorten(name)}' not found")
        return place

    def places(self) -> list[tuple[str, str]]:
        """The models that are loaded, by name, each with its folder."""
        return sorted(item for item in self._source.places.items() if self._is_loaded(item[0]))

    async def _load(self, name: str) -> None:
        try:
            if not self._fits(await asyncio.to_thread(self._source.size, name)):
                raise MemoryShort(f"there is not enough memory for model '{shorten(name)}'")
            await self._loads.load(name)
        except HeadraceError as error:
            self._forget(name)
            cause = error.__cause__
            if isinstance(cause, WorkerLost) and (cause.killed or cause.out_of_memory):
                raise MemoryShort(
                    f"{error.message}; the kernel does so when memory is short"
                ) from None
            raise
        except BaseException:
            self._forget(name)
            raise
        finally:
            self._loading.discard(name)

    def _is_loaded(self, name: str) -> bool:
        return name not in self._loading and self._is_there(name)

    def _is_there(self, name: str) -> bool:
        return any(
            model.name == name and model.state is not State.UNAVAILABLE
            for model in self._repository.models()
        )

    def _forget(self, name: str) -> None:
        self._source.places.pop(name, None)
        for model in [each for each in self._repository.models() if each.name == name]:
            if model.state is State.UNAVAILABLE:
                self._repository.forget(model)


def find_hosted(
    source: HostedSource, otherwise: Callable[[str], list[ModelSettings]]
) -> Callable[[str], list[ModelSettings]]:
    """How the repository finds models: those of the platform first."""

    def find(name: str) -> list[ModelSettings]:
        if name not in source.places:
            return otherwise(name)
        try:
            return source.find(name)
        except ConfigurationError as error:
            raise InvalidModel(error.message) from error

    return find
