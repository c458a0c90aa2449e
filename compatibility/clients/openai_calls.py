"""Makes the calls of OpenAI's client that agents are for: `openai_calls.py URL [WORD...]`.

With words, only calls whose name has one of them. Prints a JSON list of area, call and the reason
why it failed, which is empty if it did not.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import openai

MESSAGES: Any = [{"role": "user", "content": "hello big world"}]
PARTS: Any = [{"role": "user", "content": [{"type": "text", "text": "hello big world"}]}]
WHOLE, WORDS = "hello big world", ["hello", "big", "world"]

Call = Callable[[openai.OpenAI], Any]
CALLS: list[tuple[str, str, Call]] = []


def call(area: str) -> Callable[[Call], Call]:
    """Make a function one of the calls of an area."""

    def add(function: Call) -> Call:
        CALLS.append((area, function.__name__, function))
        return function

    return add


def same(got: Any, wanted: Any) -> None:
    assert got == wanted, f"expected {wanted!r}, got {got!r}"


def refused(call: Callable[[], Any], kind: type[openai.APIError], words: str) -> None:
    said = "an answer"
    try:
        call()
    except kind as error:
        # KServe's clients have the routes of models too, and their errors are bare texts.
        said = f"{error.message} {error.body}"
    assert words in said, f"expected {kind.__name__} with '{words}', got {said}"


def deltas(events: Any) -> list[str]:
    return [each.delta for each in events if each.type == "response.output_text.delta"]


@call("models")
def models_list(client: openai.OpenAI) -> None:
    same([each.id for each in client.models.list()], ["chat", "chat_agent", "responses"])


@call("models")
def models_retrieve(client: openai.OpenAI) -> None:
    same(client.models.retrieve("chat").id, "chat")


@call("models")
def models_retrieve_unknown(client: openai.OpenAI) -> None:
    refused(lambda: client.models.retrieve("gone"), openai.NotFoundError, "gone")


@call("chat completions")
def chat_create(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="chat", messages=MESSAGES, temperature=1)
    same(answer.choices[0].message.content, WHOLE)
    same(answer.choices[0].finish_reason, "stop")


@call("chat completions")
def chat_create_with_parts(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="chat", messages=PARTS)
    same(answer.choices[0].message.content, WHOLE)


@call("chat completions")
def chat_create_with_every_common_option(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="chat", messages=MESSAGES, max_completion_tokens=9, top_p=1, stop=["x"], n=1,
        frequency_penalty=0, presence_penalty=0, user="somebody",
    )  # fmt: skip
    same(answer.choices[0].message.content, WHOLE)


@call("chat completions")
def chat_create_streamed(client: openai.OpenAI) -> None:
    chunks = client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
    same([chunk.choices[0].delta.content for chunk in chunks], WORDS)


@call("chat completions")
def chat_create_streamed_with_usage(client: openai.OpenAI) -> None:
    chunks = client.chat.completions.create(
        model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    same([chunk.choices[0].delta.content for chunk in chunks if chunk.choices], WORDS)


@call("chat completions")
def chat_stream_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="chat", messages=MESSAGES) as stream:
        same(stream.get_final_completion().choices[0].message.content, "".join(WORDS))


@call("chat completions")
def chat_create_by_a_chat_agent(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="chat_agent", messages=MESSAGES)
    same(answer.choices[0].message.content, WHOLE)


@call("chat completions")
def chat_stream_helper_with_a_chat_agent(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="chat_agent", messages=MESSAGES) as stream:
        same(stream.get_final_completion().choices[0].message.content, "".join(WORDS))


@call("chat completions")
def chat_with_raw_response(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES)
    same(raw.parse().choices[0].message.content, WHOLE)
    assert raw.request_id, "expected a request id"


@call("responses")
def responses_create(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="responses", input=WHOLE)
    same((answer.output_text, answer.status), (WHOLE, "completed"))


@call("responses")
def responses_create_with_items(client: openai.OpenAI) -> None:
    same(client.responses.create(model="responses", input=MESSAGES).output_text, WHOLE)


@call("responses")
def responses_create_with_instructions(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="responses", input="hi", instructions="be short")
    same(answer.output_text, "be short / hi")


@call("responses")
def responses_create_without_model(client: openai.OpenAI) -> None:
    same(client.responses.create(input=WHOLE).output_text, WHOLE)


@call("responses")
def responses_create_streamed(client: openai.OpenAI) -> None:
    same(deltas(client.responses.create(model="responses", input=WHOLE, stream=True)), WORDS)


@call("responses")
def responses_stream_helper(client: openai.OpenAI) -> None:
    with client.responses.stream(model="responses", input=WHOLE) as stream:
        same(deltas(stream), WORDS)


@call("responses")
def responses_stream_helper_with_the_final_response(client: openai.OpenAI) -> None:
    with client.responses.stream(model="responses", input=WHOLE) as stream:
        final = stream.get_final_response()
    same((final.output_text, final.status), (WHOLE, "completed"))


@call("responses")
def responses_stream_left_in_the_middle(client: openai.OpenAI) -> None:
    for _ in range(3):
        with client.responses.stream(model="responses", input=WHOLE) as stream:
            same(next(iter(stream)).type, "response.created")
    same(client.responses.create(model="responses", input=WHOLE).output_text, WHOLE)


@call("responses")
def responses_create_after_another(client: openai.OpenAI) -> None:
    client.responses.create(model="responses", input="hi", previous_response_id="resp_1")


@call("responses")
def responses_retrieve(client: openai.OpenAI) -> None:
    first = client.responses.create(model="responses", input=WHOLE)
    same(client.responses.retrieve(first.id).output_text, WHOLE)


@call("asynchronous client")
def async_chat_create(client: openai.OpenAI) -> None:
    async def ask(own: openai.AsyncOpenAI) -> Any:
        return await own.chat.completions.create(model="chat", messages=MESSAGES)

    same(in_loop(client, ask).choices[0].message.content, WHOLE)


@call("asynchronous client")
def async_responses_create_streamed(client: openai.OpenAI) -> None:
    async def ask(own: openai.AsyncOpenAI) -> Any:
        events = await own.responses.create(model="responses", input=WHOLE, stream=True)
        return deltas([event async for event in events])

    same(in_loop(client, ask), WORDS)


@call("asynchronous client")
def async_responses_create(client: openai.OpenAI) -> None:
    async def ask(own: openai.AsyncOpenAI) -> Any:
        return (await own.responses.create(model="responses", input=WHOLE)).output_text

    same(in_loop(client, ask), WHOLE)


@call("asynchronous client")
def async_responses_stream_helper(client: openai.OpenAI) -> None:
    async def ask(own: openai.AsyncOpenAI) -> Any:
        async with own.responses.stream(model="responses", input=WHOLE) as stream:
            said = deltas([event async for event in stream])
            return said, (await stream.get_final_response()).output_text

    same(in_loop(client, ask), (WORDS, WHOLE))


@call("asynchronous client")
def async_responses_stream_cancelled_in_the_middle(client: openai.OpenAI) -> None:
    async def ask(own: openai.AsyncOpenAI) -> Any:
        begun = asyncio.Event()

        async def read() -> None:
            events = await own.responses.create(model="responses", input=WHOLE, stream=True)
            async for _ in events:
                begun.set()
                await asyncio.Event().wait()

        reading = asyncio.create_task(read())
        await begun.wait()
        reading.cancel()
        await asyncio.wait([reading])
        return (await own.responses.create(model="responses", input=WHOLE)).output_text

    same(in_loop(client, ask), WHOLE)


@call("asynchronous client")
def async_chat_stream_helper(client: openai.OpenAI) -> None:
    async def ask(own: openai.AsyncOpenAI) -> Any:
        async with own.chat.completions.stream(model="chat", messages=MESSAGES) as stream:
            return (await stream.get_final_completion()).choices[0].message.content

    same(in_loop(client, ask), "".join(WORDS))


@call("errors")
def unknown_model(client: openai.OpenAI) -> None:
    create = client.chat.completions.create
    refused(lambda: create(model="gone", messages=MESSAGES), openai.NotFoundError, "'gone'")


@call("errors")
def model_of_another_kind(client: openai.OpenAI) -> None:
    create = client.chat.completions.create
    refused(
        lambda: create(model="responses", messages=MESSAGES),
        openai.BadRequestError,
        "not a chat model",
    )


@call("errors")
def broken_message(client: openai.OpenAI) -> None:
    broken: Any = [{"content": "no role"}]
    create = client.chat.completions.create
    refused(lambda: create(model="chat", messages=broken), openai.BadRequestError, "role")


@call("errors")
def broken_item(client: openai.OpenAI) -> None:
    broken: Any = [{"rolle": "user"}]
    create = client.responses.create
    refused(lambda: create(model="responses", input=broken), openai.BadRequestError, "input.0")


@call("errors")
def failure_in_the_middle_of_a_stream(client: openai.OpenAI) -> None:
    create = client.responses.create
    refused(
        lambda: list(create(model="responses", input="fail", stream=True)),
        openai.APIError,
        "failed on this request",
    )


@call("errors")
def failure_in_the_middle_of_the_stream_helper(client: openai.OpenAI) -> None:
    def read() -> None:
        with client.responses.stream(model="responses", input="fail") as stream:
            stream.until_done()

    refused(read, openai.APIError, "failed on this request")


@call("errors")
def failure_before_the_first_event_of_a_stream(client: openai.OpenAI) -> None:
    def read() -> None:
        with client.responses.stream(model="responses", input=[]) as stream:
            stream.until_done()

    refused(read, openai.InternalServerError, "failed on this request")


def in_loop(client: openai.OpenAI, ask: Callable[[openai.AsyncOpenAI], Any]) -> Any:
    async def run() -> Any:
        url = str(client.base_url)
        async with openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as own:
            return await ask(own)

    return asyncio.run(run())


def main(url: str, *words: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
    found = []
    for area, name, function in CALLS:
        if words and not any(word in name for word in words):
            continue
        try:
            function(client)
            reason = ""
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        found.append([area, name, reason])
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
