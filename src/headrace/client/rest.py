"""Operations as HTTP requests, and HTTP answers as their values. Pure: no sockets here.

Implements the client's side of the Open Inference Protocol's REST API with the binary tensor
data and model repository extensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import numpy as np
import orjson

from headrace.client import client_errors
from headrace.client import operations as ops
from headrace.client.result import InferResult, unreadable
from headrace.errors import HeadraceError, InvalidInput, shorten
from headrace.protocol import nullable
from headrace.protocol.datatypes import DATATYPES, Datatype, datatype, element_count
from headrace.protocol.open_inference.rest_binary import RawTensors
from headrace.protocol.open_inference.rest_data import json_values, pack_json
from headrace.protocol.reserved_parameters import TRANSPORT
from headrace.protocol.tensor import Tensor, check_size

LENGTH_HEADER = "inference-header-content-length"
# How many bytes of a foreign error page are shown.
MOST_SHOWN = 200


class HttpRequest(NamedTuple):
    """One HTTP request; the path is absolute and escaped."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None


_ABSENT = msgspec.Raw(b"")


class _Output(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = _ABSENT
    parameters: dict[str, Any] | None = None


class _Answer(msgspec.Struct):
    outputs: list[_Output]
    model_name: str = ""
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Any] | None = None


_VALUES = msgspec.json.Decoder(list[int | bool | None])
_decode_answer = msgspec.json.Decoder(_Answer).decode


def request_of(operation: ops.Operation, timeout: float | None) -> HttpRequest:
    """The HTTP request of an operation; inference also sends the server `timeout`, in seconds.

    Raises:
        InvalidRequest: the protocol cannot represent the inputs or parameters.
    """
    match operation:
        case ops.Live():
            return _get("/v2/health/live")
        case ops.Ready():
            return _get("/v2/health/ready")
        case ops.ServerMetadata():
            return _get("/v2")
        case ops.ModelReady(name, version):
            return _get(_model_path(name, version) + "/ready")
        case ops.ModelMetadata(name, version):
            return _get(_model_path(name, version))
        case ops.Index(ready):
            return _post("/v2/repository/index", orjson.dumps({"ready": ready}))
        case ops.Load(name):
            return _post(f"/v2/repository/models/{quote(name, safe='')}/load", b"{}")
        case ops.Unload(name):
            return _post(f"/v2/repository/models/{quote(name, safe='')}/unload", b"{}")
        case ops.Infer():
            return _infer_request(operation, timeout)


def value_of(operation: ops.Operation, status: int, headers: Mapping[str, str], body: bytes) -> Any:
    """The value of an operation from its HTTP answer; header names are in lower case.

    Raises:
        ClientError: the answer is an error, or does not follow the protocol.
    """
    if isinstance(operation, (ops.Live, ops.Ready, ops.ModelReady)):
        # "Not ready" is 400 or 503, depending on the server; anything else is another failure.
        if status in (200, 400, 503):
            return status == 200
        raise _failure(status, headers, body)
    if not 200 <= status < 300:
        raise _failure(status, headers, body)
    if isinstance(operation, (ops.Load, ops.Unload)):
        return None
    if isinstance(operation, ops.Infer):
        return _result(headers, body)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise client_errors.BadAnswer("the answer is not valid JSON", status=status) from error
    expected = list if isinstance(operation, ops.Index) else dict
    if not isinstance(value, expected):
        raise client_errors.BadAnswer("the answer does not follow the protocol", status=status)
    return value


def _get(path: str) -> HttpRequest:
    return HttpRequest("GET", path, {}, None)


def _post(path: str, body: bytes) -> HttpRequest:
    return HttpRequest("POST", path, {"content-type": "application/json"}, body)


def _model_path(name: str, version: str | None) -> str:
    path = f"/v2/models/{quote(name, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def _infer_request(operation: ops.Infer, timeout: float | None) -> HttpRequest:
    head, raw = _infer_body(operation)
    headers = {"content-type": "application/json"}
    if operation.binary:
        headers = {"content-type": "application/octet-stream", LENGTH_HEADER: str(len(head))}
    if timeout is not None:
        headers["x-request-timeout"] = f"{max(timeout, 0.001):.3f}"
    path = _model_path(operation.name, operation.version) + "/infer"
    return HttpRequest("POST", path, headers, b"".join([head, *raw]))


