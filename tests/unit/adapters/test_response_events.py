"""What is added to the events of an agent that yields text and items that are done."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.adapters import response_events
from headrace.adapters.response_events import ResponseEvents
from headrace.errors import BadModelOutput

HEAD = {"id": "resp_1", "object": "response"}


def delta(text: str, id: str = "m", **more: Any) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "item_id": id, "delta": text, **more}


def done(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.done", "item": item}


def message(*texts: str, id: str = "m") -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "id": id, "role": "assistant", "content": content}


def framed(*events: dict[str, Any]) -> list[dict[str, Any]]:
    """All events of a stream whose agent yields these."""
    stream = ResponseEvents()
    sent = [each for event in events for each in stream.around(event, HEAD)]
    return [*sent, *stream.end(HEAD)]


def short(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_text_and_the_item_it_belongs_to_are_announced_and_completed() -> None:
    events = framed(delta("a"), delta("b"), done(message("ab")))

    assert short(events) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert [event["sequence_number"] for event in events] == list(range(10))
    assert events[-1]["response"]["output"] == [message("ab")]
    assert {event.get("output_index", 0) for event in events} == {0}


def test_an_item_without_pieces_is_sent_as_one_piece() -> None:
    events = framed(done(message("ab", "c")))

    assert [event["delta"] for event in events if "delta" in event] == ["ab", "c"]
    assert [event["content_index"] for event in events if "delta" in event] == [0, 1]


def test_a_call_of_a_tool_and_its_result_are_items_too() -> None:
    call = {"type": "function_call", "id": "f", "call_id": "c", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "1"}

    events = framed(done(call), done(result), delta("x"), done(message("x")))

    assert events[-1]["response"]["output"] == [call, result, message("x")]
    indexes = [event["output_index"] for event in events if event["type"].endswith("item.done")]
    assert indexes == [0, 1, 2]


def test_an_item_that_is_never_done_is_done_in_the_end_with_its_text() -> None:
    events = framed(delta("a", content_index=1), delta("b", content_index=1))

    (item,) = events[-1]["response"]["output"]
    assert [part["text"] for part in item["content"]] == ["", "ab"]
    assert short(events)[-3:] == ["content_part.done", "output_item.done", "completed"]


@pytest.mark.parametrize("first", ["response.created", "response.in_progress"])
def test_a_stream_that_the_agent_frames_is_sent_as_it_is(first: str) -> None:
    given = [{"type": first, "response": {}}, delta("a"), {"type": "response.completed"}]

    assert framed(*given) == given


def test_an_agent_may_announce_items_and_parts_itself() -> None:
    item, part = {**message(), "status": "in_progress"}, {"type": "output_text", "text": ""}
    place = {"item_id": "m", "content_index": 0}
    given = [
        {"type": "response.output_item.added", "item": item},
        {"type": "response.content_part.added", **place, "part": part},
        delta("a"),
        {"type": "response.content_part.done", **place, "part": part},
        done(message("a")),
    ]

    assert short(framed(*given))[2:-1] == short(given)


def test_an_agent_that_fails_in_its_own_words_completes_nothing() -> None:
    assert short(framed(delta("a"), {"type": "error", "message": "no"}))[-1] == "error"


def test_the_id_of_a_trace_stays_the_last_event() -> None:
    *_, completed, last = framed(done(message("a")), {"trace_id": "tr-1"})

    assert completed["type"] == "response.completed"
    assert last == {"trace_id": "tr-1"}


def test_an_agent_without_events_is_answered_with_an_empty_response() -> None:
    assert short(framed()) == ["created", "in_progress", "completed"]


def test_events_of_other_kinds_and_forms_are_passed_on() -> None:
    events = framed({"mine": 1}, {"type": "response.refusal.delta", "item_id": "?", "delta": "a"})

    assert events[2]["mine"] == 1
    assert events[3]["item_id"] == "?"


@pytest.mark.parametrize(
    "odd",
    [
        {"type": None}, {"type": []}, delta("a", id=None), delta("a", content_index=-1),
        delta("a", content_index="x"), {"type": "response.output_text.delta"}, done({}),
        {"type": "response.output_item.done", "item": 1}, done({"type": "message", "content": 1}),
        done({"type": "message", "content": [1, {}]}),
    ],
)  # fmt: skip
def test_odd_events_do_not_break_the_stream(odd: dict[str, Any]) -> None:
    assert framed(odd)[-1]["type"] == "response.completed"


def test_more_than_the_last_event_can_hold_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_events, "MOST_KEPT", 10)
    stream = ResponseEvents()
    list(stream.around(delta("a"), HEAD, size=10))

    with pytest.raises(BadModelOutput, match="/invocations"):
        list(stream.around(delta("a"), HEAD, size=1))
