"""Targets: the bodies of MLflow's scoring protocol and of those that are translated to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Not by the first input that needs it: no input may take a second.
import pandas  # noqa: F401

from fuzz.inference_decoders import checked
from fuzz.target import Target
from headrace.adapters.chat_completions import ChatCompletions
from headrace.adapters.predict_v1 import PredictV1
from headrace.codecs import decode_request
from headrace.protocol.messages import ModelMetadata
from headrace.protocol.mlflow import scoring
from headrace.protocol.mlflow.signature import Signature
from headrace.runtimes.mlflow.mlflow_runtime import _schemas
from headrace.runtimes.mlflow.scoring_payload import Payload

KINDS = ("boolean", "integer", "long", "float", "double", "string", "binary", "datetime")
# As an MLmodel file has them; the first model has none.
RAW: list[dict[str, Any]] = [
    {},
    {"inputs": [{"type": "double", "name": name} for name in "ab"]},
    {"inputs": [{"type": kind, "name": kind[:2]} for kind in KINDS]},
    {"inputs": [{"type": kind} for kind in KINDS]},
    {"inputs": [{"type": "boolean", "name": "a", "required": False}]},
    {"inputs": [{"type": "tensor", "tensor-spec": {"dtype": "int32", "shape": [-1, 2]}}]},
    {
        "inputs": [{"type": "array", "name": "a", "items": {"type": "long"}}],
        "params": [{"name": "p", "type": "long", "default": 1, "shape": None}],
    },
]
SIGNATURES = [Signature.parse(raw) if raw else None for raw in RAW]


class Request:
    """A request as adapters see it."""

    scope: Mapping[str, Any] = {}

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.headers = {b"content-type": b"application/json"}


class Model:
    """A model as adapters see it."""

    name, version = "m", None
    is_ready = True
    cloud_events = None
    model_metadata = ModelMetadata(parameters={"task": "llm/v1/chat"})

    def __init__(self, signature: Signature | None) -> None:
        self.signature = self.scoring_signature = signature

    def pass_over(self, kind: str, words: Any) -> None:
        """Nothing to do."""


def _scored(body: bytes, media_type: str, number: int) -> None:
    """Decode a body in the front, and what is left of it as a worker does."""
    number %= len(RAW)
    signature = SIGNATURES[number]
    request = checked(scoring.decode(scoring.without_stream(body), media_type, signature).request)
    given = (request.parameters or {}).get("content_type")
    if given != scoring.SCORING:
        return
    payload = Payload(
        signature, _schemas(RAW[number] or None), lambda found: decode_request(found, "pd")
    )
    payload.decode(request)


def scoring_json(data: bytes) -> None:
    if data:
        _scored(data[1:], "application/json", data[0])


def scoring_csv(data: bytes) -> None:
    if data:
        _scored(data[1:], "text/csv", data[0])


def predict_v1(data: bytes) -> None:
    if data:
        model = Model(SIGNATURES[data[0] % len(SIGNATURES)])
        checked(PredictV1().decode(Request(data[1:]), model)[0])


_CHAT = ChatCompletions()


def chat(data: bytes) -> None:
    request = Request(data)
    _CHAT.select(None, None, request)
    checked(_CHAT.decode(request, Model(None))[0])


_BODIES = [
    b'{"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, 2]]}}',
    b'{"dataframe_records": [{"a": 1, "b": null}], "params": {"p": 2}}',
    b'{"instances": [{"a": [1, 2]}, {"a": [3]}]}',
    b'{"inputs": {"a": [1], "b": [2.5]}, "stream": true}',
    b'{"messages": [{"role": "user", "content": "x"}]}',
]
_WORDS = [
    *(b'"dataframe_split"', b'"dataframe_records"', b'"instances"', b'"inputs"', b'"params"'),
    *(b'"columns"', b'"data"', b'"index"', b'"stream"', b"null", b"NaN", b"-Infinity", b"1e400"),
    *(b'"2020-01-01T00:00:00"', b"[]", b"{}", b"\\ud800", b"9223372036854775808", b'"bo"'),
]
_PROMPT = (
    b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}'
)

TARGETS = {
    "scoring_json": Target(
        scoring_json,
        [bytes([kind]) + body for kind, body in enumerate(_BODIES * 2)],
        _WORDS,
    ),
    "scoring_csv": Target(
        scoring_csv,
        [b"\x00a,b\n1,2\n", b"\x01a,b\n1.5,\n", b'\x02bo,in\ntrue,"1\n"\n', b"\x06a\n[1]\n"],
        [b",", b"\n", b"\r\n", b'"', b'""', b"nan", b"1e400", b"\x00", b"\xef\xbb\xbf", b"a.1"],
    ),
    "predict_v1": Target(
        predict_v1,
        [b"\x01" + b'{"instances": [{"a": 1, "b": 2}], "signature_name": "serving_default"}'],
        [*_WORDS, b'"signature_name"', b'"parameters"'],
    ),
    "chat": Target(chat, [_PROMPT], [*_WORDS, b'"role"', b'"content"', b'"text"', b'"model"']),
}
