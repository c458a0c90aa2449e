"""Fetching by URI: what people are told while it lasts, and paths with unusual characters."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from pathlib import Path

import pytest

from headrace.errors import InvalidModel, LoadFailed, shorten
from headrace.runtimes.artefact import path_of_file_uri
from headrace.runtimes.mlflow import pyfunc
from headrace.runtimes.mlflow.mlflow_folder import MLflowFolder
from headrace.settings import ModelSettings
from headrace.sources import artifacts
from headrace.worker.fetch import FailedTries
from support import virtual_time

MODELS = "models:/wine/1"


def failed_try(message: str) -> list[str]:
    """What is told of the line that urllib3 logs for a connection that failed."""
    told: list[str] = []
    error = OSError(message)
    line = logging.makeLogRecord({"msg": "Retrying (%r) after %r: %s", "args": (1, error, "/api")})
    FailedTries(told.append).handle(line)
    return told


def test_a_failed_try_is_told_with_address_and_reason() -> None:
    words = "HTTPConnection(host='10.0.0.7', port=5000): Failed to establish a new connection: "

    assert failed_try(words + "[Errno 111] Connection refused") == [
        "10.0.0.7:5000 does not answer: connection refused"
    ]


@pytest.mark.timeout(300)
def test_a_tracking_server_that_is_down_is_told_and_given_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Bound and not listening, the port refuses connections, and nobody else can take it.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@{address}")
        monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
        steps: list[str] = []
        told = asyncio.Event()

        class Told(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                told.set()

        async def fetch() -> None:
            logger = logging.getLogger("headrace.sources")
            handler = Told(logging.WARNING)
            logger.addHandler(handler)
            fetching = asyncio.create_task(artifacts.fetch(MODELS, 250, steps.append))
            try:
                await told.wait()
            finally:
                logger.removeHandler(handler)
                fetching.cancel()
                await asyncio.wait([fetching])

        asyncio.run(fetch())

    # On a slow machine, others that say that it still waits may follow.
    assert steps[0] == (
        f"fetching {MODELS} from http://user:***@{address}, for at most 250 s (--fetch-timeout)"
    )
    assert caplog.messages == [
        f"fetching {MODELS}: {address} does not answer: connection refused; trying again, for at "
        "most 250 s (--fetch-timeout)"
    ]
    assert list((tmp_path / "downloads").iterdir()) == []


def test_what_takes_too_long_names_the_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))

    with pytest.raises(LoadFailed) as caught:
        asyncio.run(artifacts.fetch(MODELS, 0.001, lambda step: None))

    assert caught.value.message == (
        f"'{MODELS}' was not fetched within 0.001 s (--fetch-timeout); nothing of it has arrived"
    )


def test_a_fetch_that_waits_says_so_again_with_growing_pauses() -> None:
    said: list[str] = []

    async def main() -> None:
        waiting = asyncio.create_task(artifacts._waits("fetching it", 600, said.append))
        await asyncio.sleep(100)
        waiting.cancel()

    virtual_time.run(main())

    assert said == [
        f"fetching it, for {seconds} s so far and at most 600 s (--fetch-timeout)"
        for seconds in (10, 20, 40, 80)
    ]


def test_a_registered_model_without_a_version_is_told_what_is_missing() -> None:
    failed = {"kind": "invalid_model", "message": "there is none"}

    with pytest.raises(InvalidModel, match="needs its version or alias: models:/wine/1"):
        artifacts._parse(json.dumps(failed).encode(), artifacts._hint("models:/wine"))

    assert "version" not in artifacts._hint("models:/m-" + "0" * 32)


def test_a_model_that_is_looked_up_without_a_tracking_server_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    hint = "; MLFLOW_TRACKING_URI is not set, so it was looked for in the current folder"

    assert artifacts._hint("models:/wine/1") == artifacts._hint("runs:/1/m") == hint
    assert artifacts._hint("s3://bucket/m") == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://x")
    assert artifacts._hint("models:/wine/1") == ""


@pytest.mark.parametrize("name", ["a#b", "a%20b", "a b", "50%", "ü", "a?b"])
@pytest.mark.parametrize("form", ["escaped", "as it is"])
def test_a_file_uri_names_a_path_with_any_character(name: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / name / "model"
    path.mkdir(parents=True)
    uri = path.as_uri() if form == "escaped" else f"file://{path}"

    assert path_of_file_uri(uri) == str(path)
    assert asyncio.run(artifacts.fetch(uri, 1, lambda step: None)).path == str(path)


def test_letters_of_all_languages_stay_what_they_are_in_messages() -> None:
    assert shorten("Größe 気温 é") == "Größe 気温 é"
    assert shorten("a\nb\x1b[2J\u202e\udcff\\") == "a\\nb\\x1b[2J\\u202e\\udcff\\\\"
    assert shorten("ü" * 70) == "ü" * 61 + "..."


def test_a_path_that_mlflow_would_unquote_is_refused_with_a_word_about_the_path(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "a%20b"
    folder.mkdir()
    (folder / "MLmodel").write_text(
        "flavors: {python_function: {loader_module: mlflow.pyfunc.model}}"
    )

    with pytest.raises(InvalidModel, match="the path of the model has '%20' in it"):
        pyfunc.load(MLflowFolder(ModelSettings("m", "mlflow", str(folder))), None)
