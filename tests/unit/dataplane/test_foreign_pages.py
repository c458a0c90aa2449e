"""Pages of other sites cannot make a browser change what is served."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import Model
from headrace.dataplane import Call
from headrace.dataplane.observers.foreign_pages import ForeignPages
from headrace.errors import Forbidden
from headrace.settings import ServerSettings
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
    **settings: Any,
) -> None:  # fmt: skip
    fields = {name.encode(): value.encode() for name, value in {**HOST, **headers}.items()}
    call = Call(protocol, "/route", "id", None, fields)
    call.method = method
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


def test_what_models_answer_is_left_to_cors() -> None:
    admit(FOREIGN[0], protocol="open_inference")


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
