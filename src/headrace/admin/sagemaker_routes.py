"""Routes by which SageMaker loads, lists and unloads the models of a multi-model endpoint.

Source: Amazon SageMaker, "Custom containers contract for multi-model endpoints".
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace.access.needs import ADMIN_ALL, READ_ALL
from headrace.admin.admin_route import AdminRoute
from headrace.admin.json_response import json_response
from headrace.dataplane.hosting import Hosting
from headrace.errors import InvalidInput
from headrace.http.body import read_small_body
from headrace.http.header_fields import collect
from headrace.protocol.open_inference.json_faults import refusal

LARGEST_BODY = 64 * 1024
LONGEST_NAME = 1024
# Models in one answer; the next page begins after the name in its token.
PAGE_SIZE = 100


class Wanted(msgspec.Struct):
    """The body of a request to load a model."""

    model_name: str
    url: str


def sagemaker_routes(hosting: Hosting) -> list[AdminRoute]:
    """The four routes of a multi-model endpoint besides inference."""
    models = HostedModels(hosting)
    return [
        AdminRoute("/models", ADMIN_ALL, models.load, methods=["POST"]),
        AdminRoute("/models", READ_ALL, models.index, methods=["GET"]),
        AdminRoute("/models/{name}", READ_ALL, models.model, methods=["GET"]),
        AdminRoute("/models/{name}", ADMIN_ALL, models.unload, methods=["DELETE"]),
    ]


class HostedModels:
    """One method per route."""

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting

    async def load(self, request: Request) -> Response:
        """Answers once the model can be asked: 409 if it is loaded, 507 if memory is short."""
        body = await read_small_body(
            collect(request.scope["headers"]), request.receive, LARGEST_BODY
        )
        try:
            wanted = msgspec.json.decode(body, type=Wanted)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidInput(refusal(body, Wanted, "the request body")) from None
        name = wanted.model_name
        if not name or len(name) > LONGEST_NAME or "/" in name:
            raise InvalidInput(
                f"model_name: expected a name without /, of 1 to {LONGEST_NAME} characters"
            )
        await self._hosting.load(name, wanted.url)
        return json_response(_shown(name, wanted.url))

    async def index(self, request: Request) -> Response:
        """The models, with a token if there are more of them than fit into an answer."""
        models = self._hosting.places()
        after = request.query_params.get("next_page_token", "")
        first = bisect_right([name for name, _ in models], after) if after else 0
        page = models[first : first + PAGE_SIZE]
        answer: dict[str, Any] = {"models": [_shown(*model) for model in page]}
        if first + PAGE_SIZE < len(models):
            answer["nextPageToken"] = page[-1][0]
        return json_response(answer)

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        return json_response(_shown(name, self._hosting.place(name)))

    async def unload(self, request: Request) -> Response:
        name = request.path_params["name"]
        place = self._hosting.place(name)
        await self._hosting.unload(name)
        return json_response(_shown(name, place))


def _shown(name: str, place: str) -> dict[str, str]:
    return {"modelName": name, "modelUrl": place}
