"""Finds and runs the codec of an input, output, request or answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

from headrace.compat.mlserver.codecs.base import (
    InputCodecLike,
    RequestCodec,
    RequestCodecLike,
    find_input_codec,
    find_request_codec,
)
from headrace.compat.mlserver.codecs.errors import CodecError
from headrace.compat.mlserver.settings import ModelSettings
from headrace.compat.mlserver.types.dataplane import (
    DECODED,
    InferenceRequest,
    InferenceResponse,
    MetadataTensor,
    Parameters,
    RequestInput,
    RequestOutput,
    ResponseOutput,
)
from headrace.protocol.tensor import as_column

Parametrised = Union[
    InferenceRequest, RequestInput, RequestOutput, ResponseOutput, InferenceResponse
]
InputOrOutput = Union[RequestInput, ResponseOutput]
Codec = Union[InputCodecLike, RequestCodecLike]
DecodedParameterName = DECODED
inject_batch_dimension = as_column
DefaultOutputPrefix = "output-"
DefaultInputPrefix = "input-"
_Nothing = Parameters()
_NONE: Mapping[str, MetadataTensor] = {}


def content_type_of(item: Any, metadata: Any = None) -> str | None:
    """The content type that an object names, else the one that its metadata names."""
    for source in (item, metadata):
        parameters = getattr(source, "parameters", None)
        if parameters is not None and parameters.content_type:
            return str(parameters.content_type)
    return None


def save_decoded(item: Parametrised, value: Any) -> None:
    """Keep the decoded value with the object, where `get_decoded` finds it."""
    if item.parameters is None:
        item.parameters = Parameters()
    setattr(item.parameters, DecodedParameterName, value)


def has_decoded(parametrised_obj: Parametrised) -> bool:
    """Whether a codec has decoded the object."""
    return DecodedParameterName in vars(parametrised_obj.parameters or _Nothing)


def get_decoded(parametrised_obj: Parametrised) -> Any:
    """What a codec has made of the object, or None."""
    return getattr(parametrised_obj.parameters, DecodedParameterName, None)


def get_decoded_or_raw(parametrised_obj: Parametrised) -> Any:
    """What a codec has made of the object, or its data, or the object itself."""
    if has_decoded(parametrised_obj):
        return get_decoded(parametrised_obj)
    return getattr(parametrised_obj, "data", parametrised_obj)


def decode_request_input(
    request_input: RequestInput, metadata_inputs: Mapping[str, MetadataTensor] = _NONE
) -> Any:
    """Decode and keep one input whose content type has a codec; None otherwise."""
    kind = content_type_of(request_input, metadata_inputs.get(request_input.name))
    codec = find_input_codec(kind) if kind else None
    if codec is None:
        return None
    value = codec.decode_input(request_input)
    save_decoded(request_input, value)
    return value


def decode_inference_request(
    inference_request: InferenceRequest,
    model_settings: ModelSettings | None = None,
    metadata_inputs: Mapping[str, MetadataTensor] = _NONE,
) -> Any:
    """Decode and keep each input, then the request; the request itself if it names no codec."""
    for request_input in inference_request.inputs:
        decode_request_input(request_input, metadata_inputs)
    kind = content_type_of(inference_request, model_settings)
    codec = find_request_codec(kind) if kind else None
    if codec is None:
        return inference_request
    value = codec.decode_request(inference_request)
    save_decoded(inference_request, value)
    return value


def encode_response_output(
    payload: Any,
    request_output: RequestOutput,
    metadata_outputs: Mapping[str, MetadataTensor] = _NONE,
) -> ResponseOutput | None:
    """The value as an output, by the content type asked for or by its own type."""
    kind = content_type_of(request_output, metadata_outputs.get(request_output.name))
    codec = find_input_codec(kind) if kind else find_input_codec(payload=payload)
    if codec is None:
        return None
    output: ResponseOutput = codec.encode_output(name=request_output.name, payload=payload)
    return output


def encode_inference_response(
    payload: Any, model_settings: ModelSettings
) -> InferenceResponse | None:
    """The value as an answer, by its type."""
    codec = find_request_codec(payload=payload)
    if codec is None:
        return None
    response: InferenceResponse = codec.encode_response(
        model_settings.name, payload, model_settings.version
    )
    return response


class SingleInputRequestCodec(RequestCodec):
    """Makes a request codec from an input codec: the request has exactly one input."""

    InputCodec: InputCodecLike | None = None

    @classmethod
    def can_encode(cls, payload: Any) -> bool:
        return cls.InputCodec is not None and cls.InputCodec.can_encode(payload)

    @classmethod
    def encode_response(
        cls, model_name: str, payload: Any, model_version: str | None = None, **kwargs: Any
    ) -> InferenceResponse:
        output = cls._codec().encode_output(f"{DefaultOutputPrefix}1", payload, **kwargs)
        return InferenceResponse(
            model_name=model_name,
            model_version=model_version,
            parameters=Parameters(content_type=cls.ContentType),
            outputs=[output],
        )

    @classmethod
    def decode_response(cls, response: InferenceResponse) -> Any:
        item = cls._only(response.outputs, "output")
        if not has_decoded(item):
            save_decoded(item, cls._codec().decode_output(item))
        return get_decoded(item)

    @classmethod
    def encode_request(cls, payload: Any, **kwargs: Any) -> InferenceRequest:
        return InferenceRequest(
            inputs=[cls._codec().encode_input(f"{DefaultInputPrefix}1", payload, **kwargs)],
            parameters=Parameters(content_type=cls.ContentType),
        )

    @classmethod
    def decode_request(cls, request: InferenceRequest) -> Any:
        item = cls._only(request.inputs, "input")
        if not has_decoded(item):
            save_decoded(item, cls._codec().decode_input(item))
        return get_decoded(item)

    @classmethod
    def _codec(cls) -> InputCodecLike:
        if cls.InputCodec is None:
            raise NotImplementedError(f"{cls.__name__} has no input codec")
        return cls.InputCodec

    @classmethod
    def _only(cls, items: list[Any], what: str) -> Any:
        if len(items) != 1:
            raise CodecError(
                f"The '{cls.ContentType}' codec only supports a single {what} tensor "
                f"({len(items)} were received)"
            )
        return items[0]
