"""Routes of the rollouts of followed models: their state, and what people decide about them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.access.needs import ADMIN, READ
from headrace.admin.admin_route import AdminRoute, seen
from headrace.admin.json_response import json_response
from headrace.admin.object_body import read_object
from headrace.dataplane import DataPlane
from headrace.errors import InvalidInput, shorten

PATH = "/v2/repository/models/{name}/rollout"
# Characters of a reason that a person gives.
LONGEST_GIVEN = 500


def rollout_routes(dataplane: DataPlane) -> list[AdminRoute]:
    """The two routes; the body of a decision may have a reason, and may be empty."""
    rollouts = Rollouts(dataplane)
    return [
        AdminRoute(PATH, READ, rollouts.show, methods=["GET"]),
        AdminRoute(PATH + "/{decision}", ADMIN, rollouts.decide, methods=["POST"]),
    ]


class Rollouts:
    """One method per route."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def show(self, request: Request) -> Response:
        return json_response(seen(self._dataplane, request).rollout(request.path_params["name"]))

    async def decide(self, request: Request) -> Response:
        reason = (await read_object(request)).get("reason") or ""
        if not isinstance(reason, str) or len(reason) > LONGEST_GIVEN:
            raise InvalidInput(f"reason: expected a text of at most {LONGEST_GIVEN} characters")
        name, decision = request.path_params["name"], request.path_params["decision"]
        return json_response(
            seen(self._dataplane, request).decide(name, decision, shorten(reason, LONGEST_GIVEN))
        )
