"""The events of a streamed response that OpenAI's clients expect around those of an agent.

MLflow's agents yield pieces of text and the items that are done. OpenAI's streams begin with
`response.created`, announce each item and part before its text, and end with
`response.completed`; its client's `responses.stream()` fails without them.

Source: OpenAI's API reference, "Streaming events" of responses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.errors import BadModelOutput

Fields = dict[str, Any]

TEXT_DELTA, TEXT_DONE = "response.output_text.delta", "response.output_text.done"
PART_ADDED, PART_DONE = "response.content_part.added", "response.content_part.done"
ITEM_ADDED, ITEM_DONE = "response.output_item.added", "response.output_item.done"
# What an agent that frames its stream itself begins with.
FIRST = ("response.created", "response.queued", "response.in_progress")
# Bytes of a stream that are kept for its last event.
MOST_KEPT = 64 * 1024 * 1024
# After these, nothing is completed.
ENDS = ("response.completed", "response.failed", "response.incomplete", "error")


class ResponseEvents:
    """Adds what is missing to the events of one stream, and numbers them.

    An agent whose first event is one of `FIRST` frames its stream itself: nothing is added to it.
    """

    def __init__(self) -> None:
        self._response: Fields = {}
        self._is_framed_by_agent = self._is_over = False
        self._sent = self._kept = 0
        # Items that are announced and not done, by `_key`.
        self._open: dict[str, _Item] = {}
        self._indexes = 0
        self._done: dict[int, Fields] = {}

    def around(self, event: Fields, response: Fields, size: int = 0) -> Iterator[Fields]:
        """The event of an agent, with those that belong before and after it.

        `response` is what is known of the response before it has any output; `size` is that of
        the event in bytes.

        Raises:
            BadModelOutput: more has been said than can be repeated in `response.completed`.
        """
        kind = event.get("type")
        yield from self._begun(response, kind in FIRST)
        if self._is_framed_by_agent:
            yield event
            return
        if kind is None and "trace_id" in event:
            # MLflow's, which is the last event of a stream.
            yield from self.end(response)
            yield event
            return
        self._kept += size
        if self._kept > MOST_KEPT:
            raise BadModelOutput(
                f"the events of a response hold more than {MOST_KEPT >> 20} MiB, which is too "
                "much for the last of them; /invocations sends them as they are"
            )
        self._is_over = self._is_over or kind in ENDS
        for each in self._belonging(kind, event):
            yield self._number(each)

    def end(self, response: Fields) -> Iterator[Fields]:
        """The events after the agent's last one; `response` is as for `around`."""
        yield from self._begun(response)
        if self._is_framed_by_agent or self._is_over:
            return
        self._is_over = True
        for item in list(self._open.values()):
            for each in self._finished(item, item.as_far_as_known()):
                yield self._number(each)
        yield self._number({"type": "response.completed", "response": self._as("completed")})

    def _begun(self, response: Fields, by_agent: bool = False) -> Iterator[Fields]:
        """The events before the agent's first one, once."""
        if self._response:
            return
        self._response, self._is_framed_by_agent = response, by_agent
        if not by_agent:
            for kind in ("response.created", "response.in_progress"):
                yield self._number({"type": kind, "response": self._as("in_progress")})

    def _as(self, status: str) -> Fields:
        output = [self._done[index] for index in sorted(self._done)]
        return {**self._response, "status": status, "output": output}

    def _number(self, event: Fields) -> Fields:
        numbered = {**event, "sequence_number": self._sent}
        self._sent += 1
        return numbered

    def _belonging(self, kind: Any, event: Fields) -> Iterator[Fields]:
        item = event.get("item")
        if kind == ITEM_ADDED and isinstance(item, dict):
            added = self._add(item)
            yield {**event, "output_index": added.index}
        elif kind == ITEM_DONE and isinstance(item, dict):
            known = self._open.get(_key(item))
            if known is None:
                known = self._add(_begun(item))
                yield {"type": ITEM_ADDED, "output_index": known.index, "item": known.first}
            yield from self._finished(known, item, event)
        elif kind == TEXT_DELTA:
            yield from self._text(event)
        elif (known := self._open.get(_id(event, "item_id"))) is not None:
            part = event.get("part")
            if kind == PART_ADDED and isinstance(part, dict):
                known.parts.setdefault(_part(event), [_text(part)])
            elif kind == PART_DONE:
                known.done.add(_part(event))
            yield {"output_index": known.index, **event}
        else:
            yield event

    def _add(self, item: Fields) -> _Item:
        added = self._open[_key(item)] = _Item(self._indexes, item)
        self._indexes += 1
        return added

    def _text(self, event: Fields) -> Iterator[Fields]:
        """A piece of text, after the item and the part that it belongs to."""
        id, number = _id(event, "item_id"), _part(event)
        item = self._open.get(id)
        if item is None:
            item = self._add(_message(id))
            yield {"type": ITEM_ADDED, "output_index": item.index, "item": item.first}
        yield from item.announced(number, _output_text(""))
        item.parts[number].append(str(event.get("delta") or ""))
        yield {"logprobs": [], **event, **item.place(number)}

    def _finished(self, item: _Item, done: Fields, event: Fields | None = None) -> Iterator[Fields]:
        """What is left to say of an item, and that it is done."""
        content = done.get("content") if done.get("type") == "message" else None
        for number, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict) and number not in item.done:
                yield from item.rest_of(number, part)
        self._open.pop(_key(item.first), None)
        self._done[item.index] = done
        yield {**(event or {"type": ITEM_DONE, "item": done}), "output_index": item.index}


