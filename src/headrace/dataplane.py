"""The one door to the models: what every transport asks for, free of any transport."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from headrace import __version__
from headrace.errors import InvalidInput, NotFound, listing
from headrace.protocol.messages import InferenceRequest, InferenceResponse, TensorMetadata
from headrace.repository.repository import ModelRepository
from headrace.repository.served import ServedModel

NAME = "headrace"
EXTENSIONS = ["binary_tensor_data"]


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

    def __init__(self, repository: ModelRepository) -> None:
        self.repository = repository
        self.draining = False
        self.loaded = False

    def is_ready(self) -> bool:
        """Every configured model can answer, and the server is not draining."""
        return self.loaded and not self.draining and not self.not_ready()

    def not_ready(self) -> dict[str, str]:
        """The models that cannot answer now, each with its reason."""
        return {
            model.name: model.reason or str(model.state)
            for model in self.repository.models()
            if not self.repository.is_ready(model)
        }

    def model_ready(self, name: str, version: str | None = None) -> bool:
        """Whether one model can answer now.

        Raises:
            NotFound: nothing of that name or version is configured.
        """
        return self.repository.is_ready(self.repository.get(name, version))

    def server_metadata(self) -> dict[str, Any]:
        """Open Inference Protocol, "Server Metadata"."""
        return {"name": NAME, "version": __version__, "extensions": EXTENSIONS}

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

    def only_model(self) -> ServedModel:
        """The model meant when a request names none.

        Raises:
            NotFound: no model is served.
            InvalidInput: several are, and the message says where to ask instead.
        """
        names = sorted({model.name for model in self.repository.models()})
        if not names:
            raise NotFound("no model is served")
        if len(names) > 1:
            raise InvalidInput(
                f"several models are served ({listing(names)}); "
                "name one with /v2/models/{name}/invocations"
            )
        return self.repository.get(names[0])

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


def _tensor(tensor: TensorMetadata) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
    }
    if tensor.parameters:
        answer["parameters"] = tensor.parameters
    return answer
