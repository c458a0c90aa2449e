"""What the adapters declare is what is routed, documented and refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.routing import Route

from headrace.application import PROTOCOLS, Application
from headrace.http.router import Router
from headrace.settings import ServerSettings
from headrace.sources.supply import Supply

PAGE = Path(__file__).parents[3] / "docs/reference/http.md"
ROUTER = Router(PROTOCOLS)
Methods = dict[str, set[str]]


def documented() -> Methods:
    """The methods of each path in the page's table, with the versions described below it."""
    found: Methods = {}
    rows = re.findall(r"^\| (.*?`/.*?) \| ([A-Z, ]+) \|", PAGE.read_text(), re.MULTILINE)
    for paths, methods in rows:
        for path in re.findall(r"`(/[^`]*)`", paths):
            found[path] = set(methods.split(", "))
            if path.startswith("/v2/models/{name}") or path.endswith(":predict"):
                versioned = path.replace("{name}", "{name}/versions/{version}")
                found[versioned] = found[path]
    return found


def served() -> Methods:
    """The methods of each path that the protocols or the admin application have a route for."""
    application = Application(ServerSettings(), Supply([], lambda name: []))
    found: Methods = {route.path: {"POST"} for _, route in ROUTER.routes()}
    for route in application.http._admin.routes:
        if isinstance(route, Route):
            # Each exists with a slash at the end too.
            methods = found.setdefault(route.path.rstrip("/") or "/", set())
            methods |= (route.methods or set()) - {"HEAD"}
    return found


def test_the_page_and_the_server_have_the_same_routes() -> None:
    assert documented() == served()


def test_no_two_protocols_declare_one_route() -> None:
    paths = [route.path for _, route in ROUTER.routes()]

    assert len(paths) == len(set(paths))


@pytest.mark.parametrize(
    ("path", "protocol", "name", "version"),
    [
        ("/v2/models/m/infer", "open_inference", "m", None),
        ("/v2/models/m/versions/7/infer", "open_inference", "m", "7"),
        ("/v2/models/a.b-c/generate_stream", "open_inference", "a.b-c", None),
        ("/invocations", "mlflow", None, None),
        ("/v2/models/m/versions/7/invocations", "mlflow", "m", "7"),
        ("/v2/models/m/infer/", "open_inference", "m", None),
        ("/invocations/", "mlflow", None, None),
        ("/api/predict", "raw", None, None),
        ("/v1/models/m:predict", "predict_v1", "m", None),
        ("/v1/models/m/versions/2:predict", "predict_v1", "m", "2"),
    ],
)
def test_a_path_leads_to_a_protocol_and_a_model(
    path: str, protocol: str, name: str | None, version: str | None
) -> None:
    match = ROUTER.match(path)

    assert match is not None
    assert (match.adapter.name, match.name, match.version) == (protocol, name, version)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/m/infer//",
        "/v2/models//infer",
        "/v2/models/a/b/infer",
        "/v2/models/m/versions//infer",
        "/v2/models/m/nothing",
        "/v2/models/m",
        "/INVOCATIONS",
        "/v1/models/m:explain",
        "",
    ],
)
def test_no_other_path_does(path: str) -> None:
    assert ROUTER.match(path) is None


def test_a_route_whose_answers_are_always_streamed_is_not_answered_directly() -> None:
    assert ROUTER.match_direct("/v2/models/m/infer_stream") is None
    assert ROUTER.match_direct("/v2/models/m/infer") is not None


def test_long_paths_of_strangers_are_not_remembered() -> None:
    router = Router(PROTOCOLS)
    for number in range(10):
        router.match(f"/v2/models/{number:0>300}/infer")

    assert router._remembered.cache_info().currsize == 0
