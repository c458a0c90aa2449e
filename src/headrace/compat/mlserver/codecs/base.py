"""The codec classes that users extend, and the registry that finds them."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any, TypeVar, Union

from headrace.codecs.hints import expanded
from headrace.compat.mlserver.logging import logger
from headrace.compat.mlserver.types.dataplane import (
    InferenceRequest,
    InferenceResponse,
    RequestInput,
    ResponseOutput,
)


class InputCodec:
    """Converts one input or output to one Python value and back.

    A subclass sets `ContentType` and, to be found by annotation, `TypeHint`.
    """

    ContentType: str = ""
    TypeHint: Any = type(None)

    @classmethod
    def can_encode(cls, payload: Any) -> bool:
        """Whether the codec takes this value."""
        return isinstance(payload, cls.TypeHint)

    @classmethod
    def encode_output(cls, name: str, payload: Any, **kwargs: Any) -> ResponseOutput:
        """The value as an output."""
        raise NotImplementedError

    @classmethod
    def decode_output(cls, response_output: ResponseOutput) -> Any:
        """The value of an output."""
        raise NotImplementedError

    @classmethod
    def encode_input(cls, name: str, payload: Any, **kwargs: Any) -> RequestInput:
        """The value as an input."""
        raise NotImplementedError

    @classmethod
    def decode_input(cls, request_input: RequestInput) -> Any:
        """The value of an input."""
        raise NotImplementedError

    @classmethod
    def encode(cls, name: str, payload: Any) -> ResponseOutput:
        """The old name of `encode_output`."""
        return cls.encode_output(name, payload)

    @classmethod
    def decode(cls, request_input: RequestInput) -> Any:
        """The old name of `decode_input`."""
        return cls.decode_input(request_input)


class RequestCodec:
    """Converts a whole request or answer to one Python value and back."""

    ContentType: str = ""
    TypeHint: Any = type(None)

    @classmethod
    def can_encode(cls, payload: Any) -> bool:
        """Whether the codec takes this value."""
        return isinstance(payload, cls.TypeHint)

    @classmethod
    def encode_response(
        cls, model_name: str, payload: Any, model_version: str | None = None, **kwargs: Any
    ) -> InferenceResponse:
        """The value as an answer."""
        raise NotImplementedError

    @classmethod
    def decode_response(cls, response: InferenceResponse) -> Any:
        """The value of an answer."""
        raise NotImplementedError

    @classmethod
    def encode_request(cls, payload: Any, **kwargs: Any) -> InferenceRequest:
        """The value as a request."""
        raise NotImplementedError

    @classmethod
    def decode_request(cls, request: InferenceRequest) -> Any:
        """The value of a request."""
        raise NotImplementedError

    @classmethod
    def encode(
        cls, model_name: str, payload: Any, model_version: str | None = None
    ) -> InferenceResponse:
        """The old name of `encode_response`."""
        return cls.encode_response(model_name, payload, model_version)

    @classmethod
    def decode(cls, request: InferenceRequest) -> Any:
        """The old name of `decode_request`."""
        return cls.decode_request(request)


InputCodecLike = Union[type[InputCodec], InputCodec]
RequestCodecLike = Union[type[RequestCodec], RequestCodec]
_Codec = TypeVar("_Codec")


class _Registry:
    """Codecs by content type; the first registered wins if the content type is not given."""

    def __init__(self) -> None:
        self._codecs: dict[str, Any] = {}

    def register(self, codec: Any) -> None:
        known = self._codecs.get(codec.ContentType)
        if known is not None and _path(known) != _path(codec):
            logger.warning("content type '%s' has a new codec", codec.ContentType)
        self._codecs[codec.ContentType] = codec

    def find(
        self, content_type: str | None = None, payload: Any = None, type_hint: Any = None
    ) -> Any:
        if content_type:
            return self._codecs.get(content_type)
        if type_hint is not None:
            return self._first(lambda codec: matches(codec.TypeHint, type_hint))
        return self._first(lambda codec: codec.can_encode(payload))

    def _first(self, fits: Callable[[Any], bool]) -> Any:
        return next((codec for codec in self._codecs.values() if fits(codec)), None)


def _path(codec: Any) -> tuple[str, str]:
    cls = codec if isinstance(codec, type) else type(codec)
    return cls.__module__, cls.__qualname__


def matches(wanted: Any, hint: Any) -> bool:
    """Whether two annotations mean the same type: `List[str]` and `list[str]` do."""
    return bool(_normal(wanted) == _normal(hint))


def _normal(hint: Any) -> Any:
    hint = expanded(hint)
    origin = typing.get_origin(hint)
    if origin is None:
        cls = f"{getattr(hint, '__module__', '')}.{getattr(hint, '__name__', '')}"
        # The codec of DataFrames must not import pandas to know its own type.
        frame = cls.startswith("pandas.") and cls.endswith(".DataFrame")
        return "pandas.DataFrame" if frame else hint
    arguments = typing.get_args(hint)
    if origin.__module__ == "numpy":
        return origin
    if origin is Union:
        return Union, frozenset(map(_normal, arguments))
    return origin, tuple(map(_normal, arguments))


_inputs = _Registry()
_requests = _Registry()

find_input_codec = _inputs.find
find_request_codec = _requests.find


def find_input_codec_by_payload(payload: Any) -> Any:
    """The first input codec that takes this value, or None."""
    return _inputs.find(payload=payload)


def find_request_codec_by_payload(payload: Any) -> Any:
    """The first request codec that takes this value, or None."""
    return _requests.find(payload=payload)


def find_input_codec_by_type_hint(type_hint: Any) -> Any:
    """The input codec of an annotation, or None."""
    return _inputs.find(type_hint=type_hint)


def find_request_codec_by_type_hint(type_hint: Any) -> Any:
    """The request codec of an annotation, or None."""
    return _requests.find(type_hint=type_hint)


def register_input_codec(CodecKlass: _Codec) -> _Codec:
    """Register an input codec under its content type; also usable as a class decorator."""
    _inputs.register(CodecKlass)
    return CodecKlass


def register_request_codec(CodecKlass: _Codec) -> _Codec:
    """Register a request codec under its content type; also usable as a class decorator."""
    _requests.register(CodecKlass)
    return CodecKlass
