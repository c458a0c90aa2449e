"""Pages of other sites cannot make a browser ask models, or change what is served."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import Model
from headrace.access.needs import ADMIN, INFER, OPEN, READ, Needs
from headrace.dataplane import Call
from headrace.dataplane.call import OWN_ROUTE
from headrace.dataplane.observers.foreign_pages import ForeignPages
from headrace.errors import Forbidden
from headrace.settings import CorsSettings, ServerSettings
from headrace.testing import TestClient

HOST = {"host": "localhost:8080"}
FOREIGN = [
    {"origin": "http://page.example"},
    {"origin": "http://page.example", "sec-fetch-site": "cross-site"},
    {"origin": "http://localhost:3000"},
    {"origin": "https://localhost.page.example"},
    {"origin": "http://localhost:8080.page.example"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    # The site's own name leads here.
    {"origin": "http://page.example:8080", "host": "page.example:8080"},
    {"origin": "http://a.example", "host": "a.example", "sec-fetch-site": "same-origin"},
]
OWN: list[dict[str, str]] = [
    {},
    {"host": "page.example"},
    {"origin": "http://localhost:8080"},
    {"origin": "https://LOCALHOST:8080", "sec-fetch-site": "same-origin"},
    {"origin": "http://127.0.0.1:8080", "host": "127.0.0.1:8080"},
    {"origin": "http://[::1]:8080", "host": "[::1]:8080"},
    {"origin": "http://models.localhost", "host": "models.localhost"},
    {"sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
]


def admit(
    headers: dict[str, str], *, method: str = "POST", protocol: str = "admin", local: bool = True,
    needs: Needs | None = ADMIN, **settings: Any,
) -> None:  # fmt: skip
    fields = {name.encode(): value.encode() for name, value in {**HOST, **headers}.items()}
    call = Call(protocol, "/route", "id", None, fields)
    call.method, call.needs = method, needs
    ForeignPages(ServerSettings(**settings), local).admit(call)


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_site_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden, match="page of another site"):
        admit(headers)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "ANY"])
def test_so_are_other_methods_that_change_something(method: str) -> None:
    with pytest.raises(Forbidden):
        admit(FOREIGN[0], method=method)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_what_changes_nothing_is_admitted(method: str) -> None:
    for headers in FOREIGN:
        admit(headers, method=method)


@pytest.mark.parametrize("headers", OWN)
def test_programs_and_the_pages_of_the_server_are_admitted(headers: dict[str, str]) -> None:
    admit(headers)


@pytest.mark.parametrize("needs", [INFER, READ])
def test_a_page_of_another_site_cannot_ask_either(needs: Needs) -> None:
    for headers in FOREIGN[0], FOREIGN[3], FOREIGN[5], FOREIGN[6], FOREIGN[8]:
        with pytest.raises(Forbidden, match="cors-settings"):
            admit(headers, needs=needs)


@pytest.mark.parametrize("site", ["same-origin", "same-site"])
def test_a_page_of_the_same_site_may_ask_through_a_proxy_that_changes_the_host(site: str) -> None:
    page = {"origin": "https://app.example", "sec-fetch-site": site}
    admit(page, needs=INFER)
    with pytest.raises(Forbidden):
        admit(page)


@pytest.mark.parametrize(
    "cors",
    [
        CorsSettings(("https://app.example",)),
        CorsSettings(allow_origin_regex=r"https://.*\.example"),
        CorsSettings(("*",)),
    ],
)
def test_a_page_that_cors_allows_may_ask(cors: CorsSettings) -> None:
    for needs in (INFER, READ):
        admit({"origin": "https://app.example"}, needs=needs, cors_settings=cors)


@pytest.mark.parametrize("origin", ["https://app.example.page.example", "http://app.example", ""])
def test_a_page_that_cors_does_not_allow_may_not(origin: str) -> None:
    cors = CorsSettings(("https://app.example",), r"https://[a-z]*\.example")
    with pytest.raises(Forbidden):
        admit({"origin": origin}, needs=INFER, cors_settings=cors)


def test_a_page_that_cors_names_may_load_and_unload() -> None:
    admit({"origin": "https://app.example"}, cors_settings=CorsSettings(("https://app.example",)))


@pytest.mark.parametrize(
    "cors", [CorsSettings(("*", "null")), CorsSettings(allow_origin_regex=".*")]
)
def test_one_that_cors_allows_among_others_may_not(cors: CorsSettings) -> None:
    for origin in ("https://app.example", "*", "null"):
        with pytest.raises(Forbidden):
            admit({"origin": origin}, cors_settings=cors)


def test_routes_that_models_declare_and_health_see_to_it_themselves() -> None:
    admit(FOREIGN[0], protocol=OWN_ROUTE, needs=INFER)
    admit(FOREIGN[0], needs=OPEN)


def test_a_page_is_known_by_the_host_that_a_proxy_was_asked_for() -> None:
    page = {"origin": "http://models.example", "x-forwarded-host": "models.example"}
    admit(page, local=False)
    with pytest.raises(Forbidden):
        admit(page)
    with pytest.raises(Forbidden):
        admit({**page, "origin": "http://page.example"}, local=False)


def test_a_server_for_others_takes_pages_of_any_name_that_it_is_asked_under() -> None:
    same = {"origin": "https://models.example", "host": "models.example"}
    admit(same, local=False)
    with pytest.raises(Forbidden):
        admit({**same, "host": "10.0.0.1:8080"}, local=False)


def test_names_of_the_server_may_be_given_for_what_is_behind_a_proxy() -> None:
    admit({"origin": "https://Models.Example"}, allowed_hosts=("models.example",))


@pytest.mark.parametrize("host", ["page.example", "", "models.example.page.example"])
def test_with_names_given_no_other_is_served(host: str) -> None:
    for method in ("GET", "POST"):
        with pytest.raises(Forbidden, match="allowed-hosts"):
            admit({"host": host}, method=method, allowed_hosts=("models.example",))


@pytest.mark.parametrize("host", ["models.example", "models.example:80", "10.1.2.3:8080", "[::1]"])
def test_with_names_given_these_and_addresses_are_served(host: str) -> None:
    admit({"host": host}, allowed_hosts=("models.example",))


def test_calls_of_grpc_have_no_host_and_are_served() -> None:
    call = Call("grpc", "/inference.GRPCInferenceService/ModelInfer", "id")
    ForeignPages(ServerSettings(allowed_hosts=("models.example",)), is_local=True).admit(call)


class Double(Model):
    def predict(self, x: Any) -> Any:
        return x * 2


def test_routes_that_load_and_unload_are_guarded() -> None:
    with TestClient(Double) as client:
        for verb in ("load", "unload"):
            path = f"/v2/repository/models/Double/{verb}"
            answer = client.post(path, headers={"Origin": "http://page.example"})
            assert answer.status_code == 403
        assert client.get("/v2/models/Double/ready").status_code == 200


BODY = '{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [2]}]}'


# What a page can send to any site without being asked by the browser whether it may.
@pytest.mark.parametrize("content_type", ["", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", ["/v2/models/Double/infer", "/v1/models/Double:predict"])
def test_routes_that_infer_are_guarded(path: str, content_type: str) -> None:
    with TestClient(Double) as client:
        fields = {"Content-Type": content_type, "Origin": "http://page.example"}
        assert client.post(path, content=BODY, headers=fields).status_code == 403


def test_cors_settings_of_mlserver_let_a_page_list_unload_and_ask() -> None:
    page = {"Origin": "https://app.example"}
    with TestClient(Double, cors_settings=CorsSettings(("https://app.example",))) as client:
        asked = client.post("/v2/models/Double/infer", content=BODY, headers=page)
        index = client.post("/v2/repository/index", json={}, headers=page)
        unloaded = client.post("/v2/repository/models/Double/unload", headers=page)
    for answer in asked, index, unloaded:
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
