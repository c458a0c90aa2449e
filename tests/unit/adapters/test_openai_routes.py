"""OpenAI's routes: what the adapters read and write, without a server."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.adapters.agent_info import AgentInfo
from headrace.adapters.chat_completions import ChatCompletions
from headrace.adapters.openai_forms import OpenAIRoutes
from headrace.adapters.responses import Responses
from headrace.errors import (
    BadModelOutput,
    HeadraceError,
    InvalidInput,
    ModelFailed,
    NotFound,
    UnsupportedMedia,
)
from headrace.protocol.messages import TASK, InferenceResponse, ModelMetadata
from headrace.protocol.tensor import Tensor, pack_bytes, unpack_bytes

CHAT, RESPONSES = ChatCompletions(), Responses()
MESSAGES = [{"role": "user", "content": "hi"}]


def view(task: str | None = None, is_ready: bool = True, **more: Any) -> Any:
    parameters = {**({TASK: task} if task else {}), **more}
    return SimpleNamespace(
        name="m",
        version=None,
        model_metadata=ModelMetadata(parameters=parameters),
        signature=None,
        is_ready=is_ready,
    )


CHAT_AGENT, RESPONSES_AGENT = view("agent/v2/chat"), view("agent/v1/responses")


def asked(body: Any, media_type: bytes = b"application/json") -> Any:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return SimpleNamespace(headers={b"content-type": media_type}, body=sent, scope={})


def scored(adapter: OpenAIRoutes, model: Any, /, **body: Any) -> Any:
    """The body of MLflow's protocol that a body becomes."""
    request, _ = adapter.decode(asked(body), model)
    return json.loads(unpack_bytes(request.inputs[0].data, 1)[0])


def said(value: Any) -> InferenceResponse:
    """A model's answer of one JSON value."""
    data = pack_bytes([json.dumps(value).encode()])
    return InferenceResponse([Tensor("output-1", "BYTES", [1], data)], {"content_type": "json"})


def whole(adapter: OpenAIRoutes, value: Any) -> Any:
    return json.loads(adapter.encode(view(), said(value), "7", None).body)


def piece(adapter: OpenAIRoutes, value: Any) -> Any:
    event = adapter.event(view(), said(value), "7", None)
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    return json.loads(event[6:])


@pytest.mark.parametrize(
    ("body", "name"), [({"model": "m"}, "m"), ({}, None), ({"model": ""}, None)]
)
def test_the_body_says_which_model_is_meant(body: Any, name: str | None) -> None:
    assert CHAT.select(None, None, asked(body)) == (name, None)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": 1}', b"\xff"])
def test_a_body_that_cannot_say_so_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="^the request body|^model"):
        CHAT.select(None, None, asked(body))


@pytest.mark.parametrize(
    ("task", "chats", "responds"),
    [
        ("agent/v1/chat", True, False),
        ("agent/v2/chat", True, False),
        ("llm/v1/chat", True, False),
        ("agent/v1/responses", False, True),
        (None, False, False),
    ],
)
def test_the_task_says_which_routes_a_model_has(
    task: str | None, chats: bool, responds: bool
) -> None:
    assert (CHAT.speaks(view(task)), RESPONSES.speaks(view(task))) == (chats, responds)


def test_a_model_for_something_else_is_refused_with_the_way_to_it() -> None:
    with pytest.raises(InvalidInput, match=r"'m' is not a chat model.*/v2/models/m/invocations"):
        CHAT.decode(asked({"messages": MESSAGES}), view("agent/v1/responses"))


def test_other_media_types_are_refused() -> None:
    with pytest.raises(UnsupportedMedia):
        CHAT.decode(asked({"messages": MESSAGES}, b"text/csv"), CHAT_AGENT)


def test_the_model_gets_neither_its_name_nor_the_way_of_sending() -> None:
    body = scored(CHAT, CHAT_AGENT, model="m", messages=MESSAGES, stream=True, user="u")

    assert body == {"messages": MESSAGES, "user": "u"}


def test_the_newer_name_of_a_limit_is_the_older_one_to_the_model() -> None:
    body = scored(CHAT, CHAT_AGENT, messages=MESSAGES, max_completion_tokens=5)

    assert body == {"messages": MESSAGES, "max_tokens": 5}


