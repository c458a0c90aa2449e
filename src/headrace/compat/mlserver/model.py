"""`MLModel`, the class that custom runtimes extend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from headrace.compat.mlserver.codecs.base import InputCodecLike, RequestCodecLike
from headrace.compat.mlserver.codecs.errors import CodecNotFound
from headrace.compat.mlserver.codecs.utils import (
    decode_inference_request,
    decode_request_input,
    encode_inference_response,
    encode_response_output,
    get_decoded,
    has_decoded,
)
from headrace.compat.mlserver.runtime import MLServerRuntime
from headrace.compat.mlserver.settings import ModelSettings
from headrace.compat.mlserver.types.dataplane import (
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataTensor,
    Parameters,
    RequestInput,
    RequestOutput,
    ResponseOutput,
)
from headrace.settings import ModelSettings as OwnSettings


class MLModel:
    """A runtime written against MLServer's API: override `load` and `predict`."""

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self.ready = False

    @classmethod
    def from_settings(cls, settings: OwnSettings) -> MLServerRuntime:
        """The `Model` that serves this class."""
        return MLServerRuntime(settings, cls)

    async def load(self) -> bool:
        """Make the model able to predict; returns True when it is."""
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request or one merged batch."""
        raise NotImplementedError("predict() method not implemented")

    async def predict_stream(
        self, payloads: AsyncIterator[InferenceRequest]
    ) -> AsyncIterator[InferenceResponse]:
        """Answer in pieces; unless overridden, the answer of `predict` is the only piece."""
        async for payload in payloads:
            yield await self.predict(payload)
            break

    async def unload(self) -> bool:
        """Free what `load` allocated."""
        return True

    async def metadata(self) -> MetadataModelResponse:
        """Describe the model."""
        settings = self._settings
        written = settings.parameters
        parameters = Parameters(content_type=written.content_type) if written else None
        return MetadataModelResponse(
            name=self.name,
            platform=settings.platform,
            versions=settings.versions,
            inputs=settings.inputs,
            outputs=settings.outputs,
            parameters=parameters,
        )

    @property
    def name(self) -> str:
        """The model's name."""
        return self._settings.name

    @property
    def version(self) -> str | None:
        """The model's version, if its settings have one."""
        return self._settings.version

    @property
    def settings(self) -> ModelSettings:
        """The model's settings."""
        return self._settings

    @property
    def inputs(self) -> list[MetadataTensor]:
        """The inputs as declared; `load` may set them."""
        return self._settings.inputs

    @inputs.setter
    def inputs(self, value: list[MetadataTensor]) -> None:
        self._settings.inputs = value

    @property
    def outputs(self) -> list[MetadataTensor]:
        """The outputs as declared; `load` may set them."""
        return self._settings.outputs

    @outputs.setter
    def outputs(self, value: list[MetadataTensor]) -> None:
        self._settings.outputs = value

    def decode(
        self, request_input: RequestInput, default_codec: InputCodecLike | None = None
    ) -> Any:
        """An input as a Python value: by its content type, its metadata, or `default_codec`."""
        decode_request_input(request_input, _by_name(self.inputs))
        if has_decoded(request_input):
            return get_decoded(request_input)
        return default_codec.decode_input(request_input) if default_codec else request_input.data

    def decode_request(
        self, inference_request: InferenceRequest, default_codec: RequestCodecLike | None = None
    ) -> Any:
        """A request as a Python value: by its content type, the settings, or `default_codec`."""
        decode_inference_request(inference_request, self._settings, _by_name(self.inputs))
        if has_decoded(inference_request):
            return get_decoded(inference_request)
        if default_codec:
            return default_codec.decode_request(inference_request)
        return inference_request

    def encode_response(
        self, payload: Any, default_codec: RequestCodecLike | None = None
    ) -> InferenceResponse:
        """A Python value as an answer: by its type, or `default_codec`.

        Raises:
            CodecNotFound: no codec takes the value.
        """
        response = encode_inference_response(payload, self._settings)
        if response is not None:
            return response
        if default_codec:
            return default_codec.encode_response(self.name, payload, self.version)
        raise CodecNotFound(payload_type=str(type(payload)), is_request=True)

    def encode(
        self,
        payload: Any,
        request_output: RequestOutput,
        default_codec: InputCodecLike | None = None,
    ) -> ResponseOutput:
        """A Python value as an output: by the content type asked for, its type, or the default.

        Raises:
            CodecNotFound: no codec takes the value.
        """
        output = encode_response_output(payload, request_output, _by_name(self.outputs))
        if output is not None:
            return output
        if default_codec:
            return default_codec.encode_output(request_output.name, payload)
        raise CodecNotFound(name=request_output.name)


def _by_name(tensors: list[MetadataTensor] | None) -> dict[str, MetadataTensor]:
    return {tensor.name: tensor for tensor in tensors or []}
