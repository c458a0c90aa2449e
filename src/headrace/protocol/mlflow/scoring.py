"""Requests of MLflow's scoring protocol: the body of `POST /invocations` as tensors.

JSON for a model whose types are all simple becomes the request that the Open Inference
routes would make of the same values. Of everything else (CSV, Parquet, nested types, the LLM
forms, no signature) only the outline is checked; the body is sent as it is to a worker that
has pandas.
"""

from __future__ import annotations

import codecs
from typing import Any

import msgspec
import numpy as np

from headrace.errors import InvalidInput, MalformedBody, UnsupportedMedia, listing, shorten
from headrace.protocol import large_buffers
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.mlflow.loose_json import load
from headrace.protocol.mlflow.packing import NeedsDataFrame
from headrace.protocol.mlflow.python_json import loads
from headrace.protocol.mlflow.scoring_answer import encode
from headrace.protocol.mlflow.scoring_tables import build_inputs, large_inputs, split_form, table_of
from headrace.protocol.mlflow.signature import KEY, PAYLOAD, READS, SCORING, Signature
from headrace.protocol.open_inference.strange_keys import Typos
from headrace.protocol.table_request import TableRequest
from headrace.protocol.tensor import LENGTH, Buffer, Tensor, pack_bytes

__all__ = ["FORMS", "MEDIA_TYPES", "ScoringRequest", "decode", "encode"]

JSON = "application/json"
MEDIA_TYPES = (JSON, "text/csv", "application/vnd.apache.parquet")
FORMS = ("dataframe_records", "dataframe_split", "inputs", "instances")
_LLM_KEYS = ("messages", "prompt", "input")
# What the top level of a body may have besides.
KEYS = (*FORMS, "params")
_KEYS = frozenset(KEYS)
_NOTHING = msgspec.Raw()
# Characters of a body from which on it is read by a worker, unless that takes no object for each
# of its values: a parser holds the interpreter's lock, and takes up to 16 times the bytes.
LARGE = 1024 * 1024


class ScoringRequest:
    """A decoded `/invocations` request; `wrapped` answers go under `predictions`."""

    __slots__ = ("request", "wrapped")

    def __init__(self, request: InferenceRequest, wrapped: bool = True) -> None:
        self.request = request
        self.wrapped = wrapped


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """The top level of a JSON body; absent members are empty."""

    dataframe_split: msgspec.Raw = _NOTHING
    dataframe_records: msgspec.Raw = _NOTHING
    inputs: msgspec.Raw = _NOTHING
    instances: msgspec.Raw = _NOTHING
    params: msgspec.Raw = _NOTHING
    messages: msgspec.Raw = _NOTHING
    prompt: msgspec.Raw = _NOTHING
    input: msgspec.Raw = _NOTHING


_BODY = msgspec.json.Decoder(_Body)
_DECODER = codecs.getincrementaldecoder("utf-8")
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode(body: bytes, content_type: str | None, signature: Signature | None) -> ScoringRequest:
    """Decode the body of `POST /invocations` (MLflow scoring protocol 2.0).

    Raises:
        UnsupportedMedia: the content type is missing, or not one of `MEDIA_TYPES` in UTF-8.
        InvalidInput: the body is empty or malformed, or does not fit the signature.
    """
    media_type = JSON if content_type == JSON else _media_type(content_type)
    if not body:
        raise MalformedBody(f"the request body is empty, expected {media_type}")
    if media_type != JSON:
        if media_type == "text/csv":
            _check_text(body)
        return ScoringRequest(_payload(body, media_type, signature))
    if signature is not None and (table := table_of(body, signature)) is not None:
        return ScoringRequest(TableRequest(table, _parameters(None, signature)))
    try:
        fields = _fields(body)
    except NeedsDataFrame:
        return ScoringRequest(_payload(body, JSON, signature))
    if any(key in fields for key in _LLM_KEYS):
        _check_text(body)
        return ScoringRequest(_payload(body, JSON, signature), wrapped=False)
    form = _form(fields, signature)
    if not fields.keys() <= _KEYS:
        _pass_over(fields, signature)
    value = fields[form]
    large = len(body) >= LARGE
    if signature is None or not signature.is_simple:
        _check_text(body)
        if not large:
            _check_outline(form, value)
        return ScoringRequest(_payload(body, JSON, signature))
    try:
        if large and len(fields.get("params", b"")) >= LARGE:
            raise NeedsDataFrame
        params = _params(fields)
        inputs = (large_inputs if large else build_inputs)(form, value, signature)
    except NeedsDataFrame:
        return ScoringRequest(_payload(body, JSON, signature))
    return ScoringRequest(InferenceRequest(inputs, _parameters(params, signature)))


def _parameters(params: dict[str, Any] | None, signature: Signature) -> dict[str, Any]:
    """What a request says besides its inputs: the params of the model, and what it takes."""
    given = signature.conform_params(params) or {}
    return {**given, "content_type": signature.content_type}


class _Stream(msgspec.Struct):
    stream: msgspec.Raw = _NOTHING


_STREAM = msgspec.json.Decoder(_Stream)
# Most bodies do not have it anywhere, and are not looked at further.
_STREAM_KEY = b'"stream"'


def _names_stream(body: bytes) -> bool:
    """Whether a body has the key anywhere; a search holds the interpreter's lock, so it is cut."""
    if len(body) < LARGE:
        return _STREAM_KEY in body
    more = len(_STREAM_KEY) - 1
    return any(
        body.find(_STREAM_KEY, start, start + LARGE + more) >= 0
        for start in range(0, len(body), LARGE)
    )


