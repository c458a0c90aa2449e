"""A canary over HTTP: whole answers and streams, and answers that cannot be sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.dataplane.observers.access_log import AccessLog
from headrace.dataplane.observers.rollout_observer import RolloutObserver
from headrace.rollouts.traffic import Traffic
from headrace.settings import ModelSettings
from headrace.sources.follow import Followed
from headrace.testing import TestClient

CODE = """
import numpy as np
from headrace import Model

class Version(Model):
    def load(self):
        self.version = self.settings.version

    def predict(self, x: list[str]) -> list[str]:
        self.misbehave(x[0])
        return [self.version]

    def predict_stream(self, x: list[str]):
        self.misbehave(x[0])
        yield [self.version]
        yield [self.version]

    def misbehave(self, fault):
        if self.version == "2" and fault == "raises":
            raise RuntimeError("no")
        if fault == "both":
            raise RuntimeError("neither")
"""
STREAM = "/v2/models/m/infer_stream"
WHOLE = "/v2/models/m/infer"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Any, Traffic]]:
    """A server whose canary, version 2, gets every request; and its traffic."""
    for version in "12":
        folder = tmp_path / version
        folder.mkdir()
        (folder / "versions.py").write_text(CODE)
        settings = {"name": "m", "implementation": "versions.Version"}
        settings["parameters"] = {"version": version}  # type: ignore[assignment]
        (folder / "model-settings.json").write_text(json.dumps(settings))
    follow = {"canary": {"alias": "@c", "percent": 100}, "rollback": {"min_requests": 1000}}
    followed = Followed(ModelSettings("m", "mlflow", uri="models:/m@champion", follow=follow))
    traffic = Traffic(followed, lambda reason: None)
    with TestClient(tmp_path) as client:
        application = client.app._application
        assert application is not None
        traffic.stable = application.repository.get("m", "1")
        application.repository.prefer(traffic.stable)
        traffic.start_canary(application.repository.get("m", "2"), 100, 0)
        application.calls.observe(RolloutObserver())
        application.dataplane.traffic["m"] = traffic  # type: ignore[index]
        yield client, traffic


def asked(client: Any, path: str, word: str, more: int = 0, **headers: str) -> Any:
    """The answer to a request with a word, and `more` bytes in a parameter."""
    body: dict[str, Any] = {"parameters": {"more": "m" * more}}
    body["inputs"] = [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [word]}]
    return client.post(path, json=body, headers=headers)


def versions(answer: Any) -> set[str]:
    """The versions that an answer is from, by what it holds."""
    text = answer.text
    parts = [line[6:] for line in text.splitlines() if line.startswith("data: ")] or [text]
    return {json.loads(part)["outputs"][0]["data"][0] for part in parts}


@pytest.mark.parametrize("path", [WHOLE, STREAM])
def test_an_answer_names_its_version(served: tuple[Any, Traffic], path: str) -> None:
    client, traffic = served
    for headers, expected in (({}, "2"), ({"x-model-version": "1"}, "1")):
        answer = asked(client, path, "good", **headers)
        assert answer.headers["x-model-version"] == expected
        assert versions(answer) == {expected}
    assert (traffic.evidence.requests, traffic.evidence.failed) == (1, 0)


@pytest.mark.parametrize("path", [WHOLE, STREAM])
@pytest.mark.parametrize("more", [0, 300_000])
def test_what_a_canary_fails_the_stable_version_answers(
    served: tuple[Any, Traffic], path: str, more: int
) -> None:
    client, traffic = served
    answer = asked(client, path, "raises", more)
    assert (answer.status_code, answer.headers["x-model-version"]) == (200, "1")
    assert versions(answer) == {"1"}
    assert traffic.failures == {("2", "model_error"): 1}


@pytest.mark.parametrize("path", [WHOLE, STREAM])
def test_what_both_fail_is_the_error_of_the_stable_version(
    served: tuple[Any, Traffic], path: str
) -> None:
    client, traffic = served
    answer = asked(client, path, "both")
    assert (answer.status_code, answer.headers["x-model-version"]) == (500, "1")
    assert not traffic.failures


def test_a_request_that_no_version_can_read_is_refused(served: tuple[Any, Traffic]) -> None:
    client, traffic = served
    answer = client.post(WHOLE, content=b"{")
    assert (answer.status_code, answer.headers["x-model-version"]) == (400, "1")
    assert not traffic.failures


def test_an_unknown_version_is_not_found(served: tuple[Any, Traffic]) -> None:
    answer = asked(served[0], WHOLE, "good", **{"x-model-version": "7"})
    assert answer.status_code == 404
    assert "has no version '7'" in answer.text


def test_the_access_log_says_how_long_a_canary_computed(
    served: tuple[Any, Traffic], caplog: pytest.LogCaptureFixture
) -> None:
    client, _ = served
    client.app._application.calls.observe(AccessLog())
    with caplog.at_level("INFO", "headrace.calls"):
        assert asked(client, WHOLE, "good").headers["x-model-version"] == "2"
    (line,) = [record for record in caplog.records if record.getMessage() == "answered"]
    assert (line.version, line.rows) == ("2", 1)  # type: ignore[attr-defined]
    assert line.compute_ms is not None  # type: ignore[attr-defined]