@pytest.mark.parametrize(
    ("content", "given"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ('"text"', '"text"'),
        ([], []),
    ],
    ids=["parts", "text", "nothing"],
)
def test_parts_of_text_are_one_text_to_the_model(content: Any, given: Any) -> None:
    other = {"role": "assistant", "content": None}
    body = scored(CHAT, CHAT_AGENT, messages=[{"role": "user", "content": content}, other])

    assert body["messages"] == [{"role": "user", "content": given}, other]


@pytest.mark.parametrize(
    "messages", ["text", [{"role": "user", "content": [{"type": "image_url"}, {"type": "text"}]}]]
)
def test_what_the_model_cannot_take_is_left_for_it_to_refuse(messages: Any) -> None:
    assert scored(CHAT, CHAT_AGENT, messages=messages) == {"messages": messages}


@pytest.mark.parametrize(
    ("adapter", "model", "field"),
    [(CHAT, CHAT_AGENT, "messages"), (RESPONSES, RESPONSES_AGENT, "input")],
    ids=["chat", "responses"],
)
def test_a_body_without_its_data_says_what_is_missing(
    adapter: OpenAIRoutes, model: Any, field: str
) -> None:
    with pytest.raises(InvalidInput, match=f"expected '{field}'"):
        adapter.decode(asked({"model": "m"}), model)


def test_a_text_is_a_users_message_after_the_instructions() -> None:
    body = scored(RESPONSES, RESPONSES_AGENT, input="hi", instructions='say "no"')

    assert body["input"] == [{"role": "system", "content": 'say "no"'}, *MESSAGES]


def test_instructions_of_null_are_none() -> None:
    assert len(scored(RESPONSES, RESPONSES_AGENT, input="hi", instructions=None)["input"]) == 1


@pytest.mark.parametrize("value", [1, [], {}, True])
def test_instructions_that_are_no_text_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="^instructions: expected a text$"):
        scored(RESPONSES, RESPONSES_AGENT, input="hi", instructions=value)


@pytest.mark.parametrize("value", ["true", 1, 0, [], {}])
def test_a_stream_that_is_neither_wanted_nor_not_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="^stream: expected true or false$"):
        scored(CHAT, CHAT_AGENT, messages=MESSAGES, stream=value)


@pytest.mark.parametrize("value", [True, False, None])
def test_the_model_does_not_get_the_wish_for_a_stream(value: Any) -> None:
    assert scored(CHAT, CHAT_AGENT, messages=MESSAGES, stream=value) == {"messages": MESSAGES}


def test_items_are_given_to_the_agent_as_they_are() -> None:
    assert scored(RESPONSES, RESPONSES_AGENT, input=MESSAGES) == {"input": MESSAGES}


@pytest.mark.parametrize("value", [1, None, {"role": "user"}])
def test_input_of_another_kind_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^input: expected a text or a list"):
        scored(RESPONSES, RESPONSES_AGENT, input=value)


