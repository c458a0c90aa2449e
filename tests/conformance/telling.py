"""How each door tells an error, read off the wire and compared with one table.

The table is written out here, and not taken from the server's own, so that it can be wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from conformance.doors import PREFIX
from headrace.protocol.open_inference import inference_pb2 as pb
from support.asking import Answer, ask, numbers

REST, RPC, SCORING = "REST", "gRPC", "MLflow"


class Row(NamedTuple):
    """What one kind of error is told as; `close` is the end of an HTTP connection."""

    rest: int
    rpc: str
    mlflow: str
    retry: bool = False
    close: bool = False


ROWS = {
    "invalid_argument": Row(400, "INVALID_ARGUMENT", "INVALID_PARAMETER_VALUE"),
    "unsupported_media": Row(415, "INVALID_ARGUMENT", "BAD_REQUEST"),
    "too_large": Row(413, "RESOURCE_EXHAUSTED", "BAD_REQUEST", close=True),
    "headers_too_large": Row(431, "RESOURCE_EXHAUSTED", "BAD_REQUEST", close=True),
    "forbidden": Row(403, "PERMISSION_DENIED", "PERMISSION_DENIED"),
    "not_found": Row(404, "NOT_FOUND", "RESOURCE_DOES_NOT_EXIST"),
    "method_not_allowed": Row(405, "UNIMPLEMENTED", "BAD_REQUEST"),
    "model_not_ready": Row(503, "UNAVAILABLE", "TEMPORARILY_UNAVAILABLE", retry=True),
    "conflict": Row(409, "ABORTED", "RESOURCE_CONFLICT"),
    "load_failed": Row(422, "FAILED_PRECONDITION", "INVALID_STATE"),
    "invalid_model": Row(422, "FAILED_PRECONDITION", "INVALID_STATE"),
    "overloaded": Row(503, "UNAVAILABLE", "TEMPORARILY_UNAVAILABLE", retry=True),
    "deadline_exceeded": Row(504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
    "request_timeout": Row(408, "DEADLINE_EXCEEDED", "BAD_REQUEST", close=True),
    "model_error": Row(500, "INTERNAL", "INTERNAL_ERROR"),
    "bad_model_output": Row(500, "INTERNAL", "INTERNAL_ERROR"),
    "worker_crashed": Row(503, "UNAVAILABLE", "TEMPORARILY_UNAVAILABLE", retry=True),
    "poisoned": Row(500, "INTERNAL", "INTERNAL_ERROR"),
    "unimplemented": Row(501, "UNIMPLEMENTED", "NOT_IMPLEMENTED"),
    "shutting_down": Row(503, "UNAVAILABLE", "TEMPORARILY_UNAVAILABLE", retry=True, close=True),
}


class Told(NamedTuple):
    """One refusal as its door told it. `kind` is empty where the protocol has no place for it."""

    door: str
    code: Any
    kind: str
    message: str
    retry: bool
    close: bool


def told_by_http(answer: Answer | None) -> Told:
    """A refusal of REST or of MLflow's routes, whichever its body has the form of."""
    assert answer is not None, "the connection just closed"
    assert answer.headers["content-type"] == "application/json", answer
    retry, close = "retry-after" in answer.headers, answer.headers.get("connection") == "close"
    assert not retry or int(answer.headers["retry-after"]) > 0
    body = answer.json
    if "error_code" in body:
        assert body.keys() == {"error_code", "message"}
        code = (answer.status, body["error_code"])
        return Told(SCORING, code, "", body["message"], retry, close)
    assert body.keys() == {"error", "code"}
    return Told(REST, answer.status, body["code"], body["error"], retry, close)


def told_by_grpc(call: Callable[..., Any], *arguments: Any, **more: Any) -> Told:
    """How a gRPC call is refused."""
    try:
        call(*arguments, **{"timeout": 30, **more})
    except grpc.RpcError as refused:
        trailing = dict(refused.trailing_metadata() or ())
        retry = int(trailing.get("retry-after", 0)) > 0
        kind, code = trailing.get("x-error-code", ""), refused.code().name
        return Told(RPC, code, kind, refused.details(), retry, False)
    raise AssertionError("the call was answered")


