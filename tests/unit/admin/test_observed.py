"""Observers see requests to admin routes as they see those to models."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from headrace import Model, application
from headrace.asgi import create_app
from headrace.dataplane import Call
from headrace.dataplane.observers.observer import Observer
from headrace.errors import Forbidden, HeadraceError
from headrace.testing import TestClient


class Double(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2


class Guard(Observer):
    """Refuses everyone who does not know the word."""

    def admit(self, call: Call) -> None:
        if call.headers.get(b"x-word") != b"please":
            raise Forbidden("say the word")


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(application, "observers", lambda settings: (Guard(),))
    with TestClient(Double) as client:
        yield client


def test_one_observer_guards_every_route(guarded: TestClient) -> None:
    document = guarded.get("/openapi.json", headers={"X-Word": "please"}).json()
    routes = [
        (method, re.sub("{.*?}", "Double", path))
        for path, item in document["paths"].items()
        for method in item
        if method in ("get", "post")
    ]
    routes += [("get", "/"), ("get", "/docs"), ("get", "/openapi.json"), ("get", "/api/swagger")]
    answers = {route: guarded.request(route[0].upper(), route[1]) for route in routes}

    assert len(routes) > 20
    assert {answer.status_code for answer in answers.values()} == {403}
    assert all("say the word" in answer.text for answer in answers.values())


def test_an_admitted_request_reaches_the_route(guarded: TestClient) -> None:
    answer = guarded.get("/v2/models/Double", headers={"X-Word": "please", "X-Request-Id": "mine"})

    assert (answer.status_code, answer.json()["name"]) == (200, "Double")
    assert answer.headers["x-request-id"] == "mine"


def test_a_slash_at_the_end_changes_nothing() -> None:
    with TestClient(Double) as client:
        for path in ("/v2", "/v2/health/ready", "/v2/models/Double", "/v1/models"):
            plain, slashed = client.get(path), client.get(f"{path}/")

            assert (slashed.status_code, slashed.json()) == (plain.status_code, plain.json())
        plain, slashed = (client.post(f"/v2/models/Double/infer{end}") for end in ("", "/"))
        assert (slashed.status_code, slashed.json()) == (plain.status_code, plain.json())


def test_a_bug_in_an_admin_route_is_an_error_in_json_and_a_call_that_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[tuple[str, object]] = []

    class Ends(Observer):
        def refused(self, call: Call, error: HeadraceError) -> None:
            ended.append((call.route, call.status))

    def fail(*_: object) -> None:
        raise OSError("secret")

    monkeypatch.setattr(application, "observers", lambda settings: (Ends(),))
    monkeypatch.setattr("headrace.admin.openapi.document", fail)
    with TestClient(Double) as client:
        answer = client.get("/openapi.json")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"]
    assert ended == [("/openapi.json", 500)]


def test_a_path_without_a_route_is_refused_by_a_guard_too(guarded: TestClient) -> None:
    assert guarded.get("/nowhere").status_code == 403
    assert guarded.request("DELETE", "/v2").status_code == 403


def test_metrics_are_served_below_the_path_where_the_server_is_mounted() -> None:
    app = create_app(Double, parallel_workers=0)
    mounted = Starlette(routes=[Mount("/sub", app)])

    async def ask() -> list[int]:
        await app.start()
        transport = httpx.ASGITransport(mounted)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            paths = ("/sub/metrics", "/sub/metrics/", "/sub/v2/")
            found = [(await client.get(path)).status_code for path in paths]
        await app.stop()
        return found

    assert asyncio.run(ask()) == [200, 200, 200]
