"""The OpenAPI document and its page where MLServer has them."""

from __future__ import annotations

import pytest

from support.asking import Client
from support.custom import write_model
from support.serving import serving

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    write_model(root, "return x", name="echo")
    write_model(root, "return x", name="other")
    with serving(root) as server, Client(server.http) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "root"), [("/v2/docs", "../"), ("/v2/models/echo/docs", "../../../")]
)
def test_the_page_finds_the_document_from_every_path(client, path, root):
    answer = client.ask("GET", path)

    assert answer.status == 200
    assert f'<base href="{root}">' in answer.body.decode()
    assert "base-uri 'self'" in answer.headers["content-security-policy"]


def test_the_document_is_that_of_the_server(client):
    document = client.ask("GET", "/v2/docs/dataplane.json").json

    assert document == client.ask("GET", "/openapi.json").json


def test_the_document_of_a_model_has_its_routes_only(client):
    document = client.ask("GET", "/v2/models/echo/docs/dataplane.json").json

    assert "/v2/models/echo/infer" in document["paths"]
    assert all(path.startswith("/v2/models/echo") for path in document["paths"])


@pytest.mark.parametrize("below", ["docs", "docs/dataplane.json", "versions/7/docs"])
def test_an_unknown_model_has_no_document(client, below):
    name = "echo" if "versions" in below else "nobody"

    assert client.ask("GET", f"/v2/models/{name}/{below}").status == 404
