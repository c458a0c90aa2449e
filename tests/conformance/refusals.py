"""How each transport reports an error, read off the wire and compared with one table.

The table is written out here rather than taken from the server, whose own may be wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from conformance.transports import PREFIX
from headrace.protocol.open_inference import inference_pb2 as pb
from support.asking import Answer, ask, numbers

REST, RPC, SCORING = "REST", "gRPC", "MLflow"
LEAKS = ("\n", "Traceback", ".py", "/tmp/")


class Row(NamedTuple):
    """How one kind of error is reported; `close` is the end of an HTTP connection."""

    rest: int
    rpc: str
    mlflow: str
    retry: bool = False
    close: bool = False


ROWS = {
    "invalid_argument": Row(400, "INVALID_ARGUMENT", "INVALID_PARAMETER_VALUE"),
    "malformed_body": Row(400, "INVALID_ARGUMENT", "BAD_REQUEST"),
    "unsupported_media": Row(415, "INVALID_ARGUMENT", "BAD_REQUEST"),
    "too_large": Row(413, "RESOURCE_EXHAUSTED", "BAD_REQUEST", close=True),
    "headers_too_large": Row(431, "RESOURCE_EXHAUSTED", "BAD_REQUEST", close=True),
    "unauthenticated": Row(401, "UNAUTHENTICATED", "UNAUTHENTICATED"),
    "forbidden": Row(403, "PERMISSION_DENIED", "PERMISSION_DENIED"),
    "not_found": Row(404, "NOT_FOUND", "RESOURCE_DOES_NOT_EXIST"),
    "method_not_allowed": Row(405, "UNIMPLEMENTED", "BAD_REQUEST"),
    "model_not_ready": Row(503, "UNAVAILABLE", "TEMPORARILY_UNAVAILABLE", retry=True),
    "model_unavailable": Row(503, "FAILED_PRECONDITION", "INVALID_STATE"),
    "conflict": Row(409, "ABORTED", "RESOURCE_CONFLICT"),
    "load_failed": Row(422, "FAILED_PRECONDITION", "INVALID_STATE"),
    "invalid_model": Row(422, "FAILED_PRECONDITION", "INVALID_STATE"),
    "overloaded": Row(503, "UNAVAILABLE", "TEMPORARILY_UNAVAILABLE", retry=True),
    "rate_limited": Row(429, "RESOURCE_EXHAUSTED", "REQUEST_LIMIT_EXCEEDED", retry=True),
    "deadline_exceeded": Row(504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
    "request_timeout": Row(408, "DEADLINE_EXCEEDED", "BAD_REQUEST", close=True),
    "model_error": Row(500, "INTERNAL", "INTERNAL_ERROR"),
    "bad_model_output": Row(500, "INTERNAL", "INTERNAL_ERROR"),
    "worker_crashed": Row(503, "UNAVAILABLE", "TEMPORARILY_UNAVAILABLE", retry=True),
    "poisoned": Row(500, "INTERNAL", "INTERNAL_ERROR"),
    "unimplemented": Row(501, "UNIMPLEMENTED", "NOT_IMPLEMENTED"),
    "shutting_down": Row(503, "UNAVAILABLE", "TEMPORARILY_UNAVAILABLE", retry=True, close=True),
}


class Refusal(NamedTuple):
    """One refusal as received. `kind` is empty where the protocol has no place for it."""

    transport: str
    code: Any
    kind: str
    message: str
    retry: bool
    close: bool


def http_refusal(answer: Answer | None) -> Refusal:
    """A refusal over REST or of MLflow's routes, depending on the form of its body."""
    assert answer is not None, "the connection just closed"
    assert answer.headers["content-type"] == "application/json", answer
    retry, close = "retry-after" in answer.headers, answer.headers.get("connection") == "close"
    assert not retry or int(answer.headers["retry-after"]) > 0
    body = answer.json
    if "error_code" in body:
        assert body.keys() == {"error_code", "message"}
        code = (answer.status, body["error_code"])
        return Refusal(SCORING, code, "", body["message"], retry, close)
    assert body.keys() == {"error", "code"}
    return Refusal(REST, answer.status, body["code"], body["error"], retry, close)


def grpc_refusal(call: Callable[..., Any], *arguments: Any, **more: Any) -> Refusal:
    """How a gRPC call is refused."""
    try:
        call(*arguments, **{"timeout": 30, **more})
    except grpc.RpcError as refused:
        trailing = dict(refused.trailing_metadata() or ())
        retry = int(trailing.get("retry-after", 0)) > 0
        kind, code = trailing.get("x-error-code", ""), refused.code().name
        return Refusal(RPC, code, kind, refused.details(), retry, False)
    raise AssertionError("the call was answered")


