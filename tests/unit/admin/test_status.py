"""The first page, and the status of the process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import numpy as np
import pytest
from starlette.requests import Request

from headrace import Model, __version__
from headrace.admin.status import Status
from headrace.dataplane import Call
from headrace.http.refusals import CALL
from headrace.testing import TestClient


class Double(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2


class FakePlane:
    """A data plane that knows these models, some of them in several versions."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def server_metadata(self) -> dict[str, str]:
        return {"name": "mine", "version": "1.2"}

    def seen_by(self, call: Call) -> FakePlane:
        return self

    def index(self) -> list[dict[str, str]]:
        return [{"name": name} for name in self.names]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(Double) as client:
        yield client


@pytest.mark.parametrize(
    ("names", "line"),
    [((), "models: none"), (("a", "a", "b"), "models: 'a', 'b'"), (("x\n",), r"models: 'x\n'")],
    ids=["none", "two, one of them twice", "one with a line break"],
)
def test_the_first_page_names_each_model_once(names: tuple[str, ...], line: str) -> None:
    status = Status(FakePlane(*names), None)  # type: ignore[arg-type]
    request = Request({"type": "http", CALL: Call("admin", "/", "1")})
    page = asyncio.run(status.index(request)).body.decode()

    assert page.splitlines()[:2] == ["mine 1.2", line]


def test_every_link_of_the_first_page_leads_somewhere(client: TestClient) -> None:
    page = client.get("/")
    links = [line.split()[0] for line in page.text.splitlines() if line.startswith("/")]
    answers = {link: client.get(link.replace("MODEL", "Double")).status_code for link in links}

    assert page.headers["content-type"].startswith("text/plain")
    assert "/v2/models/MODEL" in answers
    assert set(answers.values()) == {200}


def test_the_status_is_that_of_this_process(client: TestClient) -> None:
    status = client.get("/api/status").json()

    assert status["system"]["pid"] == os.getpid()
    assert status["system"]["request"]["url_root"] == "http://headrace/"
    assert [model["state"] for model in status["models"]] == ["READY"]


@pytest.mark.parametrize("path", ["/api/swagger", "/swagger.json"])
def test_the_document_has_its_older_names_too(path: str, client: TestClient) -> None:
    assert client.get(path).json() == client.get("/openapi.json").json()
    assert client.get(path).json()["info"]["version"] == __version__


def test_the_docs_page_runs_no_script_but_its_own(client: TestClient) -> None:
    page = client.get("/docs")
    policy = page.headers["content-security-policy"]

    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert page.text.count("<script") == 1