def wants_stream(body: bytes) -> bool:
    """Whether a body asks for its answer in pieces, by `"stream": true` at its top level."""
    if not _names_stream(body):
        return False
    try:
        return bytes(_STREAM.decode(body).stream) == b"true"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def without_stream(body: bytes) -> bytes:
    """The body without a boolean `stream` at its top level, which is only for the server."""
    if not _names_stream(body):
        return body
    try:
        fields = _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
    if bytes(fields.get("stream", b"")) not in (b"true", b"false"):
        return body
    del fields["stream"]
    return msgspec.json.encode(fields)


def _media_type(content_type: str | None) -> str:
    """The media type of a Content-Type header, lower case."""
    known = ", ".join(MEDIA_TYPES)
    if not content_type:
        raise UnsupportedMedia(f"the Content-Type header is missing; send one of {known}")
    media_type, *parameters = [part.strip() for part in content_type.lower().split(";")]
    if media_type not in MEDIA_TYPES:
        raise UnsupportedMedia(
            f"content type '{shorten(media_type)}' is not supported; send one of {known}"
        )
    for parameter in filter(None, parameters):
        key, _, value = parameter.partition("=")
        if key.strip() != "charset":
            raise UnsupportedMedia(f"unknown Content-Type parameter '{shorten(key)}'")
        if value.strip(' "') != "utf-8":
            raise UnsupportedMedia(f"charset '{shorten(value)}' is not supported; only utf-8 is")
    return media_type


def _payload(body: bytes, media_type: str, signature: Signature | None) -> InferenceRequest:
    """The undecoded body as a request for a worker."""
    tensor = Tensor(PAYLOAD, "BYTES", [1], _packed(body), {"content_type": media_type})
    parameters: dict[str, Any] = {"content_type": SCORING}
    if signature is not None and signature.pass_over is not None:
        parameters[READS] = "mlflow"
    return InferenceRequest([tensor], parameters)


def _packed(body: bytes) -> Buffer:
    """The body as the only element of a tensor; a large one where a worker reads it, too."""
    if len(body) < LARGE:
        return pack_bytes([body])
    packed = large_buffers.empty(LENGTH.size + len(body), "u1")
    LENGTH.pack_into(packed.data, 0, len(body))
    # The interpreter's lock is free meanwhile.
    np.copyto(packed[LENGTH.size :], np.frombuffer(body, np.uint8))
    return packed.data.toreadonly()


def _check_text(body: bytes) -> None:
    """Check that a body is UTF-8; a large one in slices, each a millisecond's work.

    Raises:
        MalformedBody: it is not.
    """
    try:
        if len(body) < LARGE:
            body.decode()
            return
        view, decode = memoryview(body), _DECODER().decode
        for start in range(0, len(body), LARGE):
            decode(view[start : start + LARGE], start + LARGE >= len(body))
    except UnicodeDecodeError as error:
        place = error.start
        if len(body) >= LARGE:
            # From the beginning of a character that the slice before may have begun.
            place = max(0, start + error.start - len(error.object) + len(view[start:][:LARGE]))
        raise MalformedBody(f"the body is not valid UTF-8 at byte {place}") from None


def _fields(body: bytes) -> dict[str, Any]:
    """The top-level fields, as raw JSON, or decoded where the body is not strict JSON."""
    try:
        found = _BODY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _all_fields(body)
    return {key: value for key in _Body.__struct_fields__ if len(value := getattr(found, key)) != 0}


def _all_fields(body: bytes) -> dict[str, Any]:
    """The top-level fields of a body that has unknown ones, or is JSON only loosely.

    Raises:
        NeedsDataFrame: it is large, and no strict JSON.
    """
    try:
        return _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if len(body) >= LARGE:
            raise NeedsDataFrame from None
        return _object(body)


def _pass_over(fields: dict[str, Any], signature: Signature | None) -> None:
    """Report the unknown top-level fields of a body, or refuse those that may be typos.

    Raises:
        InvalidInput: one of them resembles a known field, and they are not passed over.
    """
    if signature is not None and signature.pass_over is not None:
        signature.pass_over(KEY, [key for key in fields if key not in _KEYS])
    else:
        Typos().refuse(fields, KEYS, "the request body")


def _object(body: bytes) -> dict[str, Any]:
    """The body decoded loosely, which must be an object."""
    value = loads(body)
    if not isinstance(value, dict):
        got = "a list" if isinstance(value, list) else "a single value"
        raise MalformedBody(
            f"the body must be a JSON object with one of {_names(FORMS)}, got {got}"
        )
    return value


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _form(fields: dict[str, Any], signature: Signature | None) -> str:
    """Which of `FORMS` the body has."""
    found = [form for form in FORMS if form in fields]
    if len(found) != 1:
        got = found or sorted(fields)
        # The body of MLflow 1, which a Content-Type parameter told apart from a list of records.
        is_split = "data" in got and set(got) <= {"columns", "index", "data"}
        raise MalformedBody(
            f"the JSON object must have exactly one of the input fields {_names(FORMS)}, "
            f"received {listing(got) if got else 'none'}"
            + ("; these belong in 'dataframe_split'" if is_split else "")
        )
    if signature is not None and signature.from_type_hint and found != ["inputs"]:
        raise InvalidInput(
            f"the model's type hint takes its data under 'inputs', received '{found[0]}'"
        )
    return found[0]


def _params(fields: dict[str, Any]) -> dict[str, Any] | None:
    params = load(fields.get("params"))
    if params is not None and not isinstance(params, dict):
        raise MalformedBody("'params' must be a JSON object")
    return params


def _check_outline(form: str, value: Any) -> None:
    """Check as much of a form as is possible without a signature."""
    if form == "dataframe_split":
        split_form(load(value))
    elif form == "dataframe_records" and not isinstance(load(value), list):
        raise MalformedBody("dataframe_records must be a list of records")
