"""What is large is decoded and encoded beside the event loop, whichever way it comes."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from typing import Any

import httpx
import numpy as np
import pytest

from headrace import Model
from headrace.application import Application
from headrace.asgi import create_app
from headrace.http.connection import Connection
from headrace.http.http_call import HttpCall
from headrace.http.inference import LARGE
from headrace.http.listener import Listener
from headrace.protocol.open_inference import rest_json
from headrace.settings import ModelSettings, ServerSettings
from headrace.sockets import bind
from headrace.sources.supply import Supply


class Repeats(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.zeros(int(x[0]))


class Bodies(Model):
    """Answers how long the bodies are that calls of this process have, and had."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        calls = [each for each in gc.get_objects() if type(each) is HttpCall]
        return np.array([[len(each.body), each.received] for each in calls])


def body(count: int, padding: int = 0) -> bytes:
    tensor = {"name": "x", "shape": [1], "datatype": "INT64", "data": [count]}
    return json.dumps({"inputs": [tensor]}).encode() + b" " * padding


CASES = {
    "a large body": (body(1, LARGE), "decode_request"),
    "a large answer to a small body": (body(LARGE // 8), "encode_response"),
}


@pytest.mark.parametrize("transport", ["own listener", "another server"])
@pytest.mark.parametrize("case", list(CASES))
def test_health_answers_while_something_large_is_read_or_written(
    case: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, slow = CASES[case]
    begun, healthy = threading.Event(), threading.Event()
    work = getattr(rest_json, slow)

    def wait(*arguments: Any, **more: Any) -> Any:
        begun.set()
        assert healthy.wait(60), "nothing else was answered in the meantime"
        return work(*arguments, **more)

    monkeypatch.setattr(rest_json, slow, wait)

    async def ask(client: httpx.AsyncClient) -> None:
        path = "/v2/models/Repeats/infer"
        inference = asyncio.create_task(client.post(path, content=sent))
        assert await asyncio.to_thread(begun.wait, 60)
        assert (await client.get("/v2/health/live")).status_code == 200
        healthy.set()
        assert (await inference).status_code == 200

    asyncio.run(_with_server(ask) if transport == "own listener" else _with_app(ask))


@pytest.mark.parametrize(("count", "status"), [(1, 200), (-1, 500)])
def test_a_large_body_is_freed_without_the_collector(count: int, status: int) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v2/models/Repeats/infer", content=body(count, LARGE))
        assert answer.status_code == status
        async with asyncio.timeout(60):
            while any(type(each) is HttpCall for each in gc.get_objects()):
                await asyncio.sleep(0)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(_with_server(ask))
    finally:
        gc.enable()


def test_a_large_body_is_gone_while_its_model_works() -> None:
    sent = body(1, LARGE)

    async def ask(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v2/models/Bodies/infer", content=sent)
        assert answer.json()["outputs"][0]["data"] == [0, len(sent)]

    gc.collect()
    asyncio.run(_with_app(ask, Bodies))


def test_a_connection_that_has_asked_a_model_is_freed_without_the_collector() -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v2/models/Repeats/infer", content=body(1))
        assert answer.status_code == 200
        asked = [weakref.ref(each) for each in gc.get_objects() if isinstance(each, Connection)]
        assert asked
        await client.aclose()
        async with asyncio.timeout(60):
            while any(each() is not None for each in asked):
                await asyncio.sleep(0.001)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(_with_server(ask))
    finally:
        gc.enable()


async def _with_app(ask: Any, model: type[Model] = Repeats) -> None:
    app = create_app(model, parallel_workers=0)
    await app.start()
    try:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x", timeout=60) as each:
            await ask(each)
    finally:
        await app.stop()


async def _with_server(ask: Any) -> None:
    settings = ServerSettings(parallel_workers=0)
    own = ModelSettings("Repeats", f"{__name__}:Repeats", inline=True)
    application = Application(settings, Supply([own], lambda name: [own]))
    assert await application.load()
    sock = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    refuse = application.refusals.refuse
    listener = await Listener.start(application.http, [sock], settings, refuse)
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            await ask(client)
    finally:
        await listener.stop()
        await application.close()
