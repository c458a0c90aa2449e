"""The CloudEvents headers as runtimes import them from `mlserver.cloudevents`.

The server itself sends them; see `headrace.protocol.cloud_events`.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from headrace.compat.mlserver.middleware import InferenceMiddleware
from headrace.compat.mlserver.settings import ModelSettings, Settings
from headrace.compat.mlserver.types.dataplane import (
    InferenceRequest,
    InferenceResponse,
    Parameters,
)
from headrace.protocol import cloud_events

CLOUDEVENTS_HEADER_ID = cloud_events.ID
CLOUDEVENTS_HEADER_SPECVERSION = cloud_events.SPECVERSION
CLOUDEVENTS_HEADER_SOURCE = cloud_events.SOURCE
CLOUDEVENTS_HEADER_TYPE = cloud_events.TYPE
CLOUDEVENTS_HEADER_SPECVERSION_DEFAULT = cloud_events.SPECVERSION_DEFAULT

CLOUDEVENTS_HEADER_REQUEST_ID = cloud_events.REQUEST_ID
CLOUDEVENTS_HEADER_MODEL_ID = cloud_events.MODEL_ID
CLOUDEVENTS_HEADER_INFERENCE_SERVICE = cloud_events.INFERENCE_SERVICE
CLOUDEVENTS_HEADER_NAMESPACE = cloud_events.NAMESPACE
CLOUDEVENTS_HEADER_ENDPOINT = cloud_events.ENDPOINT


class CloudEventsTypes(Enum):
    """What a header says that its message is."""

    Request = cloud_events.REQUEST
    Response = cloud_events.RESPONSE


def get_namespace() -> str | None:
    """The namespace of Kubernetes in which this process runs, if it does."""
    return cloud_events.namespace()


class CloudEventsMiddleware(InferenceMiddleware):
    """Puts the headers into the parameters of requests and answers."""

    def __init__(self, settings: Settings) -> None:
        self._server = settings.server_name
        self._namespace = get_namespace()

    def request_middleware(
        self, request: InferenceRequest, model_settings: ModelSettings
    ) -> InferenceRequest:
        self._add(request, CloudEventsTypes.Request, model_settings)
        return request

    def response_middleware(
        self, response: InferenceResponse, model_settings: ModelSettings
    ) -> InferenceResponse:
        self._add(response, CloudEventsTypes.Response, model_settings)
        return response

    def _add(self, message: Any, kind: CloudEventsTypes, settings: ModelSettings) -> None:
        added = cloud_events.headers(
            kind.value, settings.name, self._server, self._namespace, message.id
        )
        if message.parameters is None:
            message.parameters = Parameters()
        message.parameters.headers = {**(message.parameters.headers or {}), **added}
