"""What the codecs of BYTES elements have in common: text, base64, times."""

from __future__ import annotations

from typing import Any, TypeVar

from headrace.compat.mlserver.codecs.base import InputCodec
from headrace.compat.mlserver.codecs.lists import as_list
from headrace.compat.mlserver.types.dataplane import Parameters, RequestInput, ResponseOutput

_Made = TypeVar("_Made", RequestInput, ResponseOutput)


class CellsCodec(InputCodec):
    """One Python value for each element; a subclass encodes and decodes an element."""

    @classmethod
    def encode_element(cls, element: Any) -> bytes:
        """One value as the bytes to send."""
        raise NotImplementedError

    @classmethod
    def decode_element(cls, element: Any) -> Any:
        """One value from what was received: text, or bytes."""
        raise NotImplementedError

    @classmethod
    def encode_output(
        cls, name: str, payload: Any, use_bytes: bool = True, **kwargs: Any
    ) -> ResponseOutput:
        return cls._made(ResponseOutput, name, payload, use_bytes)

    @classmethod
    def encode_input(
        cls, name: str, payload: Any, use_bytes: bool = True, **kwargs: Any
    ) -> RequestInput:
        return cls._made(RequestInput, name, payload, use_bytes)

    @classmethod
    def decode_input(cls, request_input: RequestInput) -> list[Any]:
        return [cls.decode_element(element) for element in as_list(request_input.data.root)]

    @classmethod
    def decode_output(cls, response_output: ResponseOutput) -> list[Any]:
        return [cls.decode_element(element) for element in as_list(response_output.data.root)]

    @classmethod
    def _made(cls, made: type[_Made], name: str, payload: Any, use_bytes: bool) -> _Made:
        data: list[Any] = [cls.encode_element(element) for element in payload]
        if not use_bytes:
            data = [element.decode("utf-8") for element in data]
        return made(
            name=name,
            shape=[len(data), 1],
            datatype="BYTES",
            parameters=Parameters(content_type=cls.ContentType),
            data=data,
        )
