"""Keys on what models bring with them: mounted applications, endpoints, and plugins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.http.inference import LARGE
from headrace.http.large_requests import MUCH_TEXT
from support.api_keys import KEYS, PRESENTED, bearer, expected, write_keys
from support.asking import Client, ask
from support.plugins import write_plugin
from support.services import serving_service, write_service
from support.serving import Server, serving

pytestmark = pytest.mark.e2e

# What is read on the event loop, in a thread, and, if it is text for the server, elsewhere.
BODIES = (b"x", b"x" * LARGE, b"x" * MUCH_TEXT)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SERVICE = """
from starlette.responses import JSONResponse

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await JSONResponse({name.decode(): value.decode() for name, value in scope["headers"]})(
            scope, receive, send
        )

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(environ).encode()]

svc = Service('NAME')
svc.mount_asgi_app(asgi, "/asgi")
svc.mount_wsgi_app(wsgi, "/wsgi")
svc.mount_asgi_app(asgi, "/")

@svc.api(input=Text(), output=Text())
def shout(text: str) -> str:
    return text.upper()
"""
# Of the service: each application, what is below it, and what only the one at the root answers.
PATHS = ("/asgi", "/asgi/", "/asgi/some/page", "/wsgi", "/wsgi/page", "/page", "/shout/page")


def service(root: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[Server]:
    file = write_service(root, monkeypatch, SERVICE.replace("NAME", name))
    keys = write_keys(root / "keys.json", **KEYS)
    with serving_service(file, "--api-keys-file", keys) as server:
        yield server


@pytest.fixture(scope="module", params=["other", "vault"])
def served(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service, and whether the key for some models is for it."""
    with pytest.MonkeyPatch.context() as patched:
        for server in service(tmp_path_factory.mktemp("service"), patched, request.param):
            yield server, request.param == "other"


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("plugins")
    for name in ("other", "vault"):
        write_plugin(root, f"return {name!r}", name=name, parameters={"version": "1"})
    with serving(root, "--api-keys-file", write_keys(root / "keys.json", **KEYS)) as server:
        yield server


def status(key: str | None, is_for_it: bool) -> int:
    """The one answer to a call of a model, whatever protocol it came by."""
    refused = expected(key, "infer", False)
    return refused or (404 if key == "restricted" and not is_for_it else 200)


@pytest.mark.parametrize("key", PRESENTED)
def test_mounted_applications_answer_the_right_keys_and_no_others(
    served: tuple[Server, bool], key: str | None
) -> None:
    server, is_for_it = served
    headers = bearer(key) if key else {}
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    wrong = {}
    with Client(server.http) as client:
        for path in PATHS:
            for method in METHODS:
                answer = client.ask(method, path, None, headers)
                if answer.status != status(key, is_for_it):
                    wrong[method, path] = answer.status, answer.body
            if (got := ask(server.http, "GET", path, None, {**headers, **upgrade}).status) != (
                status(key, is_for_it)
            ):
                wrong["Upgrade", path] = got
        text = {**headers, "Content-Type": "text/plain"}
        for body in BODIES:
            for path in ("/shout", "/asgi"):
                answer = client.ask("POST", path, body, text)
                if answer.status != status(key, is_for_it):
                    wrong["POST", path, len(body)] = answer.status, answer.body
    assert wrong == {}


def test_mounted_applications_do_not_get_the_key(served: tuple[Server, bool]) -> None:
    server, _ = served
    for path in ("/asgi", "/wsgi", "/page"):
        for sent in (bearer("infer"), {"X-API-Key": "hr_infer"}):
            for body in BODIES:
                answer = ask(server.http, "POST", path, body, {**sent, "X-Mine": "kept"})
                assert (answer.status, b"kept" in answer.body) == (200, True)
                assert b"hr_infer" not in answer.body


@pytest.mark.parametrize("key", PRESENTED)
@pytest.mark.parametrize("name", ["other", "vault"])
def test_plugins_answer_the_right_keys_and_no_others(
    plugins: Server, key: str | None, name: str
) -> None:
    headers = {"Content-Type": "text/plain", **(bearer(key) if key else {})}
    statuses = {
        (path, len(body)): ask(plugins.http, "POST", path, body, headers).status
        for path in (f"/v2/models/{name}/raw", f"/v2/models/{name}/versions/1/raw")
        for body in BODIES
    }

    assert set(statuses.values()) == {status(key, name == "other")}, statuses


def test_the_path_without_a_name_is_for_the_only_plugin_of_the_key(plugins: Server) -> None:
    def told(key: str) -> Any:
        headers = {"Content-Type": "text/plain", **bearer(key)}
        return ask(plugins.http, "POST", "/api/predict", b"x", headers)

    assert told("restricted").body == b"other"
    assert told("infer").status == 400
    assert told("read").status == 403
    assert told("wrong").status == 401
