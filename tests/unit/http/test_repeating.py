"""Requests that are left without an answer are sent again."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from headrace.http.repeating import ATTEMPTS, Repeating

POST = {"type": "http", "method": "POST", "path": "/invocations", "headers": []}


class Proxy:
    """Answers with the body it got; first, `deaths` times, it reads some messages and ends."""

    def __init__(self, deaths: int, reads: int = 2) -> None:
        self.calls = 0
        self._deaths = deaths
        self._reads = reads

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        if self.calls <= self._deaths:
            for _ in range(self._reads):
                await receive()
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


async def pieces() -> Any:
    for piece in (b"one ", b"two ", b"three"):
        yield piece


def post(app: Any) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.post("/invocations", content=pieces())

    return asyncio.run(main())


def messages(app: Any, *given: Any) -> list[Any]:
    """What the application sends to a client that sends these messages."""
    sent: list[Any] = []

    async def main() -> None:
        left = iter(given)

        async def receive() -> Any:
            return next(left)

        async def send(message: Any) -> None:
            sent.append(message)

        await app(dict(POST), receive, send)

    asyncio.run(main())
    return sent


@pytest.mark.parametrize("deaths", [0, 1, ATTEMPTS - 1])
@pytest.mark.parametrize("reads", [0, 2, 4])
def test_the_whole_body_is_sent_again_however_much_was_read(deaths: int, reads: int) -> None:
    proxy = Proxy(deaths, reads)

    assert post(Repeating(proxy)).content == b"one two three"
    assert proxy.calls == deaths + 1


def test_a_request_that_ends_every_server_is_given_up() -> None:
    proxy = Proxy(deaths=100)

    assert messages(Repeating(proxy), *[{"type": "http.request", "body": b"x"}] * 9) == []
    assert proxy.calls == ATTEMPTS


def test_a_caller_who_left_is_not_asked_for_again() -> None:
    proxy = Proxy(deaths=1)
    body = {"type": "http.request", "body": b"x", "more_body": True}

    assert messages(Repeating(proxy), body, {"type": "http.disconnect"}) == []
    assert proxy.calls == 1


def test_an_answer_that_broke_off_is_not_repeated() -> None:
    calls = []

    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        calls.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent = messages(Repeating(breaks), {"type": "http.request", "body": b"x"})

    assert len(sent) == len(calls) == 1


def test_a_body_beyond_the_limit_is_sent_once() -> None:
    proxy = Proxy(deaths=1, reads=1)

    assert (
        messages(Repeating(proxy, most_kept=10), {"type": "http.request", "body": b"x" * 11}) == []
    )
    assert proxy.calls == 1


def test_a_body_counts_against_the_limit_until_it_is_answered() -> None:
    proxy = Proxy(deaths=1)
    app = Repeating(proxy, most_kept=13)

    for _ in range(3):
        proxy.calls = 0
        assert post(app).content == b"one two three"
