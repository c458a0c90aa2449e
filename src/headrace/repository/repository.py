"""The model repository: every model this server knows, by name and version."""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from headrace.batching.batcher import Batcher, BatchLimits
from headrace.errors import HeadraceError, NotFound, shorten
from headrace.executors.executor import Executor
from headrace.protocol.messages import ModelMetadata
from headrace.protocol.signature import Signature
from headrace.repository import artifacts
from headrace.repository.served import ServedModel, State
from headrace.settings import ModelSettings, ServerSettings

logger = logging.getLogger("headrace.repository")

# The batch size of models whose rows are independent and that do not say otherwise.
DEFAULT_MAX_BATCH_SIZE = 256


class ModelRepository:
    """Loads the configured models side by side and finds them by name and version."""

    def __init__(self, settings: ServerSettings, workers: Executor, inline: Executor) -> None:
        self._settings = settings
        self._workers = workers
        self._inline = inline
        self._models: dict[str, dict[str | None, ServedModel]] = {}
        self._keys = count(1)
        self._downloads: list[Path] = []

    async def load_all(self, configured: list[ModelSettings]) -> None:
        """Load every model; one that fails shows its reason and stops no other."""
        served = [self._add(settings) for settings in configured]
        await asyncio.gather(*(self._load(model) for model in served))

    def models(self) -> list[ServedModel]:
        """All models, sorted by name, oldest version first."""
        return [
            model
            for _, versions in sorted(self._models.items())
            for model in sorted(versions.values(), key=_version_order)
        ]

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """The model of that name; without a version the un-versioned or the highest one.

        Raises:
            NotFound: nothing of that name or version is configured.
        """
        versions = self._models.get(name)
        if not versions:
            raise NotFound(f"model '{shorten(name)}' not found")
        if version is None:
            if len(versions) == 1:
                return next(iter(versions.values()))
            return max(versions.values(), key=_version_order)
        found = versions.get(version)
        if found is None:
            raise NotFound(f"model '{shorten(name)}' has no version '{shorten(version)}'")
        return found

    def versions(self, name: str) -> list[str]:
        """The versions of a model, oldest first."""
        served = sorted(self._models.get(name, {}).values(), key=_version_order)
        return [model.version for model in served if model.version is not None]

    def is_ready(self, model: ServedModel) -> bool:
        """Loaded, and with a live worker."""
        return model.state is State.READY and self._executor(model).is_up(model.key)

    async def drain(self) -> None:
        """Wait until no request waits or runs."""
        batchers = [model.batcher for model in self.models() if model.batcher is not None]
        await asyncio.gather(*(batcher.drain() for batcher in batchers))

    async def close(self) -> None:
        """Stop all executors and remove what was downloaded."""
        await asyncio.gather(self._workers.stop(), self._inline.stop())
        for folder in self._downloads:
            shutil.rmtree(folder, ignore_errors=True)

    def _add(self, settings: ModelSettings) -> ServedModel:
        model = ServedModel(
            settings,
            key=f"{settings.name}#{next(self._keys)}",
            infer_timeout=settings.infer_timeout or self._settings.infer_timeout,
        )
        self._models.setdefault(settings.name, {})[settings.version] = model
        return model

    async def _load(self, model: ServedModel) -> None:
        started = asyncio.get_running_loop().time()
        fields = {"model": model.name, "version": model.version}
        try:
            uri, download = await artifacts.fetch(model.settings.uri)
            if download is not None:
                self._downloads.append(download)
            settings = replace(model.settings, uri=uri)
            metadata = await self._executor(model).load(model.key, settings)
        except HeadraceError as exc:
            model.become(State.UNAVAILABLE, exc.message)
            logger.error("model did not load: %s", exc.message, extra=fields)
            return
        except Exception:
            model.become(State.UNAVAILABLE, "the server failed while loading it")
            logger.exception("model did not load; this is a bug", extra=fields)
            return
        self._serve(model, metadata)
        seconds = round(asyncio.get_running_loop().time() - started, 3)
        logger.info("model is ready", extra={**fields, "seconds": seconds})

    def _serve(self, model: ServedModel, metadata: ModelMetadata) -> None:
        model.model_metadata = metadata
        if metadata.signature is not None:
            model.signature = Signature.parse(metadata.signature)
        executor = self._executor(model)
        size = model.settings.max_batch_size
        if size is None:
            size = DEFAULT_MAX_BATCH_SIZE if metadata.row_independent else 1
        limits = BatchLimits(
            max_batch_size=max(1, size),
            max_batch_time=model.settings.max_batch_time,
            max_queue_size=self._settings.max_queue_size,
            max_queue_bytes=self._settings.max_queue_bytes,
            infer_timeout=model.infer_timeout,
        )
        model.batcher = Batcher(
            partial(executor.infer, model.key),
            limits,
            executor.slots(model.key),
            executor.withdraw,
        )
        model.become(State.READY)

    def _executor(self, model: ServedModel) -> Executor:
        inline = model.settings.inline or self._settings.parallel_workers <= 0
        return self._inline if inline else self._workers


def _version_order(model: ServedModel) -> tuple[bool, bool, int, str]:
    """Un-versioned last, so that it is the default; numbers in numeric order above words."""
    version = model.version
    if version is None:
        return (True, False, 0, "")
    number = int(version) if version.isascii() and version.isdigit() else 0
    return (False, version.isdigit(), number, version)
