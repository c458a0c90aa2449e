"""A route about the server or its models, with what it needs its callers to be allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from headrace.access.needs import Needs
from headrace.dataplane import DataPlane
from headrace.http.refusals import CALL


class AdminRoute(Route):
    """Starlette's route; `needs` is read by whatever checks keys, and cannot be left out."""

    def __init__(
        self, path: str, needs: Needs, endpoint: Any, methods: Sequence[str] = ("GET",)
    ) -> None:
        super().__init__(path, endpoint, methods=list(methods))
        self.needs = needs


def seen(dataplane: DataPlane, request: Request) -> DataPlane:
    """The data plane with the models that the caller may see."""
    return dataplane.seen_by(request.scope[CALL])
