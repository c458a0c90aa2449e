"""Where models run: inside the server, or in pools of workers, one pool per environment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from headrace.errors import InvalidModel
from headrace.executors.early_worker import EarlyWorker
from headrace.executors.executor import Executor
from headrace.executors.pool import WorkerPool
from headrace.executors.process import Environment
from headrace.executors.runner_answers import AskModel, refuse
from headrace.runtimes import needs_worker, own_modules
from headrace.settings import ModelSettings, ServerSettings

if TYPE_CHECKING:
    from headrace.executors.inline import InlineExecutor

logger = logging.getLogger("headrace.executors")

Progress = Callable[[str], None]

# How much longer than others a model may take to load that gives way to them.
BACKGROUND_PATIENCE = 10


class Interpreters(Protocol):
    """Finds, builds or unpacks the interpreter that suits a model."""

    async def python_for(self, settings: ModelSettings, progress: Progress) -> str:
        """See `headrace.environments.Environments.python_for`."""

    async def close(self) -> None:
        """Release the environments in use."""


class Group(NamedTuple):
    """Models that share workers: they have the same interpreter and `inference_pool_gid`.

    Models without a gid that bring different modules of the same name are in different parts.
    Those in the background never share a worker with those that are not, and those with a
    `memory_limit` share none.
    """

    python: str
    gid: str | None
    part: int = 0
    in_background: bool = False
    memory_limit: int | None = None


class Placement:
    """Finds an executor for each model.

    A pool starts with its first model and stops after its last one. `first` may be taken by the
    first pool of its program. `ask` is what the calls of runners in workers are passed on to.
    """

    def __init__(
        self,
        settings: ServerSettings,
        interpreters: Interpreters,
        first: EarlyWorker,
        ask: AskModel = refuse,
    ) -> None:
        self._settings = settings
        self._interpreters = interpreters
        self._first = first
        self._ask = ask
        self._inline: InlineExecutor | None = None
        self._pools: dict[Group, WorkerPool] = {}
        # Each model's own modules, by its key.
        self._models: dict[Group, dict[str, dict[str, str]]] = {}
        self._restarts_before = 0

    async def place(self, key: str, settings: ModelSettings, progress: Progress) -> Executor:
        """The executor to load the model with; the model's environment exists afterwards.

        `progress` gets a short line for each step while an environment is built.

        Raises:
            LoadFailed: the environment that the model needs cannot be provided.
        """
        is_inline = settings.inline or self._settings.parallel_workers <= 0
        # The server's own threads cannot give way to one another, so nothing in them is background.
        if is_inline and not settings.in_background and not needs_worker(settings):
            if settings.environment or settings.environment_path or settings.environment_tarball:
                raise InvalidModel(
                    f"model '{settings.name}' asks for an environment of its own, but runs inside "
                    "the server (parallel_workers is 0)"
                )
            if settings.memory_limit is not None:
                raise InvalidModel(
                    f"model '{settings.name}' has a memory_limit, but runs inside the server "
                    "(parallel_workers is 0)"
                )
            if settings.inline and self._first.program.confinement.is_set:
                raise InvalidModel(
                    f"model '{settings.name}' asks to run inside the server (parallel_workers is "
                    "0 in its settings), which --trust formats and the flags --worker-* rule out"
                )
            return await self._inside()
        python = await self._interpreters.python_for(settings, progress)
        modules = await asyncio.to_thread(own_modules, settings)
        group = Group(python, settings.inference_pool_gid, in_background=settings.in_background)
        if settings.memory_limit is not None:
            group = group._replace(gid=f"limited {key}", memory_limit=settings.memory_limit)
        group = self._without_clash(group, modules)
        self._models.setdefault(group, {})[key] = modules
        return self._pool(group)

    def place_alone(self, key: str) -> Executor | None:
        """A separate executor for a model whose load ended the workers it shares.

        Frameworks that cannot coexist in one process end it. None if the model shared no worker.
        """
        group = next((group for group, keys in self._models.items() if key in keys), None)
        if group is None or len(self._models[group]) == 1:
            return None
        alone = group._replace(gid=f"alone {key}")
        self._models[alone] = {key: self._models[group].pop(key)}
        return self._pool(alone)

    async def leave(self, key: str) -> None:
        """Forget a model that was unloaded or did not load. Unknown keys are fine."""
        group = next((group for group, keys in self._models.items() if key in keys), None)
        if group is None:
            return
        del self._models[group][key]
        if not self._models[group]:
            del self._models[group]
            pool = self._pools.pop(group)
            # Before the pool stops: a counter that falls would look like a restart.
            self._restarts_before += pool.restarts
            await pool.stop()

    @property
    def pools(self) -> list[WorkerPool]:
        """The pools that hold models now."""
        return list(self._pools.values())

    @property
    def restarts(self) -> int:
        """Workers restarted since the server started."""
        return self._restarts_before + sum(pool.restarts for pool in self.pools)

    async def measured(self, timeout: float) -> list[list[Any]]:
        """The metrics of user code, one list per live worker; takes at most `timeout` seconds."""
        answers = await asyncio.gather(*(each.measured(timeout) for each in self._executors()))
        return [families for answer in answers for families in answer]

    async def stop(self) -> None:
        """Stop everything; no process is left."""
        self._first.close()
        await asyncio.gather(*(each.stop() for each in self._executors()))
        await self._interpreters.close()

    async def _inside(self) -> InlineExecutor:
        """What runs models inside the server, for which it imports what a worker does."""
        if self._inline is None:
            made = await asyncio.to_thread(self._inline_executor)
            # Another model may have been placed meanwhile.
            self._inline = self._inline or made
        return self._inline

    def _inline_executor(self) -> InlineExecutor:
        from headrace.executors.inline import InlineExecutor

        return InlineExecutor(self._settings.load_timeout)

    def _executors(self) -> list[WorkerPool | InlineExecutor]:
        return [*self.pools, *([self._inline] if self._inline is not None else [])]

    def _without_clash(self, group: Group, modules: dict[str, str]) -> Group:
        """The first part of a group in which nobody brings other modules of the same name."""
        if group.gid is None:
            while any(_clash(modules, other) for other in self._others(group)):
                group = group._replace(part=group.part + 1)
        return group

    def _others(self, group: Group) -> Iterable[dict[str, str]]:
        return self._models.get(group, {}).values()

    def _pool(self, group: Group) -> WorkerPool:
        pool = self._pools.get(group)
        if pool is None:
            settings = self._settings
            program = self._first.program
            is_like_first = (group.python, False, None) == (
                *(program.python, group.in_background, group.memory_limit),
            )
            environment = Environment(
                *(group.python, program.log_level, program.log_format, program.threads),
                in_background=group.in_background,
                confinement=replace(program.confinement, memory_limit=group.memory_limit),
                ask=self._ask,
                early=self._first if is_like_first else None,
            )
            size, timeout = max(1, settings.parallel_workers), settings.load_timeout
            if group.in_background:
                # Memory is as scarce as the processor, and nobody waits for the answers.
                size, timeout = 1, timeout * BACKGROUND_PATIENCE
            pool = self._pools[group] = WorkerPool(environment, size, timeout)
        return pool


def _clash(modules: dict[str, str], others: dict[str, str]) -> bool:
    return any(others.get(name, place) != place for name, place in modules.items())
