"""The model repository extension over HTTP, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from headrace import Model
from headrace.admin.object_body import LARGEST_BODY
from headrace.testing import TestClient

INDEX = "/v2/repository/index"
LOAD = "/v2/repository/models/Double/load"
UNLOAD = "/v2/repository/models/Double/unload"


class Double(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(Double) as client:
        yield client


def states(client: TestClient, **body: Any) -> list[tuple[str, str]]:
    return [(entry["name"], entry["state"]) for entry in client.post(INDEX, json=body).json()]


def test_the_index_lists_each_model_with_its_state(client: TestClient) -> None:
    answer = client.post(INDEX)

    assert answer.status_code == 200
    assert answer.json() == [{"name": "Double", "version": "", "state": "READY", "reason": ""}]


def test_a_model_that_was_unloaded_stays_known_until_it_is_loaded_again(
    client: TestClient,
) -> None:
    assert client.post(UNLOAD).json() == {}
    assert states(client) == [("Double", "UNAVAILABLE")]
    assert client.get("/v2/models/Double/ready").status_code == 503
    assert client.post(LOAD).json() == {}

    assert states(client) == [("Double", "READY")]


def test_the_index_can_list_only_what_is_ready(client: TestClient) -> None:
    assert states(client, ready=True) == [("Double", "READY")]
    client.post(UNLOAD)

    assert states(client, ready=True) == []
    assert states(client, ready=False) == states(client, ready=None) != []


def test_unloading_dependents_is_accepted_though_there_are_none(client: TestClient) -> None:
    answer = client.post(UNLOAD, json={"parameters": {"unload_dependents": True}})

    assert answer.status_code == 200


@pytest.mark.parametrize("path", [INDEX, LOAD, UNLOAD])
@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"null", b"\xff", b"[" * 10_000],
    ids=["cut", "list", "null", "raw", "deep"],
)
def test_a_body_that_is_not_an_object_is_refused_and_nothing_happens(
    body: bytes, path: str, client: TestClient
) -> None:
    answer = client.post(path, content=body)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_argument")
    assert states(client) == [("Double", "READY")]


@pytest.mark.parametrize("ready", ["yes", 1, [True]])
def test_ready_must_be_true_or_false(ready: Any, client: TestClient) -> None:
    answer = client.post(INDEX, json={"ready": ready})

    assert answer.status_code == 400
    assert "ready" in answer.json()["error"]


def test_a_body_over_the_limit_is_refused(client: TestClient) -> None:
    assert client.post(INDEX, content=b" " * (LARGEST_BODY + 1)).status_code == 413
    assert client.post(INDEX, content=b" " * LARGEST_BODY).status_code == 200


def test_settings_that_come_with_a_load_are_refused(client: TestClient) -> None:
    answer = client.post(LOAD, json={"parameters": {"config": "{}"}})

    assert (answer.status_code, answer.json()["code"]) == (501, "unimplemented")
    assert client.post(LOAD, json={"parameters": {}}).status_code == 200


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_an_unknown_model_is_not_found(verb: str, client: TestClient) -> None:
    answer = client.post(f"/v2/repository/models/nope/{verb}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "settings", [{"allow_repository_api": False}, {"host": "0.0.0.0"}], ids=["off", "public"]
)
def test_models_are_listed_but_not_changed_where_that_is_not_allowed(settings: Any) -> None:
    with TestClient(Double, **settings) as client:
        refused = [client.post(path) for path in (LOAD, UNLOAD)]

        assert [answer.status_code for answer in refused] == [403, 403]
        assert "--allow-repository-api" in refused[0].json()["error"]
        assert states(client) == [("Double", "READY")]


def test_a_setting_allows_changes_to_the_models_of_a_public_server() -> None:
    with TestClient(Double, host="0.0.0.0", allow_repository_api=True) as client:
        assert client.post(LOAD).status_code == 200
