"""Streamed answers over HTTP, in the default configuration."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.serving import Server, serving, until

pytestmark = pytest.mark.e2e

COUNTER = """
import itertools
import numpy as np
from headrace import Model

class Counter(Model):
    def predict(self, n: int) -> int:
        return n

    def predict_stream(self, n: int):
        try:
            for number in range(n) if n >= 0 else itertools.count():
                if number == 5 and n > 0:
                    raise RuntimeError("secret")
                yield np.array([number])
        except GeneratorExit:
            print("left", flush=True)
            raise
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("counter")
    (folder / "counting.py").write_text(COUNTER)
    settings = {"name": "counter", "implementation": "counting.Counter"}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    with serving(str(folder)) as server:
        yield server


@contextmanager
def stream(
    server: Server, n: Any, route: str = "infer_stream"
) -> Iterator[http.client.HTTPResponse]:
    body = {"inputs": [{"name": "n", "shape": [1], "datatype": "INT64", "data": [n]}], "id": "7"}
    netloc = urlsplit(server.http).netloc
    with closing(http.client.HTTPConnection(netloc, timeout=30)) as connection:
        connection.request("POST", f"/v2/models/counter/{route}", json.dumps(body))
        with connection.getresponse() as response:
            yield response


def events(response: http.client.HTTPResponse) -> list[str]:
    return [event for event in response.read().decode().split("\n\n") if event]


@pytest.mark.parametrize("route", ["infer_stream", "generate_stream"])
def test_each_piece_is_an_event(server: Server, route: str) -> None:
    with stream(server, 3, route) as response:
        pieces = [json.loads(event.removeprefix("data: ")) for event in events(response)]

    assert response.getheader("content-type") == "text/event-stream; charset=utf-8"
    assert [piece["outputs"][0]["data"] for piece in pieces] == [[0], [1], [2]]
    assert {piece["id"] for piece in pieces} == {"7"}


def test_an_error_in_the_middle_is_the_last_event(server: Server) -> None:
    with stream(server, 9) as response:
        *pieces, last = events(response)

    assert len(pieces) == 5
    assert last.startswith("event: error\ndata: {")
    assert "secret" not in last


def test_an_error_before_the_first_piece_is_an_ordinary_answer(server: Server) -> None:
    with stream(server, "text") as response:
        assert response.status == 400
        assert "n" in json.loads(response.read())["error"]


def test_a_caller_who_leaves_ends_the_stream(server: Server) -> None:
    with stream(server, -1) as response:
        response.readline()

    until(lambda: "left" in server.log(), 60, "the model's generator to be closed")
