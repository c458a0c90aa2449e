"""Health, metadata and the answers at unknown paths: in this process, without ports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from starlette.requests import Request

from headrace import Model, __version__
from headrace.admin import scoring_version
from headrace.admin.control import Control
from headrace.dataplane import Call
from headrace.dataplane.plane import EXTENSIONS
from headrace.http.refusals import CALL
from headrace.testing import TestClient
from support.asking import numbers
from support.custom import write_model


class Double(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(Double, server_name="mine", extensions=("own",)) as client:
        yield client


class FakePlane:
    """A data plane whose models are not ready for these reasons."""

    is_empty = False

    def may_recover(self) -> bool:
        return True

    def __init__(self, reasons: dict[str, str], draining: bool = False) -> None:
        self.reasons = reasons
        self.draining = draining

    def is_ready(self) -> bool:
        return False

    def seen_by(self, call: Call) -> FakePlane:
        return self

    def not_ready(self) -> dict[str, str]:
        return self.reasons


@pytest.mark.parametrize(
    ("plane", "words", "models"),
    [
        (FakePlane({"b": "LOADING", "a": "no file"}), "a, b", {"a": "no file", "b": "LOADING"}),
        (FakePlane({"a": "UNLOADING"}, draining=True), "draining", None),
        (FakePlane({}), "not ready", None),
    ],
    ids=["models", "draining", "starting"],
)
def test_a_server_that_is_not_ready_says_why(plane: Any, words: str, models: Any) -> None:
    control = Control(plane, None, None)  # type: ignore[arg-type]
    request = Request({"type": "http", CALL: Call("admin", "/v2/health/ready", "1")})
    answer = asyncio.run(control.ready(request))
    body = orjson.loads(answer.body)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (body["ready"], body.get("models")) == (False, models)
    assert words in body["error"]


def test_a_ping_that_is_too_early_gets_an_error_of_mlflow() -> None:
    control = Control(FakePlane({}), None, None)  # type: ignore[arg-type]
    answer = asyncio.run(control.ping(None))  # type: ignore[arg-type]

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert orjson.loads(answer.body)["error_code"] == "TEMPORARILY_UNAVAILABLE"


@pytest.mark.parametrize(
    "plane",
    [FakePlane({}), FakePlane({"a": "LOADING"}), FakePlane({}, draining=True)],
    ids=["starting", "a model", "draining"],
)
def test_a_probe_for_readiness_fails_while_anything_is_not_ready(plane: Any) -> None:
    control = Control(plane, None, None)  # type: ignore[arg-type]
    able = asyncio.run(control.able(None))  # type: ignore[arg-type]
    alive = asyncio.run(control.alive(None))  # type: ignore[arg-type]

    assert (able.status_code, alive.status_code) == (503, 200)


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz", "/readyz/"])
def test_probes_get_a_newline(path: str, client: TestClient) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.content) == (200, b"\n")
    assert answer.headers["content-type"].startswith("text/plain")


def test_the_version_is_mlflows_as_its_clients_compare_it(client: TestClient) -> None:
    assert client.get("/version").text == version("mlflow")


def test_the_version_is_ours_where_mlflow_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_version, "DISTRIBUTIONS", ("no-such-distribution",))
    assert scoring_version.scoring_version.__wrapped__() == __version__


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/health/live", b'{"live":true}'),
        ("/v2/health/ready", b'{"ready":true}'),
        ("/v2/models/Double/ready", b'{"name":"Double","ready":true}'),
        ("/ping", b"\n"),
        ("/health", b"\n"),
    ],
)
def test_a_server_that_is_ready_says_so(path: str, body: bytes, client: TestClient) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["content-type"] == "application/json"


def test_readiness_names_the_model_that_did_not_load(tmp_path: Path) -> None:
    write_model(tmp_path, name="good")
    write_model(tmp_path, name="bad", load="raise OSError('no weights')")
    with TestClient(tmp_path) as client:
        server = client.get("/v2/health/ready")
        probes = [client.get(path).status_code for path in ("/livez", "/healthz", "/readyz")]
        good, bad = (client.get(f"/v2/models/{name}/ready") for name in ("good", "bad"))

    assert (server.status_code, good.status_code, bad.status_code) == (503, 200, 503)
    assert probes == [200, 200, 503]
    assert list(server.json()["models"]) == ["bad"]
    assert "raised OSError while loading" in server.json()["models"]["bad"]
    assert (bad.json()["name"], bad.json()["ready"]) == ("bad", False)
    assert "raised OSError while loading" in bad.json()["error"]


def test_what_fails_for_good_invites_no_retry_and_has_no_metadata(tmp_path: Path) -> None:
    write_model(tmp_path, name="good")
    write_model(tmp_path, name="bad", load="raise NameError('no such name')")
    with TestClient(tmp_path) as client:
        paths = ["/v2/models/bad", "/v2/models/bad/ready", "/v2/health/ready", "/readyz", "/ping",
                 "/v1/models/bad"]  # fmt: skip
        answers = [client.get(path) for path in paths]
        answers.append(client.post("/v2/models/bad/infer", json=numbers(1)))
        good = client.get("/v2/models/good")

    assert [answer.status_code for answer in answers] == [503] * len(answers)
    assert [answer.headers.get("retry-after") for answer in answers] == [None] * len(answers)
    assert answers[0].json()["code"] == answers[-1].json()["code"] == "model_unavailable"
    assert good.json()["inputs"]


def test_server_metadata_has_the_name_the_version_and_the_extensions(client: TestClient) -> None:
    metadata = client.get("/v2").json()

    assert (metadata["name"], metadata["version"]) == ("mine", __version__)
    assert metadata["extensions"] == [*EXTENSIONS, "own"]


def test_model_metadata_has_the_name_the_platform_and_the_inputs(client: TestClient) -> None:
    metadata = client.get("/v2/models/Double").json()

    assert (metadata["name"], metadata["versions"]) == ("Double", [])
    assert metadata["platform"] == "python"
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["x"]


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/v2/nothing",
        "/v2/models/nope",
        "/v2/models/nope/ready",
        "/v2/models/Double/versions/7",
        "/v2/models/Double/versions/7/ready",
        "/v1/models/nope",
    ],
)
def test_an_unknown_path_is_a_404_in_json(path: str, client: TestClient) -> None:
    answer = client.get(path)

    assert answer.status_code == 404
    assert sorted(answer.json()) == ["code", "error"]
    assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v2/models/Double/infer", {"POST"}),
        ("GET", "/v2/models/Double/versions/7/infer", {"POST"}),
        ("GET", "/v1/models/Double:predict", {"POST"}),
        ("DELETE", "/v1/models/Double:predict", {"POST"}),
        ("DELETE", "/v2/repository/index", {"POST"}),
        ("POST", "/v2", {"GET", "HEAD"}),
        ("PUT", "/v2/models/Double/ready", {"GET", "HEAD"}),
        ("POST", "/metrics", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_verb_is_a_405_that_names_the_right_ones(
    method: str, path: str, allowed: set[str], client: TestClient
) -> None:
    answer = client.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert method in answer.json()["error"]
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(("method", "path"), [("GET", "/invocations"), ("POST", "/ping")])
def test_a_refusal_on_a_path_of_mlflow_has_its_form(
    method: str, path: str, client: TestClient
) -> None:
    answer = client.request(method, path)

    assert answer.status_code == 405
    assert sorted(answer.json()) == ["error_code", "message"]


@pytest.mark.parametrize("path", ["/v2", "/v2/models/nope", "/nothing", "/invocations"])
def test_every_answer_carries_the_id_of_its_request(path: str, client: TestClient) -> None:
    given = client.get(path, headers={"X-Request-Id": "mine"})
    made = [client.get(path).headers["x-request-id"] for _ in range(2)]

    assert given.headers["x-request-id"] == "mine"
    assert len({*made, ""}) == 3


def test_a_name_in_an_error_is_escaped_and_short(client: TestClient) -> None:
    answer = client.get("/v2/models/%0Aa" + "b" * 1000)

    assert answer.status_code == 404
    assert "\\na" in answer.json()["error"]
    assert len(answer.content) < 200


def test_metrics_that_are_switched_off_are_not_served() -> None:
    with TestClient(Double, metrics_endpoint="") as client:
        assert client.get("/metrics").status_code == 404
