"""Sends a server what a user of OpenAI's own client sends: `openai_calls.py URL`.

Prints one JSON object; the server has the models `chat`, `chat_agent` and `responses`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import openai

MESSAGES = [{"role": "user", "content": "hello big world"}]


def chat(client: openai.OpenAI, model: str) -> dict[str, Any]:
    whole = client.chat.completions.create(model=model, messages=MESSAGES)
    with client.chat.completions.stream(model=model, messages=MESSAGES) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion()
    chunks = client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    return {
        "whole": whole.choices[0].message.content,
        "finish_reason": whole.choices[0].finish_reason,
        "id": whole.id,
        "streamed": streamed.choices[0].message.content,
        "chunks": [chunk.choices[0].delta.content for chunk in chunks],
    }


def respond(client: openai.OpenAI, **arguments: Any) -> dict[str, Any]:
    whole = client.responses.create(**arguments)
    events = list(client.responses.create(stream=True, **arguments))
    return {
        "whole": whole.output_text,
        "status": whole.status,
        "types": [event.type for event in events],
        "deltas": [event.delta for event in events if event.type.endswith("delta")],
    }


def helped(client: openai.OpenAI, **arguments: Any) -> dict[str, Any]:
    with client.responses.stream(**arguments) as stream:
        types = [event.type for event in stream]
        final = stream.get_final_response()
    return {"types": types, "text": final.output_text, "status": final.status}


def refused(call: Any) -> dict[str, Any]:
    try:
        call()
    except openai.APIStatusError as error:
        return {"status": error.status_code, "message": error.message, "code": error.code}
    except openai.APIError as error:
        return {"status": None, "message": error.message, "code": error.code}
    return {}


def main(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
    at_root = openai.OpenAI(base_url=url, api_key="unused", max_retries=0)
    create = client.chat.completions.create
    answers = {
        "models": [model.id for model in client.models.list()],
        "model": client.models.retrieve("chat").id,
        "chat": chat(client, "chat"),
        "chat_agent": chat(client, "chat_agent"),
        "text": respond(client, model="responses", input="hello world"),
        "helped": helped(client, model="responses", input="hello world"),
        "items": respond(at_root, input=MESSAGES),
        "instructed": respond(client, model="responses", input="hi", instructions="be short"),
        "unknown": refused(lambda: create(model="gone", messages=MESSAGES)),
        "several": refused(lambda: create(model="", messages=MESSAGES)),
        "other": refused(lambda: create(model="responses", messages=MESSAGES)),
        "broken": refused(lambda: create(model="chat", messages=[{"content": "no role"}])),
        "broken_items": refused(
            lambda: client.responses.create(model="responses", input=[{"rolle": "user"}])
        ),
        "later": refused(
            lambda: list(client.responses.create(model="responses", input="fail", stream=True))
        ),
    }
    print(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1])
