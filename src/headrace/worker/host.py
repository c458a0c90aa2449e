"""Holds loaded models and runs them; the part of a worker that knows nothing of sockets.

The inline executor uses the same host inside the server process.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sysconfig
import threading
import traceback
from collections.abc import Awaitable, Generator, Iterator
from dataclasses import replace
from typing import Any

from headrace import runtimes
from headrace.errors import (
    IN_LOG,
    AnswerTooLarge,
    HeadraceError,
    InvalidModel,
    LoadFailed,
    MemoryShort,
    ModelFailed,
    ModelNotReady,
    Poisoned,
    WorkerCrashed,
    load_failure,
    shorten,
)
from headrace.model import Model
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.protocol.mlflow.signature import SCORING
from headrace.protocol.reserved_parameters import BATCH_DIM
from headrace.runners.current_call import EndpointCall
from headrace.runtimes import batch_dimension
from headrace.runtimes.concurrent_model import ConcurrentModel, Finish, Put
from headrace.runtimes.loop_thread import LoopThread
from headrace.runtimes.scoring_body import as_request
from headrace.settings import ModelSettings
from headrace.worker.answer_size import require_size

logger = logging.getLogger("headrace.worker")

# Where code is that belongs to no model; what is made up at run time has a name in brackets.
INSTALLED = (
    "<",
    os.path.dirname(os.path.dirname(__file__)) + os.sep,
    *{sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")},
)


# Only the server can know these of a worker; a model that raises one has simply failed.
_OF_WORKERS = (WorkerCrashed, Poisoned)


class HostedModel:
    """One loaded model and the event loop its coroutines run on.

    The loop has a thread of its own if settings ask for several requests at once: coroutines then
    take turns on it, each awaited in the thread of its request.
    """

    def __init__(self, settings: ModelSettings, model: Model) -> None:
        self.settings = settings
        self.model = model
        self.inputs: list[TensorMetadata] = []
        self.concurrency = 1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: LoopThread | None = None
        self._lock = threading.Lock()

    def load(self) -> ModelMetadata:
        """Load the model; a failure leaves no event loop behind."""
        try:
            if self.run(self.model.load()) is False:
                raise LoadFailed(f"load() of model '{self.settings.name}' returned False")
            metadata = self.model.metadata()
            metadata = replace(
                metadata,
                streams=metadata.streams or self.model._can_stream,
                decodes_scoring=self.model.decodes_scoring,
                concurrency=self.settings.max_concurrency or metadata.concurrency,
            )
        except BaseException:
            self._close_loop()
            raise
        self.inputs, self.concurrency = metadata.inputs, metadata.concurrency
        return metadata

    def run(self, result: Any) -> Any:
        """Return a result, awaited on this model's own event loop if it is awaitable."""
        if not inspect.isawaitable(result):
            return result
        if (self.settings.max_concurrency or 1) > 1:
            return self._shared_loop().run(result)
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(_as_coroutine(result))

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """The model's answer."""
        response: InferenceResponse = self.run(self.model.infer(request))
        return response

    def pieces(self, request: InferenceRequest) -> Iterator[InferenceResponse]:
        """The pieces of a streamed answer, from a generator, plain or asynchronous."""
        pieces = self.model.infer_stream(request)
        if not hasattr(pieces, "__anext__"):
            yield from pieces
        elif (self.settings.max_concurrency or 1) > 1:
            yield from self._shared_loop().iterate(pieces)
        else:
            yield from _each(pieces)

    def close(self) -> None:
        """Free what the model holds."""
        try:
            self.run(self.model.unload())
        finally:
            self._close_loop()

    def _shared_loop(self) -> LoopThread:
        with self._lock:
            if self._loop_thread is None:
                self._loop_thread = LoopThread(f"loop of {self.settings.name}")
            return self._loop_thread

    def _close_loop(self) -> None:
        if self._loop is not None:
            self._loop.close()
        if self._loop_thread is not None:
            self._loop_thread.close()