class _Item:
    """An item that is announced, and the text of its parts so far."""

    def __init__(self, index: int, first: Fields) -> None:
        self.index = index
        self.first = first
        self.parts: dict[int, list[str]] = {}
        self.done: set[int] = set()

    def place(self, part: int) -> Fields:
        return {"item_id": _id(self.first), "output_index": self.index, "content_index": part}

    def announced(self, number: int, part: Fields) -> Iterator[Fields]:
        """The events that announce a part, and those before it, unless they are announced."""
        for each in range(number + 1):
            if each not in self.parts:
                self.parts[each] = []
                yield {"type": PART_ADDED, **self.place(each), "part": part}

    def rest_of(self, number: int, part: Fields) -> Iterator[Fields]:
        """The events of a part that is known as a whole, without those that were sent."""
        place = self.place(number)
        is_text = part.get("type") == "output_text"
        yield from self.announced(number, {**part, "text": ""} if is_text else part)
        if is_text:
            if not self.parts[number] and _text(part):
                yield {"type": TEXT_DELTA, **place, "delta": _text(part), "logprobs": []}
            yield {"type": TEXT_DONE, **place, "text": _text(part), "logprobs": []}
        yield {"type": PART_DONE, **place, "part": part}

    def as_far_as_known(self) -> Fields:
        """The item, if the agent never says that it is done."""
        if not self.parts:
            return {**self.first, "status": "incomplete"}
        content = [_output_text("".join(self.parts[each])) for each in sorted(self.parts)]
        return {**self.first, "content": content, "status": "completed"}


def _begun(item: Fields) -> Fields:
    """An item that is done, as it was when it began."""
    begun = {**item, "status": "in_progress"}
    if item.get("type") == "message":
        begun["content"] = []
    return begun


def _message(id: str) -> Fields:
    return {
        "type": "message", "id": id, "role": "assistant", "status": "in_progress", "content": [],
    }  # fmt: skip


def _output_text(text: str) -> Fields:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _id(fields: Fields, key: str = "id") -> str:
    id = fields.get(key)
    return id if isinstance(id, str) else ""


def _key(item: Fields) -> str:
    """By what an item is known until it is done; results of tools have no id of their own."""
    return _id(item) or _id(item, "call_id")


def _part(event: Fields) -> int:
    number = event.get("content_index")
    return number if isinstance(number, int) and 0 <= number < 1000 else 0


def _text(part: Fields) -> str:
    text = part.get("text")
    return text if isinstance(text, str) else ""
