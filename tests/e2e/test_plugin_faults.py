"""Plugins that raise, hang, exit or print: what their callers and their neighbours notice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.asking import Answer, ask, numbers
from support.custom import write_model
from support.plugins import write_plugin
from support.serving import Server, serving

pytestmark = pytest.mark.e2e

MOODS = """
if data == b"raise":
    raise RuntimeError("the secret ingredient is 4711")
if data == b"refuse":
    raise InvalidInput("only even payloads are scored")
if data == b"hang":
    time.sleep(600)
if data == b"exit":
    sys.exit(3)
if data == b"die":
    os._exit(1)
if data == b"print":
    print("x" * 1_000_000)
return data
"""


@pytest.fixture(scope="module", params=["predict", "predict_batch"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A plugin `p` with many moods, with or without batches, and a model `m` in its worker."""
    root = tmp_path_factory.mktemp("moods")
    more = (
        "def predict_batch(self, model, data):\n    return [self.predict(model, d) for d in data]"
    )
    write_plugin(root, MOODS, more=more if request.param == "predict_batch" else "")
    write_model(root)
    with serving(root, "--infer-timeout", 2) as server:
        yield server


def score(server: Server, mood: bytes) -> Answer:
    return ask(server.http, "POST", "/api/predict", mood, {"Content-Type": "text/plain"})


def score_alongside_neighbours(server: Server, mood: bytes) -> Answer:
    """The plugin's answer; until it comes, the model `m` must answer as usual."""
    with ThreadPoolExecutor() as threads:
        scoring = threads.submit(score, server, mood)
        for n in range(20):
            answer = ask(server.http, "POST", "/v2/models/m/infer", numbers(n))
            assert answer.json["outputs"][0]["data"] == [2.0 * n]
        return scoring.result()


@pytest.mark.parametrize(
    ("mood", "status", "code"),
    [
        (b"raise", 500, "model_error"),
        (b"refuse", 400, "invalid_argument"),
        (b"hang", 504, "deadline_exceeded"),
        (b"exit", 500, "model_error"),
        (b"print", 200, None),
    ],
)
def test_a_plugin_that_fails_costs_its_caller_one_answer_and_its_neighbour_none(
    mood: bytes, status: int, code: str | None, server: Server
) -> None:
    failed = score_alongside_neighbours(server, mood)

    assert failed.status == status
    if code is not None:
        assert failed.json["code"] == code
        for secret in (b"4711", b"Traceback", b"plugin.py"):
            assert secret not in failed.body
    assert score(server, b"well").body == b"well"


def test_the_message_of_a_plugin_that_refuses_reaches_the_caller(server: Server) -> None:
    assert score(server, b"refuse").json["error"] == "only even payloads are scored"


def test_a_plugin_that_kills_its_own_worker_costs_a_neighbour_in_another_none(
    tmp_path: Path,
) -> None:
    write_plugin(tmp_path, MOODS, parameters={"inference_pool_gid": "alone"})
    write_model(tmp_path)
    with serving(tmp_path) as server:
        died = score_alongside_neighbours(server, b"die")

        assert (died.status, died.json["code"]) == (500, "poisoned")
        assert score(server, b"well").body == b"well"