class ModelHost:
    """Loads, runs and unloads models by key. Thread-safe across different keys.

    Loads and unloads of one key come from one thread at a time, and so do its calls, unless the
    model's metadata allows several.
    """

    def __init__(self) -> None:
        self._models: dict[str, HostedModel] = {}
        # The last failure of each model by name, whose stack trace is not shown again.
        self._shown: dict[str, str] = {}

    def load(self, key: str, settings: ModelSettings) -> ModelMetadata:
        """Create and load a model.

        Raises:
            LoadFailed: with the one-sentence reason; the traceback goes to the log.
        """
        # Importing what a model needs may take a minute.
        about = {"model": settings.name, "version": settings.version}
        logger.info("importing %s", shorten(settings.implementation), extra=about)
        try:
            hosted = HostedModel(settings, runtimes.create(settings))
            logger.info("loading, with the imports of its framework", extra=about)
            metadata = hosted.load()
        except HeadraceError as exc:
            if exc.__cause__ is not None:
                # The message states the kind of failure only; the cause is for the log.
                self._show(settings.name, exc)
            raise
        except ModuleNotFoundError as exc:
            self._show(settings.name, exc)
            raise InvalidModel(
                f"model '{settings.name}' needs the module '{shorten(exc.name)}', which is not "
                "installed"
            ) from exc
        except BaseException as exc:
            self._show(settings.name, exc)
            raise load_failure(
                f"model '{settings.name}' raised {type(exc).__name__} while loading; {IN_LOG}",
                exc,
            ) from exc
        self._models[key] = hosted
        self._shown.pop(settings.name, None)
        return metadata

    def _show(self, name: str, error: BaseException) -> None:
        """Log the stack trace of a failed load: once, and only if it says more than the error."""
        shown = "".join(traceback.format_exception_only(type(error), error))
        is_explained = (
            isinstance(error, InvalidModel)
            and not error.message.endswith(IN_LOG)
            and not _is_of_model(error.__cause__)
        )
        level = logging.DEBUG if is_explained or self._shown.get(name) == shown else logging.ERROR
        self._shown[name] = shown
        logger.log(level, "model %s failed to load", name, exc_info=error)

    def infer(self, key: str, request: InferenceRequest) -> InferenceResponse:
        """Answer one request or merged batch.

        Raises:
            ModelFailed: the model raised; the traceback goes to the log.
            HeadraceError: as raised by the runtime for bad input.
        """
        hosted = self._models.get(key)
        if hosted is None:
            raise ModelNotReady("the model is not loaded in this worker")
        try:
            if request.content_type == SCORING and not hosted.model.decodes_scoring:
                request = as_request(request, hosted.inputs)
            if request.parameters and BATCH_DIM in request.parameters:
                response = batch_dimension.infer(request, hosted.infer)
                return require_size(response, hosted.settings)
            response = require_size(hosted.infer(request), hosted.settings)
        except _OF_WORKERS as exc:
            raise _failure(hosted, request, exc) from exc
        except HeadraceError:
            raise
        except BaseException as exc:
            raise _failure(hosted, request, exc) from exc
        return response

    def concurrency(self, key: str) -> int:
        """How many calls of a loaded model may run at once, each in a thread of its own."""
        hosted = self._models.get(key)
        if hosted is None or isinstance(hosted.model, ConcurrentModel):
            return 1
        return hosted.concurrency

    def is_concurrent(self, key: str) -> bool:
        """Whether requests of the model are begun, several at once, instead of answered."""
        hosted = self._models.get(key)
        return hosted is not None and isinstance(hosted.model, ConcurrentModel)

    def loop(self, other_than: str = "") -> asyncio.AbstractEventLoop | None:
        """The event loop of a concurrent model, or None."""
        for key, hosted in list(self._models.items()):
            if isinstance(hosted.model, ConcurrentModel) and key != other_than:
                return hosted.model.loop
        return None

    def begin(
        self, key: str, request: InferenceRequest, call: EndpointCall, finish: Finish
    ) -> None:
        """Begin a request of a concurrent model; `finish` gets its answer or a `HeadraceError`."""
        model, finish_safely = self._concurrent(key, request, finish)
        model.begin(request, call, finish_safely)

    def begin_stream(
        self, key: str, request: InferenceRequest, call: EndpointCall, put: Put, finish: Finish
    ) -> None:
        """Begin a request of a concurrent model whose answer is `put` in pieces."""
        model, finish_safely = self._concurrent(key, request, finish)
        settings = self._models[key].settings

        async def put_checked(piece: InferenceResponse) -> None:
            await put(require_size(piece, settings))

        model.begin_stream(request, call, put_checked, finish_safely)

    def _concurrent(
        self, key: str, request: InferenceRequest, finish: Finish
    ) -> tuple[ConcurrentModel, Finish]:
        hosted = self._models[key]
        assert isinstance(hosted.model, ConcurrentModel), "the caller has asked"

        def finish_safely(outcome: Any) -> None:
            if isinstance(outcome, InferenceResponse):
                try:
                    require_size(outcome, hosted.settings)
                except AnswerTooLarge as error:
                    outcome = error
            if isinstance(outcome, BaseException) and (
                isinstance(outcome, _OF_WORKERS) or not isinstance(outcome, HeadraceError)
            ):
                outcome = _failure(hosted, request, outcome)
            finish(outcome)

        return hosted.model, finish_safely

    def stream(
        self, key: str, request: InferenceRequest
    ) -> Generator[InferenceResponse, None, None]:
        """The pieces of a streamed answer. May run alongside `infer` and other streams.

        Raises:
            Unimplemented: the model has no `predict_stream`.
            ModelFailed: the model raised; the traceback goes to the log.
        """
        hosted = self._models.get(key)
        if hosted is None:
            raise ModelNotReady("the model is not loaded in this worker")
        try:
            if request.content_type == SCORING and not hosted.model.decodes_scoring:
                request = as_request(request, hosted.inputs)
            for piece in hosted.pieces(request):
                yield require_size(piece, hosted.settings)
        except _OF_WORKERS as exc:
            raise _failure(hosted, request, exc) from exc
        except (HeadraceError, GeneratorExit):
            raise
        except BaseException as exc:
            raise _failure(hosted, request, exc) from exc

    def unload(self, key: str) -> None:
        """Forget a model and let it free what it holds. Unknown keys are fine.

        Raises:
            ModelFailed: the model raised while it freed what it held.
        """
        hosted = self._models.pop(key, None)
        if hosted is None:
            return
        try:
            hosted.close()
        except BaseException as exc:
            name = hosted.settings.name
            logger.exception("model %s failed to unload", name)
            raise ModelFailed(
                f"model '{name}' raised {type(exc).__name__} while unloading"
            ) from exc


