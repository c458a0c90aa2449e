"""DataFrames: one input or output for each column."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TypeVar

from headrace.codecs import frame
from headrace.compat.mlserver.codecs.base import RequestCodec, register_request_codec
from headrace.compat.mlserver.codecs.utils import get_decoded, has_decoded, inject_batch_dimension
from headrace.compat.mlserver.tensors import Described, described_as, tensor_of
from headrace.compat.mlserver.types.dataplane import (
    InferenceRequest,
    InferenceResponse,
    Parameters,
    RequestInput,
    ResponseOutput,
)

_Made = TypeVar("_Made", RequestInput, ResponseOutput)
_OWN = (None, "np", "pd", "str", "datetime", "base64", "pd_json")


@register_request_codec
class PandasCodec(RequestCodec):
    """A DataFrame. Missing values are sent as null, which MLServer itself refuses to encode."""

    ContentType = "pd"
    JsonContentType = "pd_json"
    TypeHint = "pandas.DataFrame"

    @classmethod
    def can_encode(cls, payload: Any) -> bool:
        pandas = sys.modules.get("pandas")
        return pandas is not None and isinstance(payload, pandas.DataFrame)

    @classmethod
    def encode_response(
        cls,
        model_name: str,
        payload: Any,
        model_version: str | None = None,
        use_bytes: bool = True,
        **kwargs: Any,
    ) -> InferenceResponse:
        return InferenceResponse(
            model_name=model_name,
            model_version=model_version,
            parameters=Parameters(content_type=cls.ContentType),
            outputs=cls.encode_outputs(payload, use_bytes),
        )

    @classmethod
    def encode_outputs(cls, payload: Any, use_bytes: bool = True) -> list[ResponseOutput]:
        """One output for each column."""
        return _columns(ResponseOutput, payload, use_bytes)

    @classmethod
    def decode_response(cls, response: InferenceResponse) -> Any:
        return _frame(response.outputs)

    @classmethod
    def encode_request(
        cls, payload: Any, use_bytes: bool = True, **kwargs: Any
    ) -> InferenceRequest:
        return InferenceRequest(
            parameters=Parameters(content_type=cls.ContentType),
            inputs=_columns(RequestInput, payload, use_bytes),
        )

    @classmethod
    def decode_request(cls, request: InferenceRequest) -> Any:
        return _frame(request.inputs)


def _columns(made: type[_Made], payload: Any, use_bytes: bool) -> list[_Made]:
    tensors = frame.tensors_of(payload, is_answer=made is ResponseOutput)
    items = [described_as(made, tensor, use_bytes) for tensor in tensors]
    for item in items:
        item.shape = inject_batch_dimension(item.shape)
    return items


def _frame(items: Sequence[Described]) -> Any:
    if all(map(_is_own, items)):
        return frame.frame_of([tensor_of(item) for item in items])
    import pandas as pd

    return pd.DataFrame({item.name: _column(item) for item in items})


def _column(item: Described) -> Any:
    if _is_own(item):
        return frame.frame_of([tensor_of(item)])[item.name]
    if not has_decoded(item):
        return item.data.root
    value = get_decoded(item)
    return list(value) if not hasattr(value, "ravel") else value.ravel()


def _is_own(item: Described) -> bool:
    """Whether the tensor is all there is to make a column of.

    It is not if a codec of the user has made something else of it, and if it is BYTES of no
    content type: its cells stay as they came, text over REST and bytes over gRPC.
    """
    kind = item.parameters.content_type if item.parameters is not None else None
    if kind is None and item.datatype == "BYTES":
        return False
    return kind in _OWN or not has_decoded(item)
