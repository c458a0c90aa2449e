"""What codecs raise; all are answered with status 400."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.compat.mlserver.errors import MLServerError
from headrace.errors import listing, shorten


class CodecError(MLServerError):
    """A payload cannot be encoded or decoded."""

    def __init__(self, msg: str) -> None:
        super().__init__(f"There was an error encoding / decoding the payload: {msg}")


class CodecNotFound(MLServerError):
    """No codec handles the payload."""

    def __init__(
        self,
        name: str | None = None,
        payload_type: str | None = None,
        is_input: bool = False,
        is_request: bool = False,
    ) -> None:
        side = "input" if is_input else "output"
        part = {"input": "request", "output": "response"}[side] if is_request else "field"
        known = [f"name '{shorten(name)}'"] if name else []
        known += [f"type {payload_type}"] if payload_type else []
        super().__init__(f"Codec not found for {side} {part} with {' and '.join(known)}")


class InputsNotFound(MLServerError):
    """The request has inputs that `predict` does not take."""

    def __init__(self, inputs: Iterable[Any], input_hints: Iterable[str]) -> None:
        names = [item.name for item in inputs]
        super().__init__(
            f"Input {listing(names)} was not found. "
            f"Available inputs are {listing(list(input_hints))}."
        )


class OutputNotFound(MLServerError):
    """`predict` returned something other than its annotation promises."""

    def __init__(self, output_idx: int, output_type: type, output_hints: list[Any]) -> None:
        expected = ", ".join(f"'{hint}'" for hint in output_hints)
        super().__init__(
            f"Unexpected output value at position '{output_idx}' ({output_type}). "
            f"Expected outputs are {expected} outputs."
        )