def _is_of_model(error: BaseException | None) -> bool:
    """Whether the model's own code was running: neither ours nor that of an installed package."""
    if error is None:
        return False
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(not file.startswith(INSTALLED) for file in files)


def _failure(hosted: HostedModel, request: InferenceRequest, exc: BaseException) -> HeadraceError:
    """The error for the caller, even for SystemExit, which would leave them waiting otherwise."""
    settings = hosted.settings
    name = settings.name
    fields = {"model": name, "version": settings.version, "request_id": request.id}
    if settings.in_background:
        # The request has been answered, by another version and under the same id.
        fields["role"] = "shadow"
    logger.error("model %s failed", name, exc_info=exc, extra=fields)
    if isinstance(exc, MemoryError):
        limit = settings.memory_limit
        most = "" if limit is None else f" (memory_limit is {limit} bytes)"
        return MemoryShort(f"there was not enough memory for model '{name}' to answer{most}")
    return ModelFailed(f"model '{name}' failed on this request; {IN_LOG}")


def _each(pieces: Any) -> Iterator[InferenceResponse]:
    """Iterate over an asynchronous generator on a loop of its own, and close it in any case."""
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                yield loop.run_until_complete(_as_coroutine(pieces.__anext__()))
            except StopAsyncIteration:
                return
    finally:
        loop.run_until_complete(_as_coroutine(pieces.aclose()))
        loop.close()


async def _as_coroutine(result: Awaitable[Any]) -> Any:
    return await result
