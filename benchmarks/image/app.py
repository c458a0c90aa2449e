"""The server one would write by hand: Starlette on uvicorn, calling the function itself."""

from __future__ import annotations

import os

from benchmarks.image import scoring
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

# The folder of the model.
MODEL = "BENCHMARK_ANSWER"


def create() -> Starlette:
    """The application, with its model loaded."""
    model = scoring.load(os.environ[MODEL])

    async def predict(request: Request) -> Response:
        return Response(scoring.score(model, await request.body()), media_type="application/json")

    async def health(request: Request) -> Response:
        return Response()

    return Starlette(
        routes=[Route("/api/predict", predict, methods=["POST"]), Route("/health", health)]
    )
