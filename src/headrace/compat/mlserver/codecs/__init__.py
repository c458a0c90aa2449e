"""Converts Python values to tensors and back, as in `mlserver.codecs`."""

from __future__ import annotations

# The order of the imports is the order in which codecs are tried.
from headrace.compat.mlserver.codecs.string import StringCodec, StringRequestCodec  # isort: skip
from headrace.compat.mlserver.codecs.numpy import NumpyCodec, NumpyRequestCodec  # isort: skip
from headrace.compat.mlserver.codecs.base64 import Base64Codec  # isort: skip
from headrace.compat.mlserver.codecs.datetime import DatetimeCodec  # isort: skip
from headrace.compat.mlserver.codecs.pandas import PandasCodec  # isort: skip
from headrace.compat.mlserver.codecs.base import (
    InputCodec,
    InputCodecLike,
    RequestCodec,
    RequestCodecLike,
    register_input_codec,
    register_request_codec,
)
from headrace.compat.mlserver.codecs.decorator import decode_args
from headrace.compat.mlserver.codecs.errors import CodecError
from headrace.compat.mlserver.codecs.utils import (
    DecodedParameterName,
    decode_inference_request,
    decode_request_input,
    encode_inference_response,
    encode_response_output,
    get_decoded,
    get_decoded_or_raw,
    has_decoded,
)

__all__ = [
    "Base64Codec",
    "CodecError",
    "DatetimeCodec",
    "DecodedParameterName",
    "InputCodec",
    "InputCodecLike",
    "NumpyCodec",
    "NumpyRequestCodec",
    "PandasCodec",
    "RequestCodec",
    "RequestCodecLike",
    "StringCodec",
    "StringRequestCodec",
    "decode_args",
    "decode_inference_request",
    "decode_request_input",
    "encode_inference_response",
    "encode_response_output",
    "get_decoded",
    "get_decoded_or_raw",
    "has_decoded",
    "register_input_codec",
    "register_request_codec",
]