def _infer_body(operation: ops.Infer) -> tuple[bytes, list[Any]]:
    """The JSON of an inference request and the raw tensors that follow it."""
    request = operation.request
    raw: list[Any] = []
    inputs = []
    for tensor in request.inputs:
        item: dict[str, Any] = {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "datatype": tensor.datatype,
        }
        parameters = dict(tensor.parameters or {})
        if operation.binary:
            parameters["binary_data_size"] = tensor.nbytes
            raw.append(tensor.data)
        else:
            item["data"] = _json_data(tensor)
        if parameters:
            item["parameters"] = parameters
        inputs.append(item)
    body: dict[str, Any] = {"id": request.id} if request.id else {}
    parameters = dict(request.parameters or {})
    if not _is_finite(parameters):
        raise client_errors.InvalidRequest(
            "a parameter is NaN or infinite, which JSON cannot represent"
        )
    if operation.binary:
        parameters["binary_data_output"] = True
    if parameters:
        body["parameters"] = parameters
    body["inputs"] = inputs
    if request.outputs is not None:
        body["outputs"] = [{"name": name} for name in request.outputs]
    try:
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), raw
    except orjson.JSONEncodeError as error:
        raise client_errors.InvalidRequest("JSON cannot represent a name or parameter") from error


def _is_finite(value: Any) -> bool:
    """Whether no number in a parameter would become null."""
    if isinstance(value, (float, np.floating)):
        return bool(np.isfinite(value))
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, (list, tuple)) or all(map(_is_finite, value))


def _json_data(tensor: Tensor) -> Any:
    try:
        values = json_values(tensor)
    except HeadraceError as error:
        message = error.message.replace("output ", "input ")
        raise client_errors.InvalidRequest(message) from error
    if DATATYPES[tensor.datatype].is_float and np.isinf(values).any():
        raise client_errors.InvalidRequest(
            f"input '{shorten(tensor.name)}' holds an infinity, which JSON cannot carry; "
            "send tensors as raw bytes (binary=True, --binary-data)"
        )
    return values


def _result(headers: Mapping[str, str], body: bytes) -> InferResult:
    length = headers.get(LENGTH_HEADER)
    view = memoryview(body)
    head = len(view) if length is None else int(length) if length.isdecimal() else -1
    if not 0 <= head <= len(view):
        raise client_errors.BadAnswer(f"the answer's {LENGTH_HEADER} does not fit its body")
    try:
        answer = _decode_answer(view[:head])
        raw = RawTensors(view[head:])
        tensors = [_tensor(item, raw) for item in answer.outputs]
        raw.finish()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise client_errors.BadAnswer(
            "the answer is not an inference response of the protocol"
        ) from error
    except InvalidInput as error:
        raise unreadable(error) from error
    return InferResult(
        tensors,
        model_name=answer.model_name,
        model_version=answer.model_version,
        id=answer.id or "",
        parameters=answer.parameters,
    )


def _tensor(item: _Output, raw: RawTensors) -> Tensor:
    where = f"input '{shorten(item.name)}'"
    kind = datatype(item.datatype, where)
    given = item.parameters or {}
    shown = {key: value for key, value in given.items() if key not in TRANSPORT}
    parameters = shown or None
    if "binary_data_size" in given:
        data = raw.take(given["binary_data_size"], where)
        tensor = Tensor(item.name, kind.name, item.shape, data, parameters)
        check_size(tensor, where)
        return tensor
    if item.data is _ABSENT:
        raise InvalidInput(f"{where}: data is missing")
    if kind.name in ("FP16", "BF16"):
        # Answers may have these in JSON, where only a wider type is certain to hold the number.
        kind = DATATYPES["FP32"]
    count = element_count(item.shape, where)
    try:
        packed = pack_json(item.data, kind, item.shape, count, item.name)
    except InvalidInput:
        found = _nullable(item, kind, count)
        if found is None:
            raise
        return found
    return Tensor(item.name, kind.name, item.shape, packed, parameters)


def _nullable(item: _Output, kind: Datatype, count: int) -> Tensor | None:
    """An output of integers or booleans some of which are null; None if it is anything else."""
    if kind.is_float or not kind.itemsize:
        return None
    try:
        values = _VALUES.decode(item.data)
    except msgspec.MsgspecError:
        return None
    return (
        nullable.tensor(item.name, kind.name, item.shape, values) if len(values) == count else None
    )


def _failure(status: int, headers: Mapping[str, str], body: bytes) -> client_errors.ClientError:
    """The error in an answer, in the form of whichever server sent it."""
    found: Any = None
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = body[:MOST_SHOWN].decode("utf-8", "replace").strip()
    code = None
    if isinstance(found, dict):
        code = found.get("code") or found.get("error_code")
        found = found.get("error") or found.get("message") or found.get("detail")
    message = found if isinstance(found, str) and found else f"the server answered {status}"
    return client_errors.of_status(status)(
        message,
        status=status,
        code=code if isinstance(code, str) else None,
        retry_after=_seconds(headers.get("retry-after")),
    )


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    # A date instead of seconds is rare, and a default is good enough for it.
    return float(retry_after) if retry_after.strip().isdecimal() else 1.0
