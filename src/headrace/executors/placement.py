"""Where models run: inside the server, or in pools of workers, one pool per environment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

from headrace.errors import LoadFailed
from headrace.executors.executor import Executor
from headrace.executors.inline import InlineExecutor
from headrace.executors.pool import WorkerPool
from headrace.executors.process import Environment
from headrace.settings import ModelSettings, ServerSettings

Note = Callable[[str], None]


class Interpreters(Protocol):
    """Finds, builds or unpacks the interpreter that suits a model."""

    async def python_for(self, settings: ModelSettings, note: Note) -> str:
        """See `headrace.environments.Environments.python_for`."""

    async def close(self) -> None:
        """Let go of the environments in use."""


class Group(NamedTuple):
    """Who shares workers: models of one interpreter and one `inference_pool_gid`."""

    python: str
    gid: str | None


class Placement:
    """Finds each model its executor.

    A pool starts when its first model comes and stops when its last one has gone.
    """

    def __init__(
        self, settings: ServerSettings, interpreters: Interpreters, log_format: str
    ) -> None:
        self._settings = settings
        self._interpreters = interpreters
        self._log_format = log_format
        self._inline = InlineExecutor(settings.load_timeout)
        self._pools: dict[Group, WorkerPool] = {}
        self._models: dict[Group, set[str]] = {}
        self._restarts_before = 0

    async def place(self, key: str, settings: ModelSettings, note: Note) -> Executor:
        """The executor that is to load the model; its environment exists afterwards.

        `note` is told what is going on while an environment is built.

        Raises:
            LoadFailed: the environment the model needs cannot be had.
        """
        if settings.inline or self._settings.parallel_workers <= 0:
            if settings.environment or settings.environment_path or settings.environment_tarball:
                raise LoadFailed(
                    f"model '{settings.name}' asks for an environment of its own, but runs inside "
                    "the server (parallel_workers is 0)"
                )
            return self._inline
        python = await self._interpreters.python_for(settings, note)
        group = Group(python, settings.inference_pool_gid)
        self._models.setdefault(group, set()).add(key)
        return self._pool(group)

    async def leave(self, key: str) -> None:
        """The model has been unloaded, or did not load. Unknown keys are fine."""
        group = next((group for group, keys in self._models.items() if key in keys), None)
        if group is None:
            return
        self._models[group].discard(key)
        if not self._models[group]:
            del self._models[group]
            pool = self._pools.pop(group)
            await pool.stop()
            self._restarts_before += pool.restarts

    @property
    def pools(self) -> list[WorkerPool]:
        """The pools that hold models now."""
        return list(self._pools.values())

    @property
    def restarts(self) -> int:
        """Workers started anew since the server started."""
        return self._restarts_before + sum(pool.restarts for pool in self.pools)

    async def stop(self) -> None:
        """Stop everything; no process is left."""
        await asyncio.gather(self._inline.stop(), *(pool.stop() for pool in self.pools))
        await self._interpreters.close()

    def _pool(self, group: Group) -> WorkerPool:
        pool = self._pools.get(group)
        if pool is None:
            settings = self._settings
            environment = Environment(group.python, settings.log_level, self._log_format)
            size = max(1, settings.parallel_workers)
            pool = self._pools[group] = WorkerPool(environment, size, settings.load_timeout)
        return pool
