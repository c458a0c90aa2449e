"""MLflow's scoring protocol."""

from __future__ import annotations

from typing import Any

from headrace.adapters.adapter import (
    JSON_HEADERS,
    Adapter,
    HttpRequest,
    ModelView,
    Reply,
    Route,
    Schema,
    of_models,
    refuse_plugin,
)
from headrace.adapters.error_bodies import mlflow_error
from headrace.adapters.examples import scoring_body, scoring_csv
from headrace.adapters.openapi_parts import PARAMETERS, STRING, json_body, post, text_body
from headrace.errors import HeadraceError
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.mlflow import scoring
from headrace.protocol.mlflow.scoring_answer import PREDICTIONS
from headrace.protocol.mlflow.signature import PASSED_OVER


class MLflowScoring(Adapter):
    """Tables, tensors and chats as `mlflow models serve` takes them."""

    name = "mlflow"
    named_at = "/v2/models/{name}/invocations"
    routes = (
        Route("/invocations", may_stream=True),
        *of_models("invocations", may_stream=True),
    )
    last_event = b"data: [DONE]\n\n"
    error_paths: tuple[str, ...] = ("/ping", "/health", "/version")

    def prefers(self, model: ModelView) -> bool:
        # As in MLServer, an MLflow model takes precedence over others.
        return model.model_metadata.decodes_scoring

    def wants_stream(self, route: Route, body: bytes) -> bool:
        # A body without that word need not be parsed for it.
        return scoring.wants_stream(body)

    def decode(self, request: HttpRequest, model: ModelView) -> tuple[InferenceRequest, Any]:
        refuse_plugin(model)
        content_type = request.headers.get(b"content-type")
        body = request.body
        decoded = scoring.decode(
            scoring.without_stream(body),
            content_type.decode("latin-1") if content_type else None,
            model.scoring_signature,
        )
        return decoded.request, decoded.wrapped

    def encode(self, model: ModelView, response: InferenceResponse, id: str, context: Any) -> Reply:
        _report(model, response)
        return Reply(200, JSON_HEADERS, scoring.encode(response, PREDICTIONS if context else None))

    def event(self, model: ModelView, piece: InferenceResponse, id: str, context: Any) -> bytes:
        _report(model, piece)
        # The bare value, as MLflow's agent server sends it.
        return b"".join((b"data: ", scoring.encode(piece, None), b"\n\n"))

    def error_event(self, body: bytes) -> bytes:
        return b'data: {"error":%b}\n\n' % body

    def error(self, error: HeadraceError) -> tuple[int, bytes]:
        return mlflow_error(error)

    def operation(self, route: Route, model: ModelView) -> Schema:
        streams = model.model_metadata.streams
        schema = "StreamedScoringRequest" if streams else "ScoringRequest"
        body = {
            **json_body({"$ref": f"#/components/schemas/{schema}"}, scoring_body(model)),
            **text_body("text/csv", scoring_csv(model)),
            "application/vnd.apache.parquet": {"schema": {}},
        }
        operation = post(f"Score with {model.name}", body, "ScoringResponse", "ScoringError")
        if streams:
            operation["responses"]["200"]["content"]["text/event-stream"] = {"schema": STRING}
        return operation

    schemas = {
        "ScoringRequest": {
            "type": "object",
            "description": "One of dataframe_split, dataframe_records, instances or inputs.",
            "properties": {
                "dataframe_split": {"type": "object"},
                "dataframe_records": {"type": "array", "items": {"type": "object"}},
                "instances": {"type": "array", "items": {}},
                "inputs": {},
                "params": PARAMETERS,
            },
        },
        "StreamedScoringRequest": {
            "allOf": [{"$ref": "#/components/schemas/ScoringRequest"}],
            "properties": {
                "stream": {"type": "boolean", "description": "answer with server-sent events"},
            },
        },
        "ScoringResponse": {"type": "object", "properties": {"predictions": {}}},
        "ScoringError": {
            "type": "object",
            "required": ["error_code", "message"],
            "properties": {"error_code": STRING, "message": STRING},
        },
    }


def _report(model: ModelView, response: InferenceResponse) -> None:
    """Report what the worker passed over in a body that only it could read."""
    if response.parameters is not None:
        for kind, words in response.parameters.get(PASSED_OVER, {}).items():
            model.pass_over(kind, words)
