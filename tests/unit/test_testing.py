"""The whole server in this process, without ports."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from headrace import Model
from headrace.asgi import create_app
from headrace.errors import ConfigurationError, LoadFailed, ModelNotReady
from headrace.testing import TestClient
from support.custom import write_model
from support.serving import until


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


def test_a_class_from_inside_of_a_function_is_served() -> None:
    class Local(Model):
        def predict(self, x: np.ndarray) -> np.ndarray:
            return x + 1

    with TestClient(Local) as client:
        answer = client.post("/v2/models/Local/infer", json=REQUEST)

    assert answer.json()["outputs"][0]["data"] == [2.0, 3.0]


def test_a_client_outside_of_its_block_says_so_and_may_be_used_again() -> None:
    client = TestClient(Double)
    with pytest.raises(RuntimeError, match="in a `with` block"):
        client.get("/v2")
    for _ in range(2):
        with client:
            assert client.get("/v2/health/live").status_code == 200
    with pytest.raises(RuntimeError, match="in a `with` block"):
        client.get("/v2")


def test_it_can_be_mounted_below_a_path() -> None:
    app = create_app(Double, parallel_workers=0)

    async def main() -> list[httpx.Response]:
        await app.start()
        transport = httpx.ASGITransport(Starlette(routes=[Mount("/ml", app)]))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                answers = [
                    await client.post("/ml/v2/models/Double/infer", json=REQUEST),
                    await client.get("/ml/v2/models/Double"),
                    await client.post("/ml/invocations", json={}),
                    await client.get("/ml/invocations"),
                    await client.get("/ml/openapi.json"),
                ]
        finally:
            await app.stop()
        return answers

    answers = asyncio.run(main())

    assert [answer.status_code for answer in answers] == [200, 200, 400, 405, 200]
    assert "error_code" in answers[2].json()
    assert answers[4].json()["servers"] == [{"url": "/ml"}]


def test_a_host_may_start_it_before_its_lifespan_begins() -> None:
    app = create_app(Double, parallel_workers=0)
    sent: list[str] = []

    async def main() -> None:
        events = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> dict[str, str]:
            return {"type": next(events)}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await app.start()
        app.require_ready()
        await app({"type": "lifespan"}, receive, send)
        with pytest.raises(ModelNotReady, match="not started"):
            app.require_ready()

    asyncio.run(main())

    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_an_application_of_which_a_model_failed_is_not_ready(tmp_path: Path) -> None:
    write_model(tmp_path, name="fine")
    write_model(tmp_path, name="broken", load='raise OSError("no weights")')
    app = create_app(tmp_path, parallel_workers=0)

    async def main() -> None:
        await app.start()
        try:
            app.require_ready()
        finally:
            await app.stop()

    with pytest.raises(ModelNotReady, match="broken: .*raised OSError"):
        asyncio.run(main())


def test_a_caller_of_another_server_who_leaves_withdraws_the_request() -> None:
    begun, may_end = threading.Event(), threading.Event()

    class Slow(Model):
        def predict(self, x: np.ndarray) -> np.ndarray:
            begun.set()
            assert may_end.wait(60)
            return x

    async def main() -> list[Any]:
        app = create_app(Slow, parallel_workers=0)
        await app.start()
        body = json.dumps(REQUEST).encode()
        scope = {
            **{"type": "http", "method": "POST", "path": "/v2/models/Slow/infer"},
            **{"headers": [], "query_string": b"", "http_version": "1.1"},
        }
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await messages.put({"type": "http.request", "body": body})
        asking = asyncio.create_task(app(scope, messages.get, send))
        assert await asyncio.to_thread(begun.wait, 60)
        await messages.put({"type": "http.disconnect"})
        await asking
        may_end.set()
        await app.stop()
        return sent

    assert asyncio.run(main()) == []


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
    monkeypatch.setattr("headrace.application.START_PATIENCE", 0.0)
    with pytest.raises(LoadFailed, match="Broken: .*raised OSError"), TestClient(Broken):
        pass


def test_a_wrong_setting_is_refused_by_the_name_that_was_given() -> None:
    for value in ("many", None):
        with pytest.raises(ConfigurationError, match="^max_queue_size: expected integer"):
            create_app(Double, max_queue_size=value)
    with pytest.raises(ConfigurationError, match="^infer_timeout: expected a number above"):
        TestClient(Double, infer_timeout=0)
    with pytest.raises(
        ConfigurationError, match=r"^metrics_port cannot be set in create_app\(\): "
    ):
        TestClient(Double, metrics_port=9000)


@pytest.mark.parametrize("setting", ["follow", "watch", "reload"])
def test_a_setting_that_a_class_cannot_have_is_refused(setting: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{setting} is for "):
        create_app(Double, **{setting: True})


def test_a_folder_is_watched(tmp_path: Path) -> None:
    write_model(tmp_path, name="first")
    ready = "/v2/models/second/ready"
    with TestClient(tmp_path, watch=True, follow_interval=0.05) as client:
        write_model(tmp_path, name="second")
        until(lambda: client.get(ready).status_code == 200, 60, "the second model is served")


def test_a_setting_that_does_not_exist_is_refused_with_the_one_that_is_meant(
    tmp_path: Path,
) -> None:
    for served in (Double, write_model(tmp_path)):
        with pytest.raises(TypeError, match="'paralel_workers'; did you mean 'parallel_workers'"):
            create_app(served, paralel_workers=7)
    with pytest.raises(TypeError, match="'qqq'$"):
        create_app(Double, qqq=1)


def test_none_is_a_value_that_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_METRICS_ENDPOINT", "/measured")
    with TestClient(Double) as client:
        assert client.get("/measured").status_code == 200
    with TestClient(Double, metrics_endpoint=None) as client:
        assert client.get("/measured").status_code == 404
        assert client.get("/metrics").status_code == 404


def test_requests_that_run_or_wait_when_it_stops_fail_at_once() -> None:
    begun, may_end = threading.Event(), threading.Event()

    class Slow(Model):
        def predict(self, x: np.ndarray) -> np.ndarray:
            begun.set()
            assert may_end.wait(60)
            return x

    async def main() -> list[httpx.Response]:
        app = create_app(Slow)
        await app.start()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            asked = [
                asyncio.create_task(client.post("/v2/models/Slow/infer", json=REQUEST))
                for _ in range(2)
            ]
            assert await asyncio.to_thread(begun.wait, 60)
            stopping = asyncio.create_task(app.stop())
            answers = await asyncio.gather(*asked)
            # The model is still at it.
            assert not may_end.is_set()
            may_end.set()
            await stopping
        return answers

    answers = asyncio.run(main())

    assert [answer.status_code for answer in answers] == [503, 503]
    assert all("the application is stopping" in answer.text for answer in answers)


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
