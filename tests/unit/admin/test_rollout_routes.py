"""Who may decide about rollouts, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import Model
from headrace.testing import TestClient

ROLLOUT = "/v2/repository/models/Echo/rollout"


class Echo(Model):
    def predict(self, x: list[str]) -> list[str]:
        return x


@pytest.mark.parametrize(
    ("method", "path", "settings", "body", "status", "told"),
    [
        ("GET", ROLLOUT, {}, None, 404, "model 'Echo' is not followed"),
        ("POST", f"{ROLLOUT}/promote", {}, None, 404, "model 'Echo' is not followed"),
        ("POST", f"{ROLLOUT}/promote", {"allow_repository_api": False}, None, 403, "switched off"),
        ("POST", f"{ROLLOUT}/hold", {}, b"[]", 400, "not a JSON object"),
        ("POST", f"{ROLLOUT}/hold", {}, b'{"reason": 1}', 400, "reason: expected a text"),
        ("GET", f"{ROLLOUT}/hold", {}, None, 405, ""),
    ],
)
def test_what_is_refused(
    method: str, path: str, settings: dict[str, Any], body: bytes | None, status: int, told: str
) -> None:
    with TestClient(Echo, **settings) as client:
        answer = client.request(method, path, content=body)
    assert answer.status_code == status
    assert told in answer.text
