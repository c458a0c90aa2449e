"""Python values to tensors and back, chosen by content type. Runs in the worker."""

from __future__ import annotations

from headrace.codecs.registry import (
    OUTPUT,
    decode_input,
    decode_request,
    decode_value,
    encode_response,
)

__all__ = ["OUTPUT", "decode_input", "decode_request", "decode_value", "encode_response"]
