"""Every way to ask the server for an inference, behind one function."""

from __future__ import annotations

import json
import ssl
import struct
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np

from headrace.grpc.status_codes import TABLE as GRPC_TABLE
from headrace.http.large_requests import MUCH_TEXT
from headrace.protocol.error_table import TABLE as HTTP_TABLE
from headrace.protocol.open_inference import inference_pb2 as pb
from support.asking import Client

NUMPY = {
    "BOOL": "|b1", "UINT8": "|u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "INT8": "|i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
FIELDS = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents",
    "UINT32": "uint_contents", "UINT64": "uint64_contents", "INT8": "int_contents",
    "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
PREFIX = "/inference.GRPCInferenceService/"


class Tensor(NamedTuple):
    """A tensor with its elements flat; those of BYTES are bytes."""

    name: str
    datatype: str
    shape: list[int]
    values: list[Any]
    parameters: dict[str, Any] = {}


class Answer(NamedTuple):
    """What came back, in the same form for every transport."""

    outputs: list[Tensor]
    id: str = ""
    model_name: str = ""
    model_version: str = ""
    parameters: dict[str, Any] = {}
    request_id: str = ""


class Refused(Exception):
    """A refused request: the kinds that its status can mean, the kind, the message and the id."""

    def __init__(self, kinds: set[str], kind: str, message: str, request_id: str) -> None:
        super().__init__(message)
        self.kinds = kinds
        self.kind = kind
        self.message = message
        self.request_id = request_id


class RestJson:
    """Open Inference over REST, all in JSON."""

    def __init__(self, announced: dict[str, str], authority: Path | None = None) -> None:
        context = None if authority is None else ssl.create_default_context(cafile=authority)
        self._client = Client(announced["http"], context=context)

    def close(self) -> None:
        self._client.__exit__()

    def infer(
        self,
        model: str,
        tensors: list[Tensor],
        version: str = "",
        request_id: str = "",
        **more: Any,
    ) -> Answer:
        body, headers = self._encode(tensors, more)
        if request_id:
            headers["X-Request-Id"] = request_id
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
        answer = self._ask("POST", path + "/infer", body, headers)
        return self._decode(answer)

    def metadata(self, model: str) -> dict[str, Any]:
        return self._ask("GET", f"/v2/models/{model}").json

    def server_metadata(self) -> dict[str, Any]:
        return self._ask("GET", "/v2").json

    def model_ready(self, model: str) -> bool:
        return self._ask("GET", f"/v2/models/{model}/ready").json["ready"]

    def ready(self) -> bool:
        return self._ask("GET", "/v2/health/ready").json["ready"]

    def _ask(self, method: str, path: str, body: Any = None, headers: Any = None) -> Any:
        answer = self._client.ask(method, path, body, headers)
        if answer.status != 200:
            kinds = {kind for kind, row in HTTP_TABLE.items() if row.status == answer.status}
            error = answer.json
            id = answer.headers.get("x-request-id", "")
            raise Refused(kinds, error.get("code", ""), error.get("error", ""), id)
        return answer

    def _encode(self, tensors: list[Tensor], more: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        inputs = [
            {
                "name": t.name,
                "datatype": t.datatype,
                "shape": t.shape,
                "parameters": t.parameters,
                "data": [v.decode() if isinstance(v, bytes) else v for v in t.values],
            }
            for t in tensors
        ]
        return {"inputs": inputs, **_outputs(more)}, {}

    def _decode(self, answer: Any) -> Answer:
        response = answer.json
        outputs = [
            Tensor(
                o["name"],
                o["datatype"],
                o["shape"],
                _from_json(o["datatype"], o["data"]),
                o.get("parameters", {}),
            )
            for o in response["outputs"]
        ]
        return _rest_answer(response, outputs, answer)


class RestLarge(RestJson):
    """Open Inference over REST, in JSON with so much text that another process decodes it."""

    def _encode(self, tensors: list[Tensor], more: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        body, _ = super()._encode(tensors, more)
        padded = json.dumps(body).encode() + b" " * MUCH_TEXT
        return padded, {"Content-Type": "application/json"}


class RestBinary(RestJson):
    """Open Inference over REST with the binary tensor data extension, both ways."""

    def _encode(self, tensors: list[Tensor], more: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        raws = [to_raw(t) for t in tensors]
        inputs = [
            {
                "name": t.name,
                "datatype": t.datatype,
                "shape": t.shape,
                "parameters": {**t.parameters, "binary_data_size": len(raw)},
            }
            for t, raw in zip(tensors, raws, strict=True)
        ]
        more = _outputs(more)
        more["parameters"] = {**more.get("parameters", {}), "binary_data_output": True}
        head = json.dumps({"inputs": inputs, **more}).encode()
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(head)),
        }
        return b"".join([head, *raws]), headers

    def _decode(self, answer: Any) -> Answer:
        size = int(answer.headers["inference-header-content-length"])
        response = json.loads(answer.body[:size])
        rest = answer.body[size:]
        outputs = []
        for o in response["outputs"]:
            parameters = dict(o["parameters"])
            taken = parameters.pop("binary_data_size")
            values = from_raw(o["datatype"], rest[:taken])
            outputs.append(Tensor(o["name"], o["datatype"], o["shape"], values, parameters))
            rest = rest[taken:]
        assert rest == b""
        return _rest_answer(response, outputs, answer)


class GrpcTyped:
    """Open Inference over gRPC with typed contents."""

    def __init__(self, announced: dict[str, str], authority: Path | None = None) -> None:
        self._channel = (
            grpc.insecure_channel(announced["grpc"])
            if authority is None
            else grpc.secure_channel(
                announced["grpc"], grpc.ssl_channel_credentials(authority.read_bytes())
            )
        )

    def close(self) -> None:
        self._channel.close()

    def infer(
        self,
        model: str,
        tensors: list[Tensor],
        version: str = "",
        request_id: str = "",
        **more: Any,
    ) -> Answer:
        message = pb.ModelInferRequest(
            model_name=model, model_version=version, id=more.get("id", "")
        )
        set_parameters(more.get("parameters", {}), message.parameters)
        for wanted in _wanted(more):
            added = message.outputs.add(name=wanted["name"])
            set_parameters(wanted["parameters"], added.parameters)
        for tensor in tensors:
            added = message.inputs.add(
                name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
            )
            set_parameters(tensor.parameters, added.parameters)
            self._fill(message, added, tensor)
        response, trailing = self._ask("ModelInfer", message, pb.ModelInferResponse, request_id)
        outputs = [
            Tensor(
                o.name,
                o.datatype,
                list(o.shape),
                self._values(response, index),
                get_parameters(o.parameters),
            )
            for index, o in enumerate(response.outputs)
        ]
        return Answer(
            outputs,
            response.id,
            response.model_name,
            response.model_version,
            get_parameters(response.parameters),
            trailing["x-request-id"],
        )

    def metadata(self, model: str) -> dict[str, Any]:
        message = pb.ModelMetadataRequest(name=model)
        response, _ = self._ask("ModelMetadata", message, pb.ModelMetadataResponse)
        answer = {
            "name": response.name,
            "versions": list(response.versions),
            "platform": response.platform,
            "inputs": [_tensor_metadata(t) for t in response.inputs],
            "outputs": [_tensor_metadata(t) for t in response.outputs],
        }
        parameters = get_parameters(response.parameters)
        return {**answer, "parameters": parameters} if parameters else answer

    def server_metadata(self) -> dict[str, Any]:
        message = pb.ServerMetadataRequest()
        found, _ = self._ask("ServerMetadata", message, pb.ServerMetadataResponse)
        return {"name": found.name, "version": found.version, "extensions": list(found.extensions)}

    def model_ready(self, model: str) -> bool:
        message = pb.ModelReadyRequest(name=model)
        return self._ask("ModelReady", message, pb.ModelReadyResponse)[0].ready

    def ready(self) -> bool:
        return self._ask("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse)[0].ready

    def _fill(self, message: Any, added: Any, tensor: Tensor) -> None:
        # FP16 has no field; what is sent in another one must be refused.
        field = FIELDS.get(tensor.datatype, "fp32_contents")
        getattr(added.contents, field).extend(tensor.values)

    def _values(self, response: Any, index: int) -> list[Any]:
        assert not response.raw_output_contents
        output = response.outputs[index]
        return list(getattr(output.contents, FIELDS[output.datatype]))

    def _ask(self, method: str, message: Any, kind: Any, request_id: str = "") -> Any:
        metadata = (("x-request-id", request_id),) if request_id else ()
        call = self._channel.unary_unary(
            PREFIX + method, lambda sent: sent.SerializeToString(), kind.FromString
        )
        try:
            answer, done = call.with_call(message, timeout=30, metadata=metadata)
        except grpc.RpcError as refused:
            kinds = {kind for kind, row in GRPC_TABLE.items() if row.code is refused.code()}
            trailing = dict(refused.trailing_metadata())
            code = trailing.get("x-error-code", "")
            raise Refused(
                kinds, code, refused.details(), trailing.get("x-request-id", "")
            ) from None
        return answer, dict(done.trailing_metadata())


class GrpcRaw(GrpcTyped):
    """Open Inference over gRPC with raw contents."""

    def _fill(self, message: Any, added: Any, tensor: Tensor) -> None:
        message.raw_input_contents.append(to_raw(tensor))

    def _values(self, response: Any, index: int) -> list[Any]:
        assert not response.outputs[index].HasField("contents")
        return from_raw(response.outputs[index].datatype, response.raw_output_contents[index])


def to_raw(tensor: Tensor) -> bytes:
    if tensor.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(v)) + v for v in tensor.values)
    return np.array(tensor.values, NUMPY[tensor.datatype]).tobytes()


def from_raw(datatype: str, raw: bytes) -> list[Any]:
    if datatype != "BYTES":
        return np.frombuffer(raw, NUMPY[datatype]).tolist()
    values = []
    while raw:
        size = 4 + struct.unpack_from("<I", raw)[0]
        values.append(raw[4:size])
        raw = raw[size:]
    return values


def _from_json(datatype: str, data: list[Any]) -> list[Any]:
    if datatype == "BYTES":
        return [value.encode() for value in data]
    if None in data and not datatype.startswith("FP"):
        return data
    # JSON writes FP32 in its shortest form, which is another double.
    return np.array(data, NUMPY[datatype]).tolist()


def set_parameters(values: dict[str, Any], messages: Any) -> None:
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    for name, value in values.items():
        kind = "uint64_param" if type(value) is int and value >= 2**63 else kinds[type(value)]
        setattr(messages[name], kind, value)


def get_parameters(messages: Any) -> dict[str, Any]:
    return {
        name: getattr(message, message.WhichOneof("parameter_choice"))
        for name, message in messages.items()
    }


def _tensor_metadata(tensor: Any) -> dict[str, Any]:
    answer = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    parameters = get_parameters(tensor.parameters)
    return {**answer, "parameters": parameters} if parameters else answer


def _rest_answer(response: dict[str, Any], outputs: list[Tensor], answer: Any) -> Answer:
    return Answer(
        outputs,
        response["id"],
        response["model_name"],
        response.get("model_version", ""),
        response.get("parameters", {}),
        answer.headers["x-request-id"],
    )


def _outputs(more: dict[str, Any]) -> dict[str, Any]:
    wanted = _wanted(more)
    return {**more, "outputs": wanted} if wanted else more


def _wanted(more: dict[str, Any]) -> list[dict[str, Any]]:
    """The outputs that are asked for: names, or names with their parameters."""
    outputs = more.get("outputs", [])
    of = outputs if isinstance(outputs, dict) else {}
    return [{"name": name, "parameters": of.get(name, {})} for name in outputs]


TRANSPORTS = {
    "REST JSON": RestJson,
    "REST JSON, much of it": RestLarge,
    "REST binary": RestBinary,
    "gRPC typed": GrpcTyped,
    "gRPC raw": GrpcRaw,
    "native gRPC typed": GrpcTyped,
    "native gRPC raw": GrpcRaw,
    "REST binary over TLS": RestBinary,
    "native gRPC raw over TLS": GrpcRaw,
}
