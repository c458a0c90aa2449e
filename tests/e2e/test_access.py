"""Keys: every route, method and RPC of a real server, asked with every kind of key."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from headrace.access.needs import Needs
from headrace.adapters.adapter import Route
from headrace.application import protocols
from headrace.asgi import create_app
from headrace.http.http_call import HttpCall
from headrace.settings import ServerSettings
from support import mlserver_sources as sources
from support.api_keys import KEYS, PRESENTED, bearer, expected, write_keys
from support.asking import Client, ask, numbers
from support.custom import write_model
from support.serving import Server, serving, until

pytestmark = pytest.mark.e2e

ROUTES = """
from mlserver import MLModel
from mlserver.handlers import custom_handler

class Runtime(MLModel):
    @custom_handler(rest_path="/own", rest_method="GET")
    async def own(self, request):
        return dict(request.headers)

    @custom_handler(rest_path="/own")
    async def sent(self, payload: list):
        return payload
"""
# What each route of HTTP needs. A new route that is missing here fails a test.
OPEN = {
    *("GET /v2/health/live", "GET /v2/health/ready", "GET /ping", "GET /health", "GET /livez"),
    *("GET /healthz", "GET /readyz", "GET /well", "GET /docs", "GET /v2/docs"),
    "POST /admin/mlflow-webhook",
}
MODEL, VERSION = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
INFER = {
    *(
        f"POST {path}/{verb}"
        for path in (MODEL, VERSION)
        for verb in ("infer", "infer_stream", "generate", "generate_stream", "raw", "invocations")
    ),
    *("POST /v1/models/{name}:predict", "POST /v1/models/{name}/versions/{version}:predict"),
    *("POST /invocations", "POST /custom", "POST /api/predict"),
    *("POST /v1/chat/completions", "POST /v1/responses", "POST /responses"),
    "POST /models/{name}/invoke",
}
DESCRIBE = {
    *("GET /v2", "GET /v2/models", "GET /version", "GET /v1/models", "GET /v1/models/{name}"),
    *(f"GET {path}{page}" for path in (MODEL, VERSION) for page in ("", "/ready", "/config")),
    "GET /agent/info",
}
READ = {
    *("GET /", "GET /openapi.json"),
    *("GET /api/swagger", "GET /swagger.json", "GET /v2/docs/dataplane.json"),
    *("GET /v2/models/stats", "POST /v2/repository/index"),
    "GET /v2/repository/models/{name}/rollout",
    *(
        f"GET {path}{page}"
        for path in (MODEL, VERSION)
        for page in ("/stats", "/docs", "/docs/dataplane.json")
    ),
}
WHOLE_READ = {"GET /metrics", "GET /api/status", "GET /models", "GET /models/{name}"}
ADMIN = {
    *(f"POST /v2/repository/models/{{name}}/{verb}" for verb in ("load", "unload")),
    "POST /v2/repository/models/{name}/rollout/{decision}",
}
WHOLE_ADMIN = {
    *("POST /models", "DELETE /models/{name}"),
    *(
        f"{method} /v2/{kind}sharedmemory/{{path:path}}"
        for method in ("GET", "POST")
        for kind in ("system", "cuda")
    ),
}
NEEDS = {
    **dict.fromkeys(OPEN, ""),
    **dict.fromkeys(INFER, "infer"),
    **dict.fromkeys(DESCRIBE, "read or infer"),
    **dict.fromkeys(READ | WHOLE_READ, "read"),
    **dict.fromkeys(ADMIN | WHOLE_ADMIN, "admin"),
}
REFUSED = {401, 403}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_model(root, name="vault")
    write_model(root, name="other")
    sources.write(root / "owner", ROUTES)
    return root


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("access")
    (folder / "signing").write_text("a secret of webhooks")
    return {
        "api_keys_file": str(write_keys(folder / "keys.json", **KEYS)),
        "platform": "sagemaker",
        "predict_route": "/custom",
        "health_route": "/well",
        "mlflow_webhook_secret_file": str(folder / "signing"),
    }


@pytest.fixture(scope="module")
def server(models: Path, flags: dict[str, str]) -> Any:
    given = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    with serving(models, *given, "--host", "127.0.0.1") as running:
        yield running


def declared(models: Path, flags: dict[str, str]) -> dict[str, Needs | None]:
    """Every route of the application, as `METHOD /path`, with what it declares that it needs."""

    async def routes() -> dict[str, Needs | None]:
        app = create_app(models, **flags, load_models_at_startup=False)
        await app.start()
        try:
            assert app._application is not None
            return {
                f"{method} {route.path}": route.needs
                for route in app._application.http._admin.routes
                if hasattr(route, "path") and (route.path == "/" or route.path[-1] != "/")
                for method in route.methods - {"HEAD"}
            } | {f"POST {route.path}": HttpCall.needs for route in posted(app.settings)}
        finally:
            await app.stop()

    return asyncio.run(routes())


def posted(settings: ServerSettings) -> list[Route]:
    return [route for adapter in protocols(settings) for route in adapter.routes]


def test_every_route_has_a_decision_and_it_is_this_one(models: Path, flags: dict[str, str]) -> None:
    found = declared(models, flags)

    assert None not in found.values()
    assert {
        path: " or ".join(filter(None, needs[:2])) for path, needs in found.items() if needs
    } == NEEDS
    assert {path for path, needs in found.items() if needs and needs.whole} == (
        WHOLE_READ | WHOLE_ADMIN
    )
    assert not any(needs.any_key for needs in found.values() if needs)


@pytest.mark.parametrize("key", PRESENTED)
def test_every_route_lets_the_right_keys_pass_and_no_others(server: Server, key: str) -> None:
    wrong = {}
    with Client(server.http) as client:
        for what, needs in sorted(NEEDS.items()):
            method, path = what.split(" ")
            path = path.replace("{name}", "absent").replace("{version}", "1")
            path = path.replace("{path:path}", "status").replace("{decision}", "hold")
            body = None if method == "GET" else {}
            answer = client.ask(method, path, body, bearer(key) if key else None)
            wanted = expected(key, needs, what in WHOLE_READ | WHOLE_ADMIN)
            status = answer.status if answer.status in REFUSED else None
            # It asks for a signature of its own.
            if status != wanted and path != "/admin/mlflow-webhook":
                wrong[what] = (answer.status, answer.body)
            elif status == 401 and needs:
                assert answer.headers["www-authenticate"].startswith("Bearer"), what
    assert wrong == {}


@pytest.mark.parametrize("path", ["/nothing", "/v2/nothing", "/v2/models/m/nothing", "/v2/"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_strangers_do_not_learn_what_is_served(server: Server, method: str, path: str) -> None:
    assert ask(server.http, method, path).status == 401
    assert ask(server.http, method, path, headers=bearer("infer")).status != 401


@pytest.mark.parametrize("path", ["/own", "/v2/models/other/infer", "/v2"])
def test_refusals_of_strangers_do_not_name_the_methods_of_a_route(
    server: Server, path: str
) -> None:
    answer = ask(server.http, "PUT", path)

    assert answer.status == 401
    assert "allow" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_a_key_for_other_models_does_not_tell_a_models_own_route_from_none(
    server: Server, method: str
) -> None:
    hidden, absent = (
        ask(server.http, method, path, [1], {**bearer("restricted"), "X-Request-Id": "one"})
        for path in ("/own", "/owl")
    )

    assert (hidden.status, hidden.body) == (404, absent.body.replace(b"/owl", b"/own"))
    assert hidden.headers.keys() == absent.headers.keys()
    assert ask(server.http, "PUT", "/own", headers=bearer("infer")).headers["allow"] == "GET, POST"


def test_the_metrics_port_needs_a_key_too(server: Server) -> None:
    statuses = [
        ask(server.metrics, "GET", "/metrics", headers=bearer(key) if key else None).status
        for key in PRESENTED
    ]

    assert statuses == [401, 401, 403, 200, 403, 401, 403]


def test_unknown_and_expired_keys_are_answered_alike_and_the_log_knows_why(server: Server) -> None:
    answers = [ask(server.http, "GET", "/v2", headers=bearer(key)) for key in ("wrong", "expired")]

    assert answers[0].json == answers[1].json
    assert answers[0].json["code"] == "unauthenticated"
    until(lambda: "key 'expired' has expired" in server.log(), 60, "it is logged")
    assert "an unknown API key" in server.log()


@pytest.mark.parametrize("name", ["X-API-Key", "x-api-key"])
def test_a_key_may_come_in_a_header_of_its_own(server: Server, name: str) -> None:
    assert ask(server.http, "GET", "/v2", headers={name: "hr_read"}).status == 200
    assert ask(server.http, "GET", "/v2", headers={name: "hr_wrong"}).status == 401


@pytest.mark.parametrize(
    "given",
    [
        *("", "Bearer", "Bearer ", "hr_read", "Basic aHJfcmVhZA==", "Bearer hr_read, Bearer x"),
        *("Bearer hr_read\tx", "Bearer " + "x" * 8000, "bearerhr_read", "Bearer \x7f\xff"),
    ],
)
def test_what_is_no_key_is_refused(server: Server, given: str) -> None:
    assert ask(server.http, "GET", "/v2", headers={"Authorization": given}).status == 401


def test_a_key_for_some_models_reaches_those_alone(server: Server) -> None:
    body = numbers(1, 2)
    headers = bearer("restricted")
    routes = (
        ("/v2/models/{}/infer", body),
        ("/v1/models/{}:predict", {"instances": [1]}),
        ("/models/{}/invoke", {"instances": [1]}),
    )
    for template, sent in routes:
        for name in ("vault", "absent"):
            answer = ask(server.http, "POST", template.format(name), sent, headers)
            assert answer.status == 404
            assert answer.body.decode() == answer.body.decode().replace("vault", name)
            assert f"'{name}' not found" in answer.body.decode()
        assert ask(server.http, "POST", template.format("other"), sent, headers).status == 200
    # Without a name it is the only one of the protocol, as if there were no others.
    assert ask(server.http, "POST", "/invocations", {"instances": [1]}, headers).status == 200
    assert (
        ask(server.http, "POST", "/invocations", {"instances": [1]}, bearer("infer")).status == 400
    )
    chat = {"model": "vault", "messages": [{"role": "user", "content": "x"}]}
    hidden = ask(server.http, "POST", "/v1/chat/completions", chat, headers)
    absent = ask(server.http, "POST", "/v1/chat/completions", {**chat, "model": "absent"}, headers)
    assert (hidden.status, hidden.body.replace(b"vault", b"absent")) == (404, absent.body)
    assert (
        ask(server.http, "POST", "/own", [1], headers).json["error"] == "nothing is served at /own"
    )
    assert ask(server.http, "POST", "/own", [1], bearer("infer")).json == [1]


def test_a_key_for_some_models_learns_the_name_of_no_other(server: Server) -> None:
    with Client(server.http) as client:
        for what in sorted(NEEDS):
            method, path = what.split(" ")
            path = path.replace("{name}", "other").replace("{version}", "1")
            path = path.replace("{path:path}", "status").replace("{decision}", "hold")
            if "unload" in path:
                continue
            body = None if method == "GET" else {}
            answer = client.ask(method, path, body, bearer("restricted"))
            assert b"vault" not in answer.body, what
            assert b"owner" not in answer.body, what
        named = client.ask("GET", "/v2/models", headers=bearer("restricted")).json
        everything = client.ask("GET", "/v2/models", headers=bearer("read")).json
        unload = "/v2/repository/models/{}/unload"
        for name in ("vault", "absent"):
            answer = client.ask("POST", unload.format(name), {}, bearer("restricted"))
            assert (answer.status, answer.json["error"]) == (404, f"model '{name}' not found")
    assert named == {"models": ["other"]}
    assert everything == {"models": ["other", "owner", "vault"]}


def test_models_get_the_headers_of_a_request_without_the_key(server: Server) -> None:
    key = {"X-API-Key": "hr_infer"}
    for sent in (bearer("infer"), key, {**bearer("infer"), **key}):
        answer = ask(server.http, "GET", "/own", headers={**sent, "X-Mine": "kept"})
        assert answer.json["x-mine"] == "kept"
        assert "hr_infer" not in answer.body.decode()
    both = {"X-API-Key": "hr_infer", "Authorization": "Bearer of the model"}
    answer = ask(server.http, "GET", "/own", headers=both)
    assert answer.json["authorization"] == "Bearer of the model"


def test_the_log_has_the_name_of_the_key_and_not_the_key(server: Server) -> None:
    ask(server.http, "GET", "/metrics", headers={**bearer("infer"), "X-Request-Id": "who"})

    def logged() -> list[dict[str, Any]]:
        lines = [json.loads(each) for each in server.log().splitlines() if each[:1] == "{"]
        return [each for each in lines if each.get("request_id") == "who"]

    (line,) = until(logged, 60, "it is logged")
    assert (line["principal"], line["kind"]) == ("infer", "forbidden")
    assert "'read'" in line["message"]
    assert not any(f"hr_{name}" in server.log() for name in PRESENTED)
