"""The life of one model: it is fetched, loaded, drained and unloaded."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

from headrace.batching.batcher import Batcher
from headrace.batching.limits import BatchLimits
from headrace.errors import Conflict, HeadraceError, InvalidModel, LoadFailed, LoadKilled
from headrace.executors.executor import Executor, Exhausted, LoadOverdue, WorkerLost
from headrace.executors.retry import Retry
from headrace.protocol import cloud_events
from headrace.protocol.cloud_events import CloudEvents
from headrace.protocol.messages import ModelMetadata
from headrace.protocol.mlflow.signature import Signature
from headrace.protocol.tensor import as_column
from headrace.runtimes import catalog, trust
from headrace.serving.served_model import ServedModel, State
from headrace.settings import DEFAULT_MAX_BATCH_SIZE, ModelSettings, ServerSettings
from headrace.sockets import is_loopback
from headrace.sources import artifacts, signatures
from headrace.sources.names import is_uri

logger = logging.getLogger("headrace.repository")

T = TypeVar("T")

# More at once would only take turns on the processor, each with its thread and memory.
LOADS_AT_ONCE = 8
# More at once would only share the network, each with a process of MLflow's client.
FETCHES_AT_ONCE = 8


class Placement(Protocol):
    """Finds an executor for each model; see `headrace.executors.placement`."""

    async def place(
        self, key: str, settings: ModelSettings, progress: Callable[[str], None]
    ) -> Executor: ...

    def place_alone(self, key: str) -> Executor | None: ...

    async def leave(self, key: str) -> None: ...

    async def stop(self) -> None: ...


class Loader:
    """Makes served models from settings, and retires them; knows nothing of names and versions."""

    def __init__(self, settings: ServerSettings, placement: Placement) -> None:
        self._settings = settings
        self._placement = placement
        self._executors: dict[str, Executor] = {}
        self._keys = count(1)
        # A gate of their own: downloads that take minutes must not hold up models that are here.
        self._fetch_gate = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._load_gate = asyncio.Semaphore(LOADS_AT_ONCE)
        # By key: what was downloaded or copied for a model.
        self._folders: dict[str, list[Path]] = {}
        self._verify = signatures.verifier(settings)

    def admit(self, settings: ModelSettings) -> ServedModel:
        """A model under a key of its own, still to be loaded."""
        return ServedModel(
            settings,
            key=self._new_key(settings),
            # As far as it is known before the load: it tells which model a request means.
            model_metadata=ModelMetadata(
                decodes_scoring=catalog.find(settings.implementation) is catalog.MLFLOW
            ),
            infer_timeout=settings.infer_timeout or self._settings.infer_timeout,
        )

    def _new_key(self, settings: ModelSettings) -> str:
        return f"{settings.name}#{next(self._keys)}"

    async def load(self, model: ServedModel, predecessors: Iterable[ServedModel] = ()) -> None:
        """Load an admitted model; afterwards it is READY, or UNAVAILABLE with its reason.

        Its `predecessors`, which answer until then, show its progress as their reason.

        Raises:
            HeadraceError: why it did not load; nothing of it is left behind.
        """
        started = asyncio.get_running_loop().time()
        try:
            self._serve(model, await self._load(model, predecessors))
        except HeadraceError as exc:
            await _surely(self._fail(model, exc.message))
            raise
        except Exception as exc:
            logger.exception("a model did not load; this is a bug", extra=_fields(model))
            await _surely(self._fail(model, "the server failed while loading it"))
            raise LoadFailed("the server failed while loading it; see its log") from exc
        except asyncio.CancelledError:
            await _surely(self._fail(model, "its load was given up"))
            raise
        seconds = round(asyncio.get_running_loop().time() - started, 3)
        logger.info("model is ready", extra={**_fields(model), **model.origin, "seconds": seconds})

    async def retire(self, model: ServedModel, reason: str) -> None:
        """Let a model that is UNLOADING finish its requests, then free it; it ends UNAVAILABLE."""
        if model.state is not State.UNLOADING:
            return
        await model.drain()
        await self._release(model)
        model.batcher = model.streamer = None
        model.become(State.UNAVAILABLE, reason)
        logger.info("model is unloaded", extra=_fields(model))

    def is_up(self, model: ServedModel) -> bool:
        """Whether the model could answer now, without waiting for a worker's restart."""
        executor = self._executors.get(model.key)
        return executor is not None and executor.is_up(model.key)

    def trouble(self, model: ServedModel) -> str:
        """Why a loaded model cannot answer now."""
        executor = self._executors.get(model.key)
        return executor.trouble(model.key) if executor is not None else "it is not loaded"

    def begin_again(self, model: ServedModel) -> None:
        """Return a model that did not load to LOADING, under a new key."""
        model.key = self._new_key(model.settings)
        model.become(State.LOADING, model.reason)

    async def close(self) -> None:
        """Stop all executors and remove what was downloaded."""
        await self._placement.stop()
        for key in list(self._folders):
            self._remove_files(key)

    async def _load(self, model: ServedModel, predecessors: Iterable[ServedModel]) -> ModelMetadata:
        if model.settings.fault:
            raise InvalidModel(model.settings.fault)

        def report(progress: str) -> None:
            if progress and progress != model.reason:
                logger.info("%s", progress, extra=_fields(model))
            model.reason = progress
            for each in predecessors:
                each.reason = progress and f"a new load is under way: {progress}"

        async def load(kills: int) -> ModelMetadata:
            async with self._load_gate:
                return await self._load_where_placed(model, settings, kills)

        fetched = await self._despite_kills(lambda _: self._fetched(model, report), report)
        settings = await self._trusted(model, fetched)
        # Outside the gate: a build that takes minutes must not hold up models that load in seconds.
        executor = await self._despite_kills(
            lambda _: self._placement.place(model.key, settings, report), report
        )
        if model.alone:
            executor = self._placement.place_alone(model.key) or executor
        report("")
        self._executors[model.key] = executor
        metadata = await self._despite_kills(load, report)
        report("")
        return metadata

    async def _despite_kills(
        self, work: Callable[[int], Awaitable[T]], report: Callable[[str], None]
    ) -> T:
        """Do a part of a load, and again for as long as only something outside ends it.

        It is given how often that has happened. After --load-timeout, it is not done again.

        Raises:
            LoadKilled: it was ended until then.
        """
        retry: Retry | None = None
        while True:
            try:
                return await work(retry.failures if retry is not None else 0)
            except LoadKilled as exc:
                retry = retry or Retry()
                retry.failed(exc.message, exc.__cause__)
                if retry.due > retry.began + self._settings.load_timeout:
                    raise
                report(str(retry))
            await asyncio.sleep(retry.pause)

    async def _load_where_placed(
        self, model: ServedModel, settings: ModelSettings, kills: int
    ) -> ModelMetadata:
        """Load a model; one that ends the worker it shares gets one of its own."""
        try:
            return await self._executors[model.key].load(model.key, settings)
        except LoadOverdue:
            # The load may never end in this worker.
            model.alone = True
            raise
        except LoadFailed as exc:
            alone = None
            if _is_to_blame(exc.__cause__, kills, model.retry):
                model.alone = True
                alone = self._placement.place_alone(model.key)
            if alone is None:
                raise
        logger.warning(
            "a model ended the worker it shared; trying it in one of its own",
            extra=_fields(model),
        )
        self._executors[model.key] = alone
        return await alone.load(model.key, settings)

    async def _fetched(self, model: ServedModel, report: Callable[[str], None]) -> ModelSettings:
        """The settings of a model whose files are here."""
        timeout = self._settings.fetch_timeout
        async with self._fetch_gate if _is_remote(model.settings.uri) else nullcontext():
            is_followed = model.settings.follow is not None
            fetched = await artifacts.fetch(model.settings.uri, timeout, report, is_followed)
        if fetched.folder is not None:
            self._folders.setdefault(model.key, []).append(fetched.folder)
        if is_followed:
            model.origin = {"uri": model.settings.uri, **fetched.origin}
            told = ", ".join(f"{key} {value}" for key, value in model.origin.items())
            logger.info("fetched: %s", told, extra=_fields(model))
        settings, server = model.settings, self._settings
        return replace(
            settings,
            uri=fetched.path,
            max_concurrency=settings.max_concurrency or server.max_concurrency,
            max_answer_size=settings.max_answer_size or server.max_answer_size,
        )

    async def _trusted(self, model: ServedModel, settings: ModelSettings) -> ModelSettings:
        """The settings of a model that may be opened.

        Raises:
            LoadFailed: it may not, as `--trust` says.
        """
        level = self._settings.trust
        settings = replace(settings, trust=settings.trust if level == "any" else level)
        if settings.trust == "formats":
            await asyncio.to_thread(trust.check, settings)
        elif level == "any" and not is_loopback(self._settings.host):
            # What is wrong with its files is said when it is loaded.
            with suppress(HeadraceError, OSError):
                model.why_code = await asyncio.to_thread(trust.why_code, settings)
        elif self._verify is not None:
            place = artifacts.private_folder()
            self._folders.setdefault(model.key, []).append(place)
            return await asyncio.to_thread(signatures.verified, settings, self._verify, place)
        return settings

    async def _fail(self, model: ServedModel, reason: str) -> None:
        await self._release(model)
        model.become(State.UNAVAILABLE, reason)
        logger.error("model did not load: %s", reason, extra=_fields(model))

    async def _release(self, model: ServedModel) -> None:
        """Release what a model held: its executor, its placement and its download."""
        executor = self._executors.pop(model.key, None)
        if executor is not None:
            await executor.unload(model.key)
        await self._placement.leave(model.key)
        await asyncio.to_thread(self._remove_files, model.key)

    def _remove_files(self, key: str) -> None:
        for folder in self._folders.pop(key, ()):
            shutil.rmtree(folder, ignore_errors=True)

    def _serve(self, model: ServedModel, metadata: ModelMetadata) -> None:
        entry = catalog.find_by_alias(model.settings.implementation)
        if entry is not None:
            columns = [
                replace(output, shape=as_column(output.shape)) for output in metadata.outputs
            ]
            metadata = replace(
                metadata,
                of_mlserver=True,
                from_mlserver=True,
                content_typed=entry.mlserver_content_typed,
                outputs=columns,
            )
        model.model_metadata = metadata
        if metadata.from_mlserver:
            server = self._settings.server_name
            model.cloud_events = CloudEvents(model.name, server, cloud_events.namespace())
        raw = metadata.signature
        model.signature = model.scoring_signature = (
            Signature.parse(raw) if raw is not None else None
        )
        if (model.settings.scoring or self._settings.scoring) == "mlflow":
            model.scoring_signature = Signature.parse(raw or {}, model.pass_over)
        executor = self._executors[model.key]
        size = model.settings.max_batch_size
        if size is None:
            size = DEFAULT_MAX_BATCH_SIZE if metadata.row_independent else 1
        limits = BatchLimits(
            max_batch_size=max(1, size),
            max_batch_time=model.settings.max_batch_time,
            max_queue_size=self._settings.max_queue_size,
            max_queue_bytes=self._settings.max_queue_bytes,
            infer_timeout=model.infer_timeout,
            unbatched=frozenset(model.settings.unbatched),
            batch_sizes=model.settings.batch_sizes,
        )
        model.batcher = Batcher(
            partial(executor.infer, model.key),
            limits,
            executor.slots(model.key) * metadata.concurrency,
            executor.withdraw,
            partial(executor.infer_alone, model.key),
            counts=model.metrics.batching,
            begin=partial(executor.begin, model.key),
        )
        model.streamer = partial(executor.stream, model.key)
        model.become(State.READY)


def may_pass(error: HeadraceError) -> bool:
    """Whether a load failed for a reason outside of the model, so that it is worth another try."""
    return isinstance(error, (Exhausted, LoadKilled, Conflict)) and not isinstance(
        error, LoadOverdue
    )


def _is_remote(uri: str) -> bool:
    return is_uri(uri) and not uri.startswith("file:")


def _is_to_blame(cause: BaseException | None, kills: int, retry: Retry | None) -> bool:
    """Whether a failed load ended its worker; a kill from outside is not proof, but two are.

    `kills` is how many of them came before this one.
    """
    if not isinstance(cause, WorkerLost):
        return False
    return not cause.killed or kills > 0 or (retry is not None and retry.ended_worker)


async def _surely(work: Coroutine[Any, Any, None]) -> None:
    """Finish work that must not be left half done, even if this task is cancelled."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _fields(model: ServedModel) -> dict[str, str | None]:
    return {"model": model.name, "version": model.version}
