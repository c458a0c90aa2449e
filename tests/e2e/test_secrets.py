"""What a model says when it fails: callers learn the kind, the log has the text without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.asking import ask, numbers
from support.custom import write_model
from support.serving import serving

pytestmark = pytest.mark.e2e

ADDRESS = "postgres://admin:hunter2@db.internal/models"
PLACES = [
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/bad"),
    ("GET", "/v2/models/bad/ready"),
    ("GET", "/api/status"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/bad/load"),
]


def test_the_text_of_a_failed_load_is_published_nowhere(tmp_path: Path) -> None:
    write_model(tmp_path, name="good")
    write_model(tmp_path, name="bad", load=f"raise ConnectionError('no answer: {ADDRESS}')")
    with serving(tmp_path) as server:
        answers = [ask(server.http, method, path) for method, path in PLACES]
        answers.append(ask(server.http, "POST", "/v2/models/bad/infer", numbers(1)))
        log = server.log()

    assert not any(b"db.internal" in answer.body for answer in answers)
    assert "raised ConnectionError while loading" in answers[0].json["models"]["bad"]
    assert "postgres://admin:***@db.internal/models" in log
    assert "hunter2" not in log


def test_the_text_of_a_failed_prediction_is_published_nowhere(tmp_path: Path) -> None:
    write_model(tmp_path, predict=f"raise ConnectionError('no answer: {ADDRESS}')")
    with serving(tmp_path) as server:
        answer = ask(server.http, "POST", "/v2/models/m/infer", numbers(1))
        log = server.log()

    assert (answer.status, answer.json["code"]) == (500, "model_error")
    assert b"db.internal" not in answer.body
    assert "postgres://admin:***@db.internal/models" in log
    assert "hunter2" not in log


def test_the_status_does_not_say_where_the_server_is(tmp_path: Path) -> None:
    write_model(tmp_path)
    with serving(tmp_path) as server:
        system = ask(server.http, "GET", "/api/status").json["system"]

    assert "/" not in system["current_dir"]
