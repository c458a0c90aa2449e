"""The answers of admin routes."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

JSON = "application/json"
# Names and versions of models are in many answers.
NO_PAGE = {"x-content-type-options": "nosniff"}


def json_response(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """An answer in JSON, which no browser takes for anything else."""
    return Response(orjson.dumps(content), status, {**NO_PAGE, **(headers or {})}, JSON)
