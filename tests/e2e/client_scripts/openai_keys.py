"""Sends a server with keys what OpenAI's own client sends: `openai_keys.py URL`.

Prints, as one JSON object, what each key gets for each call: a text, or the name of an error. The
server has the models `chat` and `responses`, and the last key may be used for `chat` alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import openai

KEYS = ("hr_wrong", "hr_read", "hr_infer", "hr_restricted")
MESSAGES = [{"role": "user", "content": "hello"}]


def told(call: Callable[[], str]) -> str:
    try:
        return call()
    except openai.APIStatusError as error:
        return type(error).__name__


def answers(client: openai.OpenAI) -> dict[str, str]:
    chat, respond = client.chat.completions.create, client.responses.create
    return {
        "models": told(lambda: " ".join(model.id for model in client.models.list())),
        "one": told(lambda: client.models.retrieve("responses").id),
        "chat": told(lambda: chat(model="chat", messages=MESSAGES).choices[0].message.content),
        "streamed": told(
            lambda: "".join(
                chunk.choices[0].delta.content
                for chunk in chat(model="chat", messages=MESSAGES, stream=True)
            )
        ),
        "responses": told(lambda: respond(model="responses", input="hello").output_text),
    }


def main(url: str) -> None:
    clients = {key: openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) for key in KEYS}
    print(json.dumps({key: answers(client) for key, client in clients.items()}))


if __name__ == "__main__":
    main(sys.argv[1])
