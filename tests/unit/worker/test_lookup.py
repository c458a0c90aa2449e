"""Looking up registered models: in one call where the registry can, and one by one where not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from headrace.worker.lookup import MODELS_AT_ONCE, Lookup


class RestException(Exception):
    """As MLflow's client raises it: `status` is what its server answered with."""

    def __init__(self, status: int) -> None:
        super().__init__(f"INVALID: the status was {status}")
        self.response = SimpleNamespace(status_code=status)


class FakeClient:
    """MLflow's client for a registry of some models; `fails` is the status of its searches."""

    def __init__(self, *names: str, fails: int = 0) -> None:
        self.calls: list[str] = []
        self._names = names
        self._fails = fails

    def search_registered_models(self, filter_string: str, max_results: int) -> list[Any]:
        self.calls.append(filter_string)
        if self._fails:
            raise RestException(self._fails)
        return [model(name) for name in self._names if f"'{name}'" in filter_string][:max_results]

    def get_registered_model(self, name: str) -> Any:
        self.calls.append(name)
        if name not in self._names:
            raise RestException(404)
        return model(name)


def model(name: str) -> Any:
    versions = [SimpleNamespace(current_stage="None", version="3")]
    return SimpleNamespace(name=name, aliases={"a": 2}, latest_versions=versions, tags={})


def found(client: FakeClient, *names: str, times: int = 1) -> list[dict[str, Any]]:
    lookup = Lookup(client)
    return [
        answer
        for _ in range(times)
        for group in lookup.groups(list(names))
        for answer in lookup.look(group)
    ]


def described(name: str) -> dict[str, Any]:
    return {"name": name, "aliases": {"a": "2"}, "stages": {"None": "3"}, "latest": "3", "tags": {}}


def test_several_models_are_one_call() -> None:
    client = FakeClient("a", "b")

    assert found(client, "a", "b") == [described("a"), described("b")]
    assert client.calls == ["name IN ('a', 'b')"]


def test_one_model_is_asked_for_by_its_name() -> None:
    client = FakeClient("a")

    assert found(client, "a") == [described("a")]
    assert client.calls == ["a"]


def test_many_models_are_several_calls() -> None:
    names = [f"m{number}" for number in range(2 * MODELS_AT_ONCE)]
    client = FakeClient(*names)

    assert [answer["name"] for answer in found(client, *names)] == names
    assert len(client.calls) == 2


def test_a_model_that_is_not_there_says_so_and_harms_no_other() -> None:
    first, second = found(FakeClient("a"), "a", "gone")

    assert first == described("a")
    assert (second["name"], second["permanent"]) == ("gone", True)


@pytest.mark.parametrize("name", ["it's", 'a"b', "a`b", "a\\b"])
def test_a_name_that_cannot_be_quoted_is_asked_for_alone(name: str) -> None:
    client = FakeClient("a", "b", name)

    assert len(found(client, "a", name, "b")) == 3
    assert name in client.calls


def test_a_registry_without_that_search_is_asked_for_each_model_from_then_on() -> None:
    client = FakeClient("a", "b", fails=400)

    assert found(client, "a", "b", times=2) == [described("a"), described("b")] * 2
    assert client.calls == ["name IN ('a', 'b')", "a", "b", "a", "b"]


def test_a_search_that_is_forbidden_may_be_allowed_later() -> None:
    client = FakeClient("a", "b", fails=403)
    found(client, "a", "b", times=2)

    assert [call for call in client.calls if "IN" in call] == ["name IN ('a', 'b')"] * 2


def test_a_registry_that_is_down_is_asked_once_for_all() -> None:
    client = FakeClient("a", "b", fails=503)
    answers = found(client, "a", "b")

    assert [answer["permanent"] for answer in answers] == [False, False]
    assert len(client.calls) == 1
