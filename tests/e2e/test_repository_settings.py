"""Servers set up the way MLServer's users do: files, variables, and a folder to start in."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.asking import ask, numbers
from support.custom import write_model
from support.serving import serving, starting

pytestmark = pytest.mark.e2e


def test_settings_json_of_mlserver_is_followed(tmp_path: Path) -> None:
    write_model(tmp_path)
    written = {
        "debug": True,
        "use_structured_logging": True,
        "server_name": "mine",
        "server_version": "9",
        "extensions": ["other"],
        "root_path": "/ml",
        "cors_settings": {"allow_origins": ["*"]},
        "cache_enabled": True,
    }
    (tmp_path / "settings.json").write_text(json.dumps(written))

    with serving(tmp_path) as server:
        answer = ask(server.http, "GET", "/v2", headers={"Origin": "http://page"})
        metadata = answer.json
        document = ask(server.http, "GET", "/openapi.json").json
        lines = [json.loads(line) for line in server.log().splitlines()]

    assert answer.headers["access-control-allow-origin"] == "*"
    assert (metadata["name"], metadata["version"]) == ("mine", "9")
    assert "other" in metadata["extensions"]
    assert document["servers"] == [{"url": "/ml"}]
    assert any("cache_enabled is accepted and has no effect" in line["message"] for line in lines)


def test_without_an_endpoint_there_are_no_metrics(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "settings.json").write_text('{"metrics_endpoint": null}')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with starting(tmp_path, "--metrics-port", port) as server:
            server.wait_listening()

            assert ask(server.http, "GET", "/metrics").status == 404
            server.signal()
            assert server.wait(30) == 0


def test_metrics_are_served_at_another_endpoint(tmp_path: Path) -> None:
    with serving(write_model(tmp_path), "--metrics-endpoint", "/prometheus") as server:
        announced = urlsplit(server.announced["metrics"])

        assert announced.path == "/prometheus"
        for url in (server.http, f"http://{announced.netloc}"):
            assert ask(url, "GET", "/prometheus").status == 200
            assert ask(url, "GET", "/metrics").status == 404


def test_the_environment_alone_describes_a_model_as_kserve_does(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    (folder / "model-settings.json").unlink()
    env = {
        "MLSERVER_MODEL_NAME": "kserve",
        "MLSERVER_MODEL_URI": str(folder),
        "MLSERVER_MODEL_IMPLEMENTATION": "custom_m.Custom",
        "MLSERVER_MODEL_VERSION": "4",
        "MLSERVER_SERVER_NAME": "mine",
    }

    with serving(folder, env=env) as server:
        answer = ask(server.http, "POST", "/v2/models/kserve/versions/4/infer", numbers(3))

        assert answer.json["outputs"][0]["data"] == [6.0]
        assert ask(server.http, "GET", "/v2").json["name"] == "mine"


def test_the_repository_root_stands_in_for_the_argument(tmp_path: Path) -> None:
    write_model(tmp_path)

    with serving(env={"MLSERVER_MODEL_REPOSITORY_ROOT": str(tmp_path)}) as server:
        assert ask(server.http, "GET", "/v2/models/m").status == 200
