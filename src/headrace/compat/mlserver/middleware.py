"""What sees the requests and answers of a model in MLServer."""

from __future__ import annotations

from headrace.compat.mlserver.settings import ModelSettings
from headrace.compat.mlserver.types.dataplane import InferenceRequest, InferenceResponse


class InferenceMiddleware:
    """Both methods return what they were given, changed or not."""

    def request_middleware(
        self, request: InferenceRequest, model_settings: ModelSettings
    ) -> InferenceRequest:
        """See a request before its model does."""
        raise NotImplementedError

    def response_middleware(
        self, response: InferenceResponse, model_settings: ModelSettings
    ) -> InferenceResponse:
        """See an answer before its caller does."""
        raise NotImplementedError


class InferenceMiddlewares(InferenceMiddleware):
    """Several middlewares, applied one after the other."""

    def __init__(self, *inference_middlewares: InferenceMiddleware) -> None:
        self._middlewares = inference_middlewares

    def request_middleware(
        self, request: InferenceRequest, model_settings: ModelSettings
    ) -> InferenceRequest:
        for each in self._middlewares:
            request = each.request_middleware(request, model_settings)
        return request

    def response_middleware(
        self, response: InferenceResponse, model_settings: ModelSettings
    ) -> InferenceResponse:
        for each in self._middlewares:
            response = each.response_middleware(response, model_settings)
        return response
