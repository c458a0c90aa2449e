"""`decode_args`: the annotations of `predict` choose the codecs."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

from headrace.codecs.hints import expanded
from headrace.compat.mlserver.codecs.base import (
    RequestCodec,
    find_input_codec,
    find_request_codec,
)
from headrace.compat.mlserver.codecs.errors import CodecNotFound, InputsNotFound, OutputNotFound
from headrace.compat.mlserver.codecs.utils import DefaultOutputPrefix
from headrace.compat.mlserver.errors import InferenceError
from headrace.compat.mlserver.types.dataplane import (
    InferenceRequest,
    InferenceResponse,
    ResponseOutput,
)
from headrace.errors import listing


def decode_args(predict: Callable[..., Any]) -> Callable[..., Any]:
    """Let a `predict` take one argument for each input and return plain Python values.

    Inputs are found by name; an argument that is a DataFrame takes all that are left. Outputs
    are named `output-0`, `output-1`, those of a DataFrame after its columns.

    Raises:
        CodecNotFound: no codec handles an annotation.
    """
    codec = SignatureCodec(predict)

    @functools.wraps(predict)
    async def answer(self: Any, request: InferenceRequest) -> InferenceResponse:
        result = predict(self, **codec.decode_request(request))
        if inspect.isawaitable(result):
            result = await result
        return codec.encode_response(self.name, result, self.version)

    return answer


class SignatureCodec:
    """The codecs of one function's arguments and results."""

    def __init__(self, predict: Callable[..., Any]) -> None:
        written = typing.get_type_hints(predict)
        hints = {name: _unwrap(hint) for name, hint in written.items()}
        self._may_be_none = hints.get("return") is not written.get("return")
        returned = hints.pop("return", None)
        self._output_hints = _each(returned)
        self._input_codecs = {name: _codec(hint, name, True) for name, hint in hints.items()}
        self._output_codecs = [_codec(hint, None, False) for hint in self._output_hints]
        self._whole = next((name for name in hints if _is_whole(self._input_codecs[name])), None)
        parameters = inspect.signature(predict).parameters
        self._required = [
            name for name in hints if parameters[name].default is inspect.Parameter.empty
        ]

    def decode_request(self, request: InferenceRequest) -> dict[str, Any]:
        """Keyword arguments.

        Raises:
            InputsNotFound: an input is unknown.
            InferenceError: an input is missing.
        """
        arguments: dict[str, Any] = {}
        rest = []
        for item in request.inputs:
            codec = self._input_codecs.get(item.name)
            if codec is None or _is_whole(codec):
                rest.append(item)
            else:
                arguments[item.name] = codec.decode_input(item)
        if rest:
            if self._whole is None:
                raise InputsNotFound(rest, self._input_codecs)
            table = InferenceRequest(inputs=rest)
            arguments[self._whole] = self._input_codecs[self._whole].decode_request(table)
        missing = [name for name in self._required if name not in arguments]
        if missing:
            got = listing([item.name for item in request.inputs]) or "none"
            raise InferenceError(f"missing input {listing(missing)}, got {got}")
        return arguments

    def encode_response(
        self, model_name: str, payload: Any, model_version: str | None = None
    ) -> InferenceResponse:
        """The results as an answer.

        Raises:
            OutputNotFound: a result does not match the annotation.
        """
        several = isinstance(payload, (tuple, list)) and len(self._output_codecs) > 1
        values = payload if several else [payload]
        if payload is None and self._may_be_none:
            values = []
        outputs: list[ResponseOutput] = []
        for index, value in enumerate(values):
            outputs += self._encoded(index, value)
        return InferenceResponse(
            model_name=model_name, model_version=model_version, outputs=outputs
        )

    def _encoded(self, index: int, value: Any) -> list[ResponseOutput]:
        codec = self._output_codecs[index] if index < len(self._output_codecs) else None
        if codec is None or not codec.can_encode(value):
            raise OutputNotFound(index, type(value), self._output_hints)
        if _is_whole(codec):
            outputs: list[ResponseOutput] = codec.encode_response("", value).outputs
            return outputs
        return [codec.encode_output(f"{DefaultOutputPrefix}{index}", value)]


def _codec(hint: Any, name: str | None, is_input: bool) -> Any:
    codec = find_input_codec(type_hint=hint) or find_request_codec(type_hint=hint)
    if codec is None:
        raise CodecNotFound(name=name, payload_type=str(hint), is_input=is_input)
    return codec


def _is_whole(codec: Any) -> bool:
    cls = codec if isinstance(codec, type) else type(codec)
    return issubclass(cls, RequestCodec)


def _unwrap(hint: Any) -> Any:
    hint = expanded(hint)
    arguments = typing.get_args(hint)
    if type(None) in arguments and len(arguments) == 2 and typing.get_origin(hint) is not tuple:
        return next(inner for inner in arguments if inner is not type(None))
    return hint


def _each(hint: Any | None) -> list[Any]:
    if hint is None or hint is type(None):
        return []
    if isinstance(hint, (tuple, list)):
        # `-> (np.ndarray, pd.DataFrame)` is not a type, but is how MLServer's users write it.
        return [_unwrap(item) for item in hint]
    return list(typing.get_args(hint)) if typing.get_origin(hint) is tuple else [hint]
