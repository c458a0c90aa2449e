"""The one door to the models: what every transport asks for, free of any transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from ipaddress import ip_address
from time import perf_counter
from typing import Any

from headrace import __version__
from headrace.errors import (
    Forbidden,
    InvalidInput,
    ModelNotReady,
    NotFound,
    ShuttingDown,
    Unimplemented,
    listing,
)
from headrace.protocol.messages import InferenceRequest, InferenceResponse, TensorMetadata
from headrace.repository.repository import ModelRepository
from headrace.repository.served import ServedModel, State
from headrace.settings import ServerSettings

EXTENSIONS = ["binary_tensor_data", "model_repository"]


@dataclass(slots=True)
class Call:
    """One running inference: cancel `future` to withdraw it."""

    model: ServedModel
    future: asyncio.Future[InferenceResponse]
    started: float


class DataPlane:
    """Health, metadata and inference over the models of a repository.

    Errors are `HeadraceError`s; each transport translates their kinds by its own table.
    """

    def __init__(self, repository: ModelRepository, settings: ServerSettings) -> None:
        self.repository = repository
        self.settings = settings
        self.draining = False
        self.loaded = False

    def is_ready(self) -> bool:
        """Every configured model can answer, and the server is not draining."""
        return self.loaded and not self.draining and not self.not_ready()

    def not_ready(self) -> dict[str, str]:
        """The models that cannot answer now, each with its reason."""
        return {
            model.name: self._reason(model)
            for model in self.repository.models()
            if model.wanted and not self.repository.is_ready(model)
        }

    def why_not_ready(self, name: str, version: str | None = None) -> str:
        """Why one model cannot answer now.

        Raises:
            NotFound: nothing of that name or version is configured.
        """
        return self._reason(self.repository.get(name, version))

    def model_ready(self, name: str, version: str | None = None) -> bool:
        """Whether one model can answer now.

        Raises:
            NotFound: nothing of that name or version is configured.
        """
        return self.repository.is_ready(self.repository.get(name, version))

    def server_metadata(self) -> dict[str, Any]:
        """Open Inference Protocol, "Server Metadata"."""
        settings = self.settings
        return {
            "name": settings.server_name,
            "version": settings.server_version or __version__,
            "extensions": list(dict.fromkeys([*EXTENSIONS, *settings.extensions])),
        }

    def model_metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Open Inference Protocol, "Model Metadata".

        Raises:
            NotFound: nothing of that name or version is configured.
        """
        model = self.repository.get(name, version)
        metadata = model.model_metadata
        answer: dict[str, Any] = {
            "name": model.name,
            "versions": self.repository.versions(name),
            "platform": model.settings.platform or metadata.platform,
            "inputs": [_tensor(tensor) for tensor in metadata.inputs],
            "outputs": [_tensor(tensor) for tensor in metadata.outputs],
        }
        if metadata.parameters:
            answer["parameters"] = metadata.parameters
        return answer

    def index(self, ready: bool = False) -> list[dict[str, str]]:
        """Every model that is known, or that can answer now: name, version, state, reason.

        Implements "index" of the model repository extension.
        """
        entries = []
        for model in self.repository.models():
            can_answer = self.repository.is_ready(model)
            if ready and not can_answer:
                continue
            # One that answers may show how far its next load is.
            state, reason = model.state, model.reason
            if not can_answer and state in (State.READY, State.UNAVAILABLE):
                state, reason = State.UNAVAILABLE, self._reason(model)
            entries.append(
                {
                    "name": model.name,
                    "version": model.version or "",
                    "state": str(state),
                    "reason": reason,
                }
            )
        return entries

    async def load(self, name: str, parameters: Any = None) -> None:
        """Load a model anew from disk, or for the first time; the old load answers until then.

        Implements "load" of the model repository extension.

        Raises:
            Forbidden: the operation is switched off.
            Unimplemented: there are `parameters`, settings or files that came with the request.
            NotFound, Conflict, LoadFailed: see `ModelRepository.load`.
        """
        self._require_repository_api()
        if parameters:
            raise Unimplemented(
                "parameters: a model is loaded as its folder describes it; "
                "settings and files inside the request are not taken"
            )
        await self.repository.load(name)

    async def unload(self, name: str) -> None:
        """Finish the requests of a model and free it.

        Implements "unload" of the model repository extension.

        Raises:
            Forbidden: the operation is switched off.
            NotFound, Conflict: see `ModelRepository.unload`.
        """
        self._require_repository_api()
        await self.repository.unload(name)

    def _reason(self, model: ServedModel) -> str:
        if model.state is State.READY:
            return self.repository.trouble(model)
        return model.why_not_ready()

    def _require_repository_api(self) -> None:
        if not _allows_repository_api(self.settings):
            raise Forbidden(
                "loading and unloading are switched off on this server; "
                "--allow-repository-api switches them on"
            )
        if self.draining:
            raise ShuttingDown("the server is draining")

    def only_model(self) -> ServedModel:
        """The model meant when a request names none.

        Raises:
            NotFound: no model is served.
            InvalidInput: several are, and the message says where to ask instead.
        """
        names = sorted({model.name for model in self.repository.models() if model.wanted})
        if not names:
            raise NotFound("no model is served")
        if len(names) > 1:
            raise InvalidInput(
                f"several models are served ({listing(names)}); "
                "name one with /v2/models/{name}/invocations"
            )
        return self.repository.get(names[0])

    def only_plugin(self) -> ServedModel:
        """The plugin meant when a request names none; other models do not count.

        Raises:
            NotFound: no plugin is served.
            ModelNotReady: none is yet, but a model that may be one is still to be loaded.
            InvalidInput: several are, and the message says where to ask instead.
        """
        models = [model for model in self.repository.models() if model.wanted]
        names = sorted({m.name for m in models if m.model_metadata.payload_type is not None})
        if len(names) > 1:
            raise InvalidInput(
                f"several plugins are served ({listing(names)}); name one with "
                "/v2/models/{name}/raw"
            )
        if names:
            return self.repository.get(names[0])
        for model in models:
            if model.state is not State.READY:
                raise ModelNotReady(f"model '{model.name}' is not ready: {self._reason(model)}")
        raise NotFound("no plugin is served")

    def start(
        self, model: ServedModel, request: InferenceRequest, timeout: float | None = None
    ) -> Call:
        """Queue a request. Follow with `finish`. Hot.

        Raises:
            ModelNotReady, InvalidInput, Overloaded: see `ServedModel.submit`.
        """
        started = perf_counter()
        try:
            return Call(model, model.submit(request, timeout), started)
        except Exception:
            model.metrics.failures += 1
            raise

    def finish(self, call: Call) -> InferenceResponse:
        """The answer of a call whose future is done. Hot.

        Raises:
            asyncio.CancelledError: the call was withdrawn because the caller left.
            HeadraceError: what the model, its worker or its deadline raised.
        """
        metrics = call.model.metrics
        try:
            response = call.future.result()
        except BaseException:
            metrics.failures += 1
            raise
        metrics.successes += 1
        metrics.duration.observe(perf_counter() - call.started)
        return response

    async def stream(
        self, model: ServedModel, request: InferenceRequest, timeout: float | None = None
    ) -> AsyncGenerator[InferenceResponse, None]:
        """The pieces of a streamed answer; closing the generator withdraws the request.

        Raises:
            HeadraceError: see `ServedModel.stream`; also in the middle, when the model fails.
        """
        started = perf_counter()
        metrics = model.metrics
        try:
            async with aclosing(model.stream(request, timeout)) as pieces:
                async for piece in pieces:
                    yield piece
        except BaseException:
            metrics.failures += 1
            raise
        metrics.successes += 1
        metrics.duration.observe(perf_counter() - started)


def _allows_repository_api(settings: ServerSettings) -> bool:
    """Whoever reaches this machine over the network may not change what it serves unless told."""
    if settings.allow_repository_api is not None:
        return settings.allow_repository_api
    if settings.host == "localhost":
        return True
    try:
        return ip_address(settings.host).is_loopback
    except ValueError:
        return False


def _tensor(tensor: TensorMetadata) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
    }
    if tensor.parameters:
        answer["parameters"] = tensor.parameters
    return answer
