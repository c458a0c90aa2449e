"""The predict API of TensorFlow Serving, which KServe's v1 protocol and Vertex AI also use.

Sources: TensorFlow Serving's RESTful API, "Predict API" and "Model status API"; KServe's "V1
Inference Protocol"; Vertex AI's "custom container requirements".
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from headrace.adapters.adapter import (
    JSON_HEADERS,
    Adapter,
    Directory,
    HttpRequest,
    ModelView,
    Page,
    Reply,
    Route,
    Schema,
    refuse_plugin,
)
from headrace.adapters.examples import predict_body
from headrace.adapters.mlflow_scoring import MLflowScoring
from headrace.adapters.openapi_parts import PARAMETERS, STRING, json_body, post
from headrace.errors import InvalidInput, UnsupportedMedia, shorten
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.mlflow import scoring
from headrace.protocol.open_inference.json_faults import refusal
from headrace.protocol.open_inference.strange_keys import Typos

ROWS, COLUMNS = "predictions", "outputs"
# TensorFlow Serving's name for the only signature that most models have.
SIGNATURE = "serving_default"
MEDIA_TYPES = (b"", b"application/json", b"application/x-www-form-urlencoded")
# What only a body of MLflow's scoring protocol has.
SCORING_KEYS = {"dataframe_split", "dataframe_records", "messages", "prompt", "input"}

_NOTHING = msgspec.Raw()


class _OpenBody(msgspec.Struct):
    """The top level of a body; absent fields are empty."""

    instances: msgspec.Raw = _NOTHING
    inputs: msgspec.Raw = _NOTHING
    parameters: msgspec.Raw = _NOTHING
    signature_name: str | None = None


class _Body(_OpenBody, forbid_unknown_fields=True):
    pass


def _decode(text: bytes) -> _OpenBody:
    """The body; keys that mean nothing cost a second look.

    Raises:
        InvalidInput: one of them is a typo.
    """
    try:
        return _decode_known(text)
    except msgspec.ValidationError:
        body = _decode_open(text)
    whole = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    Typos().refuse(whole, _OpenBody.__struct_fields__, "the request body")
    return body


_decode_known = msgspec.json.Decoder(_Body).decode
_decode_open = msgspec.json.Decoder(_OpenBody).decode


class PredictV1(Adapter):
    """`instances`, one value per row, or `inputs`, one per input; answered in the same form."""

    name = "predict_v1"
    named_at = "/v1/models/{name}:predict"
    routes: tuple[Route, ...] = (
        Route("/v1/models/{name}:predict"),
        Route("/v1/models/{name}/versions/{version}:predict"),
    )

    def decode(self, request: HttpRequest, model: ModelView) -> tuple[InferenceRequest, Any]:
        if _media_type(request) not in MEDIA_TYPES:
            raise UnsupportedMedia("this route takes application/json")
        refuse_plugin(model)
        try:
            body = _decode(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidInput(refusal(request.body, _OpenBody, "the request body")) from None
        if body.signature_name not in (None, "", SIGNATURE):
            raise InvalidInput(
                f"signature_name: expected '{SIGNATURE}', got '{shorten(body.signature_name)}'"
            )
        fields = {"instances": body.instances, "inputs": body.inputs, "params": body.parameters}
        fields = {name: value for name, value in fields.items() if len(value)}
        if "params" in fields and bytes(fields["params"])[:1] != b"{":
            raise InvalidInput("parameters: expected a JSON object")
        if ("instances" in fields) is ("inputs" in fields):
            raise InvalidInput("the request body: expected either instances or inputs")
        # MLflow took these forms from here, so the same values mean the same to it.
        decoded = scoring.decode(msgspec.json.encode(fields), "application/json", model.signature)
        return decoded.request, ROWS if "instances" in fields else COLUMNS

    def encode(self, model: ModelView, response: InferenceResponse, id: str, context: Any) -> Reply:
        return Reply(200, JSON_HEADERS, scoring.encode(response, context))

    def models(self, directory: Directory) -> Reply:
        """KServe lists names, and OpenAI's clients expect objects; the answer has both."""
        names = directory.names()
        data = [_listed(name) for name in names]
        answer = {"models": names, "object": "list", "data": data}
        return Reply(200, JSON_HEADERS, orjson.dumps(answer))

    def model(self, directory: Directory, name: str) -> Reply:
        """KServe's readiness of one model, with TensorFlow Serving's status of its versions.

        OpenAI's clients find what they expect of a model too.

        Raises:
            NotFound: there is no such model.
            ModelNotReady: it cannot answer now; a ModelUnavailable if it will not by itself.
        """
        directory.require_ready(name)
        versions = [
            _status(version, directory.model_ready(name, version))
            for version in directory.versions(name)
        ]
        versions = versions or [_status("1", True)]
        status = {"name": name, "ready": True, "model_version_status": versions}
        answer = {**status, **_listed(name)}
        return Reply(200, JSON_HEADERS, orjson.dumps(answer))

    pages: tuple[Page, ...] = (
        Page("/v1/models", models, "The models, as KServe and as OpenAI's clients list them"),
        Page("/v1/models/{name}", model, "Whether a model can answer"),
    )

    def operation(self, route: Route, model: ModelView) -> Schema:
        body = json_body({"$ref": "#/components/schemas/PredictRequest"}, predict_body(model))
        return post(f"Predict with {model.name}", body, "PredictResponse")

    schemas = {
        "PredictRequest": {
            "type": "object",
            "description": "Either instances, one value per row, or inputs, one value per input.",
            "properties": {
                "instances": {"type": "array", "items": {}},
                "inputs": {},
                "parameters": PARAMETERS,
                "signature_name": STRING,
            },
        },
        "PredictResponse": {
            "type": "object",
            "properties": {"predictions": {}, "outputs": {}},
        },
    }


class FurtherPredictV1(PredictV1):
    """The same protocol at a path that a platform chose, for the only model that is served.

    Vertex AI's `rawPredict` sends any body there: what `/invocations` takes is taken too.
    """

    pages = ()

    def __init__(self, path: str) -> None:
        self.routes = (Route(path),)
        self._scoring = MLflowScoring()

    def decode(self, request: HttpRequest, model: ModelView) -> tuple[InferenceRequest, Any]:
        if _media_type(request) in MEDIA_TYPES and not _is_of_scoring(request.body):
            return super().decode(request, model)
        return self._scoring.decode(request, model)

    def encode(self, model: ModelView, response: InferenceResponse, id: str, context: Any) -> Reply:
        if context in (ROWS, COLUMNS):
            return super().encode(model, response, id, context)
        return self._scoring.encode(model, response, id, context)


def _is_of_scoring(body: bytes) -> bool:
    """Whether the body has one of MLflow's keys, and none of this protocol."""
    if b'"instances"' in body or b'"inputs"' in body:
        return False
    try:
        found = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return not SCORING_KEYS.isdisjoint(found)


def _media_type(request: HttpRequest) -> bytes:
    return request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _listed(name: str) -> dict[str, Any]:
    """A model as OpenAI's clients read it; when it was made is known of none."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "headrace"}


def _status(version: str, is_ready: bool) -> dict[str, Any]:
    """One version as TensorFlow Serving's ModelVersionStatus."""
    state = "AVAILABLE" if is_ready else "LOADING"
    return {
        "version": version,
        "state": state,
        "status": {"error_code": "OK", "error_message": ""},
    }
