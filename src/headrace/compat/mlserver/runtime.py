"""Serves a runtime that was written against MLServer's API."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from headrace.compat.mlserver import types
from headrace.compat.mlserver.context import model_context
from headrace.compat.mlserver.errors import MLServerError
from headrace.compat.mlserver.routes import Routes
from headrace.compat.mlserver.settings import ModelSettings as TheirSettings
from headrace.compat.mlserver.tensors import described_as, tensor_of
from headrace.compat.mlserver.types.base import reason
from headrace.errors import BadModelOutput, HeadraceError, InvalidInput
from headrace.model import Model, declared
from headrace.protocol.error_table import MODELS_OWN
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.protocol.model_call import from_request, to_response
from headrace.settings import ModelSettings

SETTINGS_FILE = "model-settings.json"


class MLServerRuntime(Model):
    """The `Model` around one instance of a user's `MLModel` subclass."""

    platform = "mlserver"

    def __init__(self, settings: ModelSettings, cls: Any) -> None:
        super().__init__(settings)
        self._context = their_settings(settings)
        self.inner = cls(self._context)

    async def load(self) -> Any:
        """Load the user's model; False when it says that it is not ready."""
        with model_context(self._context):
            ready = await _finished(self.inner.load())
        # A load that returns nothing is taken to have succeeded.
        self.inner.ready = ready is None or bool(ready)
        self._routes = Routes(self.inner)
        return self.inner.ready

    async def unload(self) -> None:
        """Let the user's model free what it allocated."""
        await _finished(self.inner.unload())
        self.inner.ready = False

    def metadata(self) -> ModelMetadata:
        """The inputs and outputs as declared, or as `load` set them."""
        settings = self.settings
        return ModelMetadata(
            platform=settings.platform or self.platform,
            inputs=declared([tensor.model_dump() for tensor in self.inner.inputs or []]),
            outputs=declared([tensor.model_dump() for tensor in self.inner.outputs or []]),
            parameters={"content_type": settings.content_type} if settings.content_type else {},
            takes_headers=True,
            from_mlserver=True,
            routes=self._routes.declared,
        )

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer a request through the user's `predict`, or the handler of a custom route.

        Raises:
            NotFound, InvalidInput, BadModelOutput: see `Routes.answer`.
            HeadraceError: the runtime raised an `MLServerError`; see `_translated`.
            BadModelOutput: the answer cannot be sent.
        """
        call = from_request(request)
        with model_context(self._context):
            if call is not None:
                return to_response(await self._routes.answer(*call))
            try:
                answer = await _finished(self.inner.predict(their_request(request)))
            except MLServerError as error:
                raise _translated(error) from error
        return own_response(answer)

    async def infer_stream(self, request: InferenceRequest) -> AsyncIterator[InferenceResponse]:
        """The pieces that the user's `predict_stream` yields for this request.

        Raises:
            HeadraceError: as `infer`.
            BadModelOutput: a piece cannot be sent.
        """
        pieces = self.inner.predict_stream(_only(their_request(request)))
        try:
            while True:
                # Set for each piece: between two of them, other code runs.
                with model_context(self._context):
                    piece = await pieces.__anext__()
                yield own_response(piece)
        except StopAsyncIteration:
            return
        except MLServerError as error:
            raise _translated(error) from error
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()


async def _finished(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def _only(request: types.InferenceRequest) -> AsyncIterator[types.InferenceRequest]:
    yield request


def _translated(error: MLServerError) -> Exception:
    cls = MODELS_OWN.get(error.status_code)
    if cls is None and 400 <= error.status_code < 500:
        cls = InvalidInput
    if cls is not None:
        return cls(str(error))
    # Not one of our errors: the worker logs it, and the caller only learns that the model failed.
    return RuntimeError(f"the runtime answered with status {error.status_code}")


def their_request(request: InferenceRequest) -> types.InferenceRequest:
    """The request in MLServer's API; numbers stay in a buffer until they are asked for.

    Raises:
        InvalidInput: a parameter that the API knows is of the wrong type.
    """
    try:
        return _request(request)
    except ValueError as error:
        raise InvalidInput(reason(error)) from error


def _request(request: InferenceRequest) -> types.InferenceRequest:
    context = request.context or {}
    as_bytes = bool(context.get("bytes"))
    made = types.InferenceRequest(
        inputs=[described_as(types.RequestInput, tensor, as_bytes) for tensor in request.inputs]
    )
    if request.id:
        made.id = request.id
    parameters = dict(request.parameters or {})
    if "headers" in context:
        parameters["headers"] = context["headers"]
    if parameters:
        made.parameters = types.Parameters.model_validate(parameters)
    if request.outputs is not None:
        made.outputs = [types.RequestOutput(name=name) for name in request.outputs]
    return made


def own_response(answer: Any) -> InferenceResponse:
    """The answer of a runtime as tensors.

    Raises:
        BadModelOutput: it is not an `InferenceResponse`, or an output does not match its shape
            or datatype.
    """
    if not isinstance(answer, types.InferenceResponse):
        raise BadModelOutput(
            f"predict returned {type(answer).__name__}, expected mlserver.types.InferenceResponse"
        )
    # Never without: clients of MLServer read `answer["parameters"]`.
    parameters = answer.parameters.model_dump() if answer.parameters is not None else {}
    try:
        return InferenceResponse([tensor_of(output) for output in answer.outputs], parameters)
    except BadModelOutput:
        raise
    except HeadraceError as error:
        # A shape or datatype that is wrong in an answer is not the caller's mistake.
        raise BadModelOutput(error.message) from error


def their_settings(settings: ModelSettings) -> TheirSettings:
    """The settings in MLServer's API, with the keys that only the settings file has."""
    written = _written(settings.folder)
    parameters = written.get("parameters")
    made = TheirSettings(
        **{
            **{key: value for key, value in written.items() if key in TheirSettings.FIELDS},
            "implementation": settings.implementation,
            "name": settings.name,
            "platform": settings.platform,
            "inputs": settings.inputs,
            "outputs": settings.outputs,
            "max_batch_size": settings.max_batch_size or 0,
            "max_batch_time": settings.max_batch_time,
            "parameters": {
                **(parameters if isinstance(parameters, dict) else {}),
                "uri": settings.uri or None,
                "version": settings.version,
                "content_type": settings.content_type,
                "extra": settings.extra,
            },
        }
    )
    if settings.folder:
        made._source = os.path.join(settings.folder, SETTINGS_FILE)
    return made


def _written(folder: str) -> dict[str, Any]:
    """The settings file itself: its `parameters` may hold keys that only the runtime knows."""
    try:
        with open(os.path.join(folder, SETTINGS_FILE), "rb") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