def require(kind: str, *refusals: Refusal) -> None:
    """Every refusal is as the kind's row says, and its message gives nothing away."""
    row = ROWS[kind]
    codes = {REST: row.rest, RPC: row.rpc, SCORING: (row.rest, row.mlflow)}
    assert refusals
    for refusal in refusals:
        assert refusal.code == codes[refusal.transport], refusal
        assert refusal.kind in (kind, ""), refusal
        assert refusal.retry == row.retry, refusal
        assert refusal.close >= (row.close and refusal.transport != RPC), refusal
        assert refusal.message, refusal
        assert not any(leak in refusal.message for leak in LEAKS), refusal


def require_same_message(*refusals: Refusal) -> None:
    """All messages are the same, and all but those of MLflow's routes have a kind."""
    assert len({refusal.message for refusal in refusals}) == 1, refusals
    assert all(refusal.kind for refusal in refusals if refusal.transport != SCORING), refusals


class Transports:
    """The three ways to call a model of one server, and the server's other methods over gRPC."""

    def __init__(self, announced: dict[str, str], alone: str | None = None) -> None:
        self.http = announced["http"]
        self.alone = alone
        self.channel = grpc.insecure_channel(announced["grpc"])

    def rest(self, model: str, *values: float, version: str = "", **more: Any) -> Refusal:
        return http_refusal(ask(self.http, "POST", path(model, version), numbers(*values), **more))

    def rpc(self, model: str, *values: float, version: str = "", **more: Any) -> Refusal:
        return grpc_refusal(
            self.method("ModelInfer"), message(model, *values, version=version), **more
        )

    def scoring(self, model: str, *values: float, version: str = "", **more: Any) -> Refusal:
        """Through /invocations itself if the server has only this model."""
        where = "/invocations" if model == self.alone else path(model, version, "invocations")
        return http_refusal(ask(self.http, "POST", where, scored(*values), **more))

    @property
    def all(self) -> list[Callable[..., Refusal]]:
        return [self.rest, self.rpc, self.scoring]

    def everywhere(self, model: str, *values: float, **more: Any) -> list[Refusal]:
        """The refusals of all three, one after the other."""
        return [transport(model, *values, **more) for transport in self.all]

    def method(self, name: str, kind: Any = pb.ModelInferResponse) -> Any:
        return self.channel.unary_unary(
            name if name.startswith("/") else PREFIX + name,
            lambda sent: sent if isinstance(sent, bytes) else sent.SerializeToString(),
            kind.FromString,
        )

    def stream(self, model: str, *values: float) -> Refusal:
        call = self.channel.stream_stream(
            PREFIX + "ModelStreamInfer",
            lambda sent: sent.SerializeToString(),
            pb.ModelInferResponse.FromString,
        )
        return grpc_refusal(
            lambda sent, **more: list(call(sent, **more)), iter([message(model, *values)])
        )

    def repository(
        self, verb: str, model: str, parameters: dict[str, str] | None = None
    ) -> list[Refusal]:
        """The refusals of `load` or `unload`, over REST and gRPC."""
        body = {"parameters": parameters} if parameters else {}
        rest = http_refusal(ask(self.http, "POST", f"/v2/repository/models/{model}/{verb}", body))
        kind = {"load": pb.RepositoryModelLoadRequest, "unload": pb.RepositoryModelUnloadRequest}
        sent = kind[verb](model_name=model)
        for name, value in (parameters or {}).items():
            sent.parameters[name].string_param = value
        method = self.method(f"RepositoryModel{verb.capitalize()}", pb.RepositoryModelLoadResponse)
        return [rest, grpc_refusal(method, sent)]


def path(model: str, version: str = "", verb: str = "infer") -> str:
    return f"/v2/models/{model}{f'/versions/{version}' if version else ''}/{verb}"


def message(model: str, *values: float, version: str = "") -> pb.ModelInferRequest:
    """The same request as `numbers` is over REST."""
    sent = pb.ModelInferRequest(model_name=model, model_version=version)
    added = sent.inputs.add(name="x", datatype="FP64", shape=[len(values)])
    added.contents.fp64_contents.extend(values)
    return sent


def scored(*values: float) -> dict[str, Any]:
    """The same request as `numbers`, for MLflow's routes."""
    return {"inputs": {"x": list(values)}}
