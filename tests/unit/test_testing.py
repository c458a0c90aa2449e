"""The whole server in this process, without ports."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest

from headrace import Model
from headrace.asgi import create_app
from headrace.errors import ConfigurationError, LoadFailed
from headrace.testing import TestClient
from support.custom import write_model


class Double(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2


class Broken(Model):
    def load(self) -> None:
        raise OSError("no weights")


REQUEST = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP64", "data": [1, 2]}]}


def test_a_class_is_served_in_this_process() -> None:
    with TestClient(Double) as client:
        answer = client.post("/v2/models/Double/infer", json=REQUEST)

        assert answer.status_code == 200
        assert answer.json()["outputs"][0]["data"] == [2.0, 4.0]
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert "model_infer_request_success_total" in client.get("/metrics").text


def test_a_folder_is_served_as_the_command_would(tmp_path: Path) -> None:
    with TestClient(write_model(tmp_path), name="renamed") as client:
        answer = client.post("/v2/models/renamed/infer", json=REQUEST)

        assert answer.json()["outputs"][0]["data"] == [2.0, 4.0]


def test_errors_have_their_forms() -> None:
    with TestClient(Double) as client:
        assert client.post("/v2/models/Double/infer", content=b"{").status_code == 400
        assert client.post("/invocations", json={}).json()["error_code"]
        assert client.get("/v2/models/Double/infer").status_code == 405
        assert client.get("/nothing").status_code == 404


def test_a_model_that_cannot_be_loaded_ends_the_start_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headrace.server.START_PATIENCE", 0.0)
    with pytest.raises(LoadFailed, match="Broken: .*no weights"), TestClient(Broken):
        pass


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--max-queue-size: expected integer"):
        create_app(Double, max_queue_size="many")


def test_a_host_that_sends_lifespan_events_starts_and_stops_it() -> None:
    async def main() -> list[str]:
        app = create_app(Double)
        events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        said: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        life = asyncio.create_task(app({"type": "lifespan"}, events.get, said.put))
        await events.put({"type": "lifespan.startup"})
        heard = [(await said.get())["type"]]
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            answer = await client.post("/v2/models/Double/infer", json=REQUEST)
            assert answer.status_code == 200
        await events.put({"type": "lifespan.shutdown"})
        heard.append((await said.get())["type"])
        await life
        return heard

    assert asyncio.run(main()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
