"""Requests, answers and metadata, named and shaped as in `mlserver.types`."""

from __future__ import annotations

from enum import Enum
from typing import Any

from headrace.compat.mlserver.types.base import (
    REQUIRED,
    BaseModel,
    Field,
    NotOneOf,
    anything,
    instance_of,
    list_of,
    mapping,
    text,
)
from headrace.compat.mlserver.types.data import TensorData
from headrace.protocol.datatypes import DATATYPES

# The attribute of parameters that keeps what a codec has made of an input.
DECODED = "_decoded_payload"
_NOTHING: Any = object()

Datatype = Enum("Datatype", {name: name for name in DATATYPES})  # type: ignore[misc]


class Parameters(BaseModel):
    """Parameters of a request, an answer or one tensor; any attribute may be set."""

    EXTRA = True
    FIELDS = {"content_type": Field(text), "headers": Field(mapping)}

    content_type: str | None
    headers: dict[str, Any] | None

    def __init__(self, **values: Any) -> None:
        decoded = values.pop(DECODED, _NOTHING)
        super().__init__(**values)
        if decoded is not _NOTHING:
            setattr(self, DECODED, decoded)

    @classmethod
    def model_validate(cls, obj: Any, **_: Any) -> Parameters:
        """Make them from a dict, which may be what a client sent: nothing in it is decoded."""
        if isinstance(obj, cls):
            return obj
        made = cls(**{name: value for name, value in obj.items() if name != DECODED})
        if DECODED in obj:
            made.__dict__["_extra"][DECODED] = obj[DECODED]
        return made


def _datatype(value: Any) -> str:
    name = text(value)
    if name not in DATATYPES:
        raise NotOneOf(list(DATATYPES))
    return name


def _data(value: Any) -> TensorData:
    return value if isinstance(value, TensorData) else TensorData(value)


_NAME = Field(text, REQUIRED)
_SHAPE = Field(list_of(int), REQUIRED)
_DATATYPE = Field(_datatype, REQUIRED)
_PARAMETERS = Field(instance_of(Parameters))
_DATA = Field(_data, REQUIRED)
_TENSOR = {"name": _NAME, "shape": _SHAPE, "datatype": _DATATYPE, "parameters": _PARAMETERS}


class _Described(BaseModel):
    """What inputs, outputs and their metadata have in common."""

    FIELDS = _TENSOR

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None


class MetadataTensor(_Described):
    """Metadata of one input or output."""


class RequestInput(_Described):
    """One input of a request."""

    FIELDS = {**_TENSOR, "data": _DATA}
    data: TensorData


class ResponseOutput(_Described):
    """One output of an answer."""

    FIELDS = {**_TENSOR, "data": _DATA}
    data: TensorData


class RequestOutput(BaseModel):
    """An output that a request asks for."""

    FIELDS = {"name": _NAME, "parameters": _PARAMETERS}

    name: str
    parameters: Parameters | None


class InferenceRequest(BaseModel):
    """A request to a model."""

    FIELDS = {
        "id": Field(text),
        "parameters": _PARAMETERS,
        "inputs": Field(list_of(instance_of(RequestInput)), REQUIRED),
        "outputs": Field(list_of(instance_of(RequestOutput))),
    }

    id: str | None
    parameters: Parameters | None
    inputs: list[RequestInput]
    outputs: list[RequestOutput] | None


class InferenceResponse(BaseModel):
    """The answer of a model."""

    FIELDS = {
        "model_name": _NAME,
        "model_version": Field(text),
        "id": Field(text),
        "parameters": _PARAMETERS,
        "outputs": Field(list_of(instance_of(ResponseOutput)), REQUIRED),
    }

    model_name: str
    model_version: str | None
    id: str | None
    parameters: Parameters | None
    outputs: list[ResponseOutput]


class InferenceErrorResponse(BaseModel):
    """The body of an answer that failed."""

    FIELDS = {"error": Field(text)}
    error: str | None


class MetadataModelResponse(BaseModel):
    """The metadata of a model."""

    FIELDS = {
        "name": _NAME,
        "versions": Field(list_of(text)),
        "platform": _NAME,
        "inputs": Field(list_of(instance_of(MetadataTensor))),
        "outputs": Field(list_of(instance_of(MetadataTensor))),
        "parameters": _PARAMETERS,
    }

    name: str
    versions: list[str] | None
    platform: str
    inputs: list[MetadataTensor] | None
    outputs: list[MetadataTensor] | None
    parameters: Parameters | None


class MetadataServerResponse(BaseModel):
    """The metadata of a server."""

    FIELDS = {"name": _NAME, "version": _NAME, "extensions": Field(list_of(anything), REQUIRED)}

    name: str
    version: str
    extensions: list[str]


class MetadataModelErrorResponse(BaseModel):
    """The body of a refused request for a model's metadata."""

    FIELDS = {"error": _NAME}
    error: str


class MetadataServerErrorResponse(MetadataModelErrorResponse):
    """The body of a refused request for the server's metadata."""