@pytest.mark.parametrize("field", ["previous_response_id", "conversation"])
def test_a_conversation_that_the_server_would_have_to_keep_is_refused(field: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: the server keeps no conversations"):
        scored(RESPONSES, RESPONSES_AGENT, input="hi", **{field: "x"})

    assert scored(RESPONSES, RESPONSES_AGENT, input=MESSAGES, **{field: None})


def test_a_chat_models_answer_keeps_its_fields_and_gets_those_that_clients_need() -> None:
    choices = [{"index": 0, "message": {"role": "assistant"}, "finish_reason": "length"}]
    answer = whole(CHAT, {"choices": choices, "model": "mine", "created": 5})

    assert answer == {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 5,
        "model": "mine",
        "choices": choices,
    }


def test_the_last_message_of_a_chat_agent_is_the_choice() -> None:
    steps = [{"role": "tool", "content": "2"}, {"role": "assistant", "content": "two"}]
    answer = whole(CHAT, {"messages": steps, "usage": {"total_tokens": 3}})

    choice = {"index": 0, "message": steps[-1], "finish_reason": "stop"}
    assert answer["choices"] == [choice]
    assert answer["messages"] == steps
    assert answer["usage"] == {"total_tokens": 3}


def test_the_only_answer_of_a_pipeline_is_taken_from_its_list() -> None:
    assert whole(CHAT, [{"choices": [], "id": "x"}])["id"] == "x"


@pytest.mark.parametrize("value", [{"text": "x"}, {"messages": []}, "x", [1, 2]])
def test_an_answer_that_is_no_chat_is_the_models_failure(value: Any) -> None:
    with pytest.raises(BadModelOutput):
        whole(CHAT, value)


def test_a_chat_agents_chunk_becomes_a_choices_delta() -> None:
    chunk = piece(CHAT, {"delta": {"role": "assistant", "content": "a"}})

    choice = {"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": None}
    assert chunk["choices"] == [choice]
    assert (chunk["id"], chunk["object"]) == ("chatcmpl-7", "chat.completion.chunk")


def test_each_choice_of_a_chunk_has_the_field_that_clients_read() -> None:
    chunk = piece(CHAT, {"choices": [{"index": 0, "delta": {}}, {"finish_reason": "stop"}]})

    assert [choice["finish_reason"] for choice in chunk["choices"]] == [None, "stop"]


def test_a_responses_agents_answer_gets_the_fields_that_clients_need() -> None:
    answer = whole(RESPONSES, {"output": [], "object": "response", "status": "incomplete"})

    assert (answer["id"], answer["model"]) == ("resp_7", "m")
    assert answer["status"] == "incomplete"
    assert {"created_at", "tools", "tool_choice", "parallel_tool_calls"} <= set(answer)


@pytest.mark.parametrize("messages", [b"[]", b"[ ]", b"[\n\t]"])
def test_a_chat_without_messages_is_refused(messages: bytes) -> None:
    with pytest.raises(InvalidInput, match="messages: expected at least one"):
        CHAT.decode(asked(b'{"messages": %b}' % messages), CHAT_AGENT)


def test_a_stream_of_a_responses_agent_ends_with_the_whole_response() -> None:
    _, context = RESPONSES.decode(asked({"input": "hi"}), RESPONSES_AGENT)
    item = {"type": "message", "id": "1", "content": [{"type": "output_text", "text": "a"}]}
    done = said({"type": "response.output_item.done", "item": item})

    sent = RESPONSES.event(RESPONSES_AGENT, done, "7", context)
    sent += RESPONSES.last_events(RESPONSES_AGENT, "7", context)

    first, *_, completed, last = sent.decode().strip().split("\n\n")
    assert json.loads(first[6:])["type"] == "response.created"
    assert json.loads(completed[6:])["response"]["output"] == [item]
    assert last == "data: [DONE]"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [(NotFound("no"), 404, "invalid_request_error"), (ModelFailed("no"), 500, "server_error")],
)
def test_errors_have_openais_form(error: HeadraceError, status: int, kind: str) -> None:
    found, body = CHAT.error(error)

    assert found == status
    fields = {"message": "no", "type": kind, "param": None, "code": error.kind}
    assert json.loads(body) == {"error": fields}
    assert json.loads(CHAT.error_event(body)[6:]) == {"error": fields}


@pytest.mark.parametrize(
    ("task", "more"),
    [("agent/v1/responses", {"agent_api": "responses"}), ("agent/v2/chat", {})],
)
def test_the_page_about_the_agent_says_what_mlflows_agent_server_says(
    monkeypatch: pytest.MonkeyPatch, task: str, more: Any
) -> None:
    monkeypatch.delenv("DATABRICKS_APP_NAME", raising=False)
    directory: Any = SimpleNamespace(find=lambda *_: view(task, mlflow_version="3.1"))

    shown = json.loads(AgentInfo().info(directory).body)

    assert shown == {"name": "m", "use_case": "agent", "mlflow_version": "3.1", **more}


def test_only_agents_are_on_that_page() -> None:
    tasks = ["agent/v1/chat", "llm/v1/chat", None]

    assert [AgentInfo().speaks(view(task)) for task in tasks] == [True, False, False]
