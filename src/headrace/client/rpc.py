"""Operations as gRPC messages, and messages as their values. Pure: no channels here.

Implements the client's side of the Open Inference Protocol's gRPC API with the model repository
extension. Tensors are sent as raw contents, and read in either form.
"""

from __future__ import annotations

from typing import Any

from headrace.client import client_errors
from headrace.client import operations as ops
from headrace.client.result import InferResult, unreadable
from headrace.errors import HeadraceError, InvalidInput, shorten
from headrace.protocol.datatypes import datatype, element_count
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.protocol.open_inference.grpc_contents import read_contents
from headrace.protocol.open_inference.grpc_parameters import read_parameters, write_parameters
from headrace.protocol.tensor import Tensor, check_size

# Where the server sends its own code for an error, and when to retry.
CODE_KEY = "x-error-code"
RETRY_KEY = "retry-after"

_ERRORS: dict[str, type[client_errors.ClientError]] = {
    "ABORTED": client_errors.InvalidRequest,
    "CANCELLED": client_errors.ConnectionFailed,
    "DEADLINE_EXCEEDED": client_errors.TimedOut,
    "FAILED_PRECONDITION": client_errors.InvalidRequest,
    "INVALID_ARGUMENT": client_errors.InvalidRequest,
    "NOT_FOUND": client_errors.NotServed,
    "OUT_OF_RANGE": client_errors.InvalidRequest,
    "PERMISSION_DENIED": client_errors.InvalidRequest,
    "RESOURCE_EXHAUSTED": client_errors.InvalidRequest,
    "UNAUTHENTICATED": client_errors.InvalidRequest,
    "UNAVAILABLE": client_errors.Unavailable,
    "UNIMPLEMENTED": client_errors.NotServed,
}


def call_of(operation: ops.Operation) -> tuple[str, Any, Any]:
    """The method of an operation, its message, and the class of the answer.

    Raises:
        InvalidRequest: the protocol cannot represent the inputs or parameters.
    """
    match operation:
        case ops.Live():
            return "ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse
        case ops.Ready():
            return "ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse
        case ops.ServerMetadata():
            return "ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse
        case ops.ModelReady(name, version):
            ready = pb.ModelReadyRequest(name=name, version=version or "")
            return "ModelReady", ready, pb.ModelReadyResponse
        case ops.ModelMetadata(name, version):
            metadata = pb.ModelMetadataRequest(name=name, version=version or "")
            return "ModelMetadata", metadata, pb.ModelMetadataResponse
        case ops.Index(ready=only_ready):
            index = pb.RepositoryIndexRequest(ready=only_ready)
            return "RepositoryIndex", index, pb.RepositoryIndexResponse
        case ops.Load(name):
            load = pb.RepositoryModelLoadRequest(model_name=name)
            return "RepositoryModelLoad", load, pb.RepositoryModelLoadResponse
        case ops.Unload(name):
            unload = pb.RepositoryModelUnloadRequest(model_name=name)
            return "RepositoryModelUnload", unload, pb.RepositoryModelUnloadResponse
        case ops.Infer():
            return "ModelInfer", _infer_message(operation), pb.ModelInferResponse


def value_of(operation: ops.Operation, message: Any) -> Any:
    """The value of an operation from the message that answers it.

    Raises:
        BadAnswer: the tensors do not follow the protocol.
    """
    match operation:
        case ops.Live():
            return bool(message.live)
        case ops.Ready() | ops.ModelReady():
            return bool(message.ready)
        case ops.ServerMetadata():
            extensions = list(message.extensions)
            return {"name": message.name, "version": message.version, "extensions": extensions}
        case ops.ModelMetadata():
            return _metadata(message)
        case ops.Index():
            fields = ("name", "version", "state", "reason")
            return [{name: getattr(item, name) for name in fields} for item in message.models]
        case ops.Infer():
            return _result(message)
        case _:
            return None


def error_of(status: str, message: str, trailing: dict[str, Any]) -> client_errors.ClientError:
    """The error for a status name and its trailing metadata.

    Headrace names its own errors in the metadata; UNAVAILABLE without such a name comes from the
    channel itself, when nothing is listening or the connection broke.
    """
    code = trailing.get(CODE_KEY)
    kind = _ERRORS.get(status, client_errors.ServerError)
    if status == "UNAVAILABLE" and code is None:
        kind = client_errors.ConnectionFailed
    seconds = str(trailing.get(RETRY_KEY, ""))
    return kind(
        message or f"the server answered {status}",
        code=str(code) if code is not None else None,
        retry_after=float(seconds) if seconds.isdecimal() else None,
    )


def _infer_message(operation: ops.Infer) -> Any:
    request = operation.request
    message = pb.ModelInferRequest(
        model_name=operation.name, model_version=operation.version or "", id=request.id
    )
    try:
        write_parameters(request.parameters, message.parameters)
        for tensor in request.inputs:
            item = message.inputs.add(
                name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
            )
            write_parameters(tensor.parameters, item.parameters)
            message.raw_input_contents.append(bytes(tensor.data))
        for name in request.outputs or ():
            message.outputs.add(name=name)
    except (TypeError, ValueError) as error:
        raise client_errors.InvalidRequest(
            "gRPC messages cannot represent a name or parameter"
        ) from error
    return message


def _metadata(message: Any) -> dict[str, Any]:
    parts = {"inputs": message.inputs, "outputs": message.outputs}
    tensors = {part: [_tensor_metadata(item) for item in items] for part, items in parts.items()}
    return {
        "name": message.name,
        "versions": list(message.versions),
        "platform": message.platform,
        **tensors,
        **_with_parameters(message),
    }


def _tensor_metadata(item: Any) -> dict[str, Any]:
    described = {"name": item.name, "datatype": item.datatype, "shape": list(item.shape)}
    return {**described, **_with_parameters(item)}


def _with_parameters(message: Any) -> dict[str, Any]:
    parameters = read_parameters(message.parameters)
    return {"parameters": parameters} if parameters else {}


def _result(message: Any) -> InferResult:
    raw = list(message.raw_output_contents)
    if raw and len(raw) != len(message.outputs):
        raise client_errors.BadAnswer("the answer does not have one raw content for each output")
    contents = raw or [None] * len(message.outputs)
    try:
        tensors = [
            _tensor(item, data) for item, data in zip(message.outputs, contents, strict=True)
        ]
    except InvalidInput as error:
        raise unreadable(error) from error
    except HeadraceError as error:
        raise client_errors.BadAnswer(error.message) from error
    return InferResult(
        tensors,
        model_name=message.model_name,
        model_version=message.model_version or None,
        id=message.id,
        parameters=read_parameters(message.parameters),
    )


def _tensor(item: Any, raw: bytes | None) -> Tensor:
    where = f"input '{shorten(item.name)}'"
    kind = datatype(item.datatype, where)
    shape = list(item.shape)
    count = element_count(shape, where)
    data = read_contents(item.contents, kind, shape, count, item.name) if raw is None else raw
    tensor = Tensor(item.name, kind.name, shape, data, read_parameters(item.parameters))
    check_size(tensor, where)
    return tensor
