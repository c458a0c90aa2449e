"""`Model`, the base class of user models and of every runtime."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import cached_property, partial
from typing import Any

from headrace.codecs.arguments import Arguments
from headrace.codecs.registry import OUTPUT, chosen, encode_response
from headrace.errors import Unimplemented
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.settings import ModelSettings


class Model:
    """A model that can predict once it is loaded.

    Subclass it and write `predict`: the type hints in its signature decide how request tensors
    become arguments, and the type of the return value decides how the answer is encoded.
    `load` and `predict` may be plain functions or coroutines. All of it runs in a worker process.

    Set `row_independent = True` if each row of the answer depends only on the same row of the
    input; requests are then merged into batches. `decodes_scoring` is for runtimes that
    decode raw bodies of MLflow's scoring protocol themselves.
    """

    row_independent = False
    decodes_scoring = False
    platform = "python"

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings

    @property
    def _can_stream(self) -> bool:
        """Whether answers can be streamed; read once, after `load`."""
        own = type(self)
        return (
            own.predict_stream is not Model.predict_stream
            or own.infer_stream is not Model.infer_stream
        )

    def load(self) -> Any:
        """Prepare the model for predictions. Runs once, before the model is ready."""

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Answer one request or one merged batch."""
        raise NotImplementedError(f"{type(self).__name__} has no predict method")

    def predict_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Answer one request in pieces, as a generator or asynchronous generator.

        Takes its arguments as `predict` does. May run at the same time as `predict` and other
        streams.

        Raises:
            Unimplemented: unless overridden.
        """
        raise Unimplemented(f"model '{self.settings.name}' does not stream answers")

    def unload(self) -> Any:
        """Release what `load` acquired. Runs once, after the last request."""

    def metadata(self) -> ModelMetadata:
        """Describe the loaded model; called once, after `load`.

        Inputs and outputs are those of `model-settings.json`, or else are derived from the type
        hints of `predict`.

        Raises:
            LoadFailed: no codec supports a type in the signature of `predict`.
        """
        inputs = self._arguments.metadata()
        parameters = {}
        if self.settings.content_type:
            parameters["content_type"] = self.settings.content_type
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=declared(self.settings.inputs) or inputs,
            outputs=declared(self.settings.outputs) or self._arguments.outputs(),
            parameters=parameters,
            row_independent=self.row_independent,
        )

    def infer(self, request: InferenceRequest) -> Any:
        """Answer a request of tensors with an `InferenceResponse` (or an awaitable of one).

        Raises:
            InvalidInput: an input is missing, unknown, or does not fit the type of its parameter;
                or a requested output does not exist.
            BadModelOutput: what `predict` returned cannot be sent.
        """
        answer = self.predict(**self._arguments.bind(request))
        wanted = request.outputs
        if inspect.isawaitable(answer):
            return self._later(answer, wanted)
        return self._encode(answer, wanted)

    def infer_stream(self, request: InferenceRequest) -> Any:
        """The pieces of a streamed answer, as a plain or asynchronous generator.

        Raises:
            InvalidInput: an input is missing, unknown, or does not fit the type of its parameter.
            Unimplemented: the model has no `predict_stream`.
        """
        if type(self).predict_stream is Model.predict_stream:
            self.predict_stream()
        pieces = self.predict_stream(**Arguments(self.predict_stream).bind(request))
        encode = partial(self._encode, wanted=request.outputs)
        return _each_later(pieces, encode) if hasattr(pieces, "__anext__") else map(encode, pieces)

    async def _later(self, answer: Awaitable[Any], wanted: list[str] | None) -> InferenceResponse:
        return self._encode(await answer, wanted)

    def _encode(self, answer: Any, wanted: list[str] | None) -> InferenceResponse:
        names: list[str] = [row["name"] for row in self.settings.outputs]
        response = encode_response(answer, names[0] if names else OUTPUT, names or None)
        return chosen(response, wanted)

    @cached_property
    def _arguments(self) -> Arguments:
        return Arguments(self.predict)


async def _each_later(
    pieces: AsyncGenerator[Any, None], encode: Callable[[Any], InferenceResponse]
) -> AsyncGenerator[InferenceResponse, None]:
    try:
        async for piece in pieces:
            yield encode(piece)
    finally:
        await pieces.aclose()


def declared(rows: list[dict[str, Any]]) -> list[TensorMetadata]:
    """The metadata of inputs or outputs that `model-settings.json` declares."""
    return [
        TensorMetadata(
            row["name"],
            row.get("datatype", "BYTES"),
            list(row.get("shape", [-1])),
            dict(row.get("parameters") or {}),
        )
        for row in rows
    ]


__all__ = [
    "InferenceRequest",
    "InferenceResponse",
    "Model",
    "ModelMetadata",
    "ModelSettings",
    "declared",
]