def require(kind: str, *refusals: Told) -> None:
    """Every refusal is told as the kind's row says, in words that give nothing away."""
    row = ROWS[kind]
    codes = {REST: row.rest, RPC: row.rpc, SCORING: (row.rest, row.mlflow)}
    assert refusals
    for told in refusals:
        assert told.code == codes[told.door], told
        assert told.kind in (kind, ""), told
        assert told.retry == row.retry, told
        assert told.close >= (row.close and told.door != RPC), told
        assert told.message, told
        assert not any(leak in told.message for leak in ("\n", "Traceback", ".py", "/tmp/")), told


def require_same_words(*refusals: Told) -> None:
    """All tell the same, and those of our own doors tell the kind as well."""
    assert len({told.message for told in refusals}) == 1, refusals
    assert all(told.kind for told in refusals if told.door != SCORING), refusals


class Doors:
    """The three ways to ask one server for an inference, and its other methods over gRPC."""

    def __init__(self, announced: dict[str, str], alone: str | None = None) -> None:
        self.http = announced["http"]
        self.alone = alone
        self.channel = grpc.insecure_channel(announced["grpc"])

    def rest(self, model: str, *values: float, version: str = "", **more: Any) -> Told:
        return told_by_http(ask(self.http, "POST", path(model, version), numbers(*values), **more))

    def rpc(self, model: str, *values: float, version: str = "", **more: Any) -> Told:
        return told_by_grpc(
            self.method("ModelInfer"), message(model, *values, version=version), **more
        )

    def scoring(self, model: str, *values: float, version: str = "", **more: Any) -> Told:
        """Through /invocations itself where the server has this model alone."""
        where = "/invocations" if model == self.alone else path(model, version, "invocations")
        return told_by_http(ask(self.http, "POST", where, scored(*values), **more))

    @property
    def all(self) -> list[Callable[..., Told]]:
        return [self.rest, self.rpc, self.scoring]

    def everywhere(self, model: str, *values: float, **more: Any) -> list[Told]:
        """The refusals of all three, one after the other."""
        return [door(model, *values, **more) for door in self.all]

    def method(self, name: str, kind: Any = pb.ModelInferResponse) -> Any:
        return self.channel.unary_unary(
            name if name.startswith("/") else PREFIX + name,
            lambda sent: sent if isinstance(sent, bytes) else sent.SerializeToString(),
            kind.FromString,
        )

    def stream(self, model: str, *values: float) -> Told:
        call = self.channel.stream_stream(
            PREFIX + "ModelStreamInfer",
            lambda sent: sent.SerializeToString(),
            pb.ModelInferResponse.FromString,
        )
        return told_by_grpc(
            lambda sent, **more: list(call(sent, **more)), iter([message(model, *values)])
        )

    def repository(
        self, verb: str, model: str, parameters: dict[str, str] | None = None
    ) -> list[Told]:
        """The refusals of `load` or `unload`, over REST and gRPC."""
        body = {"parameters": parameters} if parameters else {}
        rest = told_by_http(ask(self.http, "POST", f"/v2/repository/models/{model}/{verb}", body))
        kind = {"load": pb.RepositoryModelLoadRequest, "unload": pb.RepositoryModelUnloadRequest}
        sent = kind[verb](model_name=model)
        for name, value in (parameters or {}).items():
            sent.parameters[name].string_param = value
        method = self.method(f"RepositoryModel{verb.capitalize()}", pb.RepositoryModelLoadResponse)
        return [rest, told_by_grpc(method, sent)]


def path(model: str, version: str = "", verb: str = "infer") -> str:
    return f"/v2/models/{model}{f'/versions/{version}' if version else ''}/{verb}"


def message(model: str, *values: float, version: str = "") -> pb.ModelInferRequest:
    """What `numbers` is over REST."""
    sent = pb.ModelInferRequest(model_name=model, model_version=version)
    added = sent.inputs.add(name="x", datatype="FP64", shape=[len(values)])
    added.contents.fp64_contents.extend(values)
    return sent


def scored(*values: float) -> dict[str, Any]:
    """What `numbers` is for MLflow."""
    return {"inputs": {"x": list(values)}}
