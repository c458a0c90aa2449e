"""OpenAI's chat completions, for MLflow's ChatModel and ChatAgent.

Source: OpenAI's API reference, "Create chat completion" and "The chat completion chunk object".
"""

from __future__ import annotations

from time import time
from typing import Any

import msgspec

from headrace.adapters.adapter import ModelView, Route
from headrace.adapters.openai_forms import Fields, OpenAIRoutes
from headrace.errors import BadModelOutput, InvalidInput

# In a message whose content has parts of text.
TEXT = b'"text"'
# Bytes of a list that may be empty; white space in it is no reason to read a longer one.
SHORT = 64


class _Part(msgspec.Struct):
    type: str
    text: str | None = None


_messages = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_parts = msgspec.json.Decoder(list[_Part])


class ChatCompletions(OpenAIRoutes):
    """A chat's messages, answered by the next one."""

    name = "chat_completions"
    kind = "a chat model"
    absent = "no chat model is served"
    routes = (Route("/v1/chat/completions", may_stream=True),)
    # ChatModel, ChatAgent, and pipelines that were logged for chats.
    tasks = ("agent/v1/chat", "agent/v2/chat", "llm/v1/chat")
    summary = "Chat with"
    request_schema = "ChatCompletionRequest"
    example = {"messages": [{"role": "user", "content": "Hello!"}]}

    def scoring_body(self, fields: Fields) -> Fields:
        if "messages" not in fields:
            raise InvalidInput("the request body: expected 'messages', a list of objects")
        if _is_empty(fields["messages"]):
            raise InvalidInput("messages: expected at least one")
        if "max_completion_tokens" in fields:
            # The newer name of the same limit, which MLflow does not know.
            fields.setdefault("max_tokens", fields.pop("max_completion_tokens"))
        if TEXT in bytes(fields["messages"]):
            fields["messages"] = _with_joined_texts(fields["messages"])
        return fields

    def answer(self, value: Fields, model: ModelView, id: str) -> Fields:
        choices = value.get("choices")
        if choices is None:
            message = _last_message(value, model)
            choices = [_choice("message", message, value.pop("finish_reason", None) or "stop")]
        return {**_head("chat.completion", model, id), **value, "choices": choices}

    def piece(self, value: Fields, model: ModelView, id: str) -> Fields:
        choices = value.get("choices")
        if choices is None:
            delta = value.pop("delta", None) or {}
            choices = [_choice("delta", delta, value.pop("finish_reason", None))]
        # Clients expect this field in every piece.
        choices = [{"finish_reason": None, **choice} for choice in choices]
        return {**_head("chat.completion.chunk", model, id), **value, "choices": choices}

    schemas = {
        **OpenAIRoutes.schemas,
        "ChatCompletionRequest": {
            "type": "object",
            "required": ["messages"],
            "additionalProperties": True,
            "properties": {
                "model": {"type": "string", "description": "name of the model"},
                "messages": {"type": "array", "items": {"type": "object"}},
                "stream": {"type": "boolean", "description": "answer with server-sent events"},
            },
        },
    }


def _is_empty(messages: bytes) -> bool:
    return len(messages) <= SHORT and bytes(messages).split() in ([b"[]"], [b"[", b"]"])


def _with_joined_texts(messages: bytes) -> Any:
    """Messages in which parts that are all text are one text, as MLflow's chats take no parts.

    What has another form stays as it is: MLflow says what is wrong with it.
    """
    try:
        found = _messages.decode(messages)
    except msgspec.DecodeError:
        return messages
    for message in found:
        try:
            parts = _parts.decode(message.get("content", b""))
        except msgspec.DecodeError:
            continue
        if parts and all(part.type == "text" for part in parts):
            joined = "".join(part.text or "" for part in parts)
            message["content"] = msgspec.Raw(msgspec.json.encode(joined))
    return found


def _head(object: str, model: ModelView, id: str) -> dict[str, Any]:
    """The fields that OpenAI's answers always have, for those that the model leaves out."""
    return {"id": f"chatcmpl-{id}", "object": object, "created": int(time()), "model": model.name}


def _choice(name: str, message: Fields, finish_reason: str | None) -> Fields:
    return {"index": 0, name: message, "finish_reason": finish_reason}


def _last_message(value: Fields, model: ModelView) -> Fields:
    """What a ChatAgent says in the end; the messages before it are its own steps."""
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadModelOutput(
            f"model '{model.name}' answered with neither 'choices' nor 'messages', which OpenAI's "
            "clients cannot read"
        )
    last: Fields = messages[-1]
    return last
