"""Server-sent events as ASGI messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.http.events import Events

Message = dict[str, Any]


def sent(scenario: Callable[[Events], Awaitable[None]]) -> list[Message]:
    """The messages that a scenario sends."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def body() -> None:
        await scenario(Events(send, b"id-1"))

    asyncio.run(body())
    return messages


def test_the_head_goes_out_with_the_first_event_and_once() -> None:
    async def scenario(events: Events) -> None:
        assert not events.started
        await events.send(b"data: 1\n\n")
        await events.send(b"data: 22\n\n")
        await events.end()
        assert (events.started, events.sent) == (True, 19)

    head, *bodies = sent(scenario)

    assert (head["type"], head["status"]) == ("http.response.start", 200)
    assert dict(head["headers"]) == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-cache",
        b"x-request-id": b"id-1",
    }
    assert [(body["body"], body["more_body"]) for body in bodies] == [
        (b"data: 1\n\n", True),
        (b"data: 22\n\n", True),
        (b"", False),
    ]


def test_headers_of_the_first_piece_are_sent_and_later_ones_are_not() -> None:
    async def scenario(events: Events) -> None:
        events.add_headers([(b"x-seen", b"first")])
        await events.send(b"data: 1\n\n")
        events.add_headers([(b"x-seen", b"second")])
        await events.end()

    assert dict(sent(scenario)[0]["headers"])[b"x-seen"] == b"first"


def test_a_stream_without_events_has_a_head_and_an_end() -> None:
    messages = sent(Events.end)

    assert [message["type"] for message in messages] == [
        "http.response.start",
        "http.response.body",
    ]
    assert messages[1]["more_body"] is False
