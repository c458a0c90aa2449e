"""The pages of the list of models of a multi-model endpoint."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from starlette.requests import Request

from headrace.admin.sagemaker_routes import PAGE_SIZE, HostedModels
from headrace.dataplane.hosting import Hosting

NAMES = sorted([*(f"{number:04x}" for number in range(2 * PAGE_SIZE)), "naïve", "a b&c"])


class FakeHosting(SimpleNamespace):
    """Models with these names, each in its folder."""

    names: list[str]

    def places(self) -> list[tuple[str, str]]:
        return [(name, f"/opt/ml/models/{name}") for name in self.names]


@pytest.fixture
def hosting() -> FakeHosting:
    return FakeHosting(names=list(NAMES))


def page(hosting: FakeHosting, token: str | None = None) -> tuple[list[str], str | None]:
    """The names on a page, and the token of the next one."""
    query = {} if token is None else {"next_page_token": token}
    request = Request({"type": "http", "query_string": urlencode(query).encode(), "headers": []})
    response = asyncio.run(HostedModels(cast(Hosting, hosting)).index(request))
    answer: dict[str, Any] = json.loads(bytes(response.body))
    return [each["modelName"] for each in answer["models"]], answer.get("nextPageToken")


def test_a_walk_from_page_to_page_sees_each_model_once(hosting: FakeHosting) -> None:
    pages = [page(hosting)]
    while (token := pages[-1][1]) is not None:
        pages.append(page(hosting, token))

    assert [len(names) for names, _ in pages] == [PAGE_SIZE, PAGE_SIZE, 2]
    assert [name for names, _ in pages for name in names] == NAMES


def test_a_full_last_page_has_no_token(hosting: FakeHosting) -> None:
    del hosting.names[PAGE_SIZE:]

    assert page(hosting) == (NAMES[:PAGE_SIZE], None)


def test_a_walk_goes_on_where_the_model_in_the_token_was_unloaded(hosting: FakeHosting) -> None:
    first, token = page(hosting)
    hosting.names.remove(first[-1])
    hosting.names.remove(first[0])

    assert page(hosting, token)[0] == NAMES[PAGE_SIZE : 2 * PAGE_SIZE]


@pytest.mark.parametrize(("token", "first"), [("", NAMES[0]), ("b", "naïve"), ("\x00", "0000")])
def test_a_token_that_names_no_model_is_a_place_in_their_order(
    token: str, first: str, hosting: FakeHosting
) -> None:
    assert page(hosting, token)[0][0] == first


def test_after_the_last_model_there_is_nothing(hosting: FakeHosting) -> None:
    assert page(hosting, "zzz") == ([], None)
