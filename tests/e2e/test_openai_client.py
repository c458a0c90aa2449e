"""OpenAI's own client, in an environment of its own, against MLflow's agents."""

from __future__ import annotations

import pytest

from support.agents import ECHOES, save_agents, tracked
from support.api_keys import KEYS, write_keys
from support.clients import TEST_TIMEOUT, environment, run_script
from support.serving import serving

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore"),
    # The first test to need it builds the environment of the client.
    pytest.mark.timeout(TEST_TIMEOUT),
]

# The agent yields the two deltas and the item that is done.
FRAMED = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    root = tmp_path_factory.mktemp("agents")
    save_agents(root, ECHOES)
    python = environment("openai")
    with serving(root, "--env-manager", "local", env=tracked(root)) as server:
        # The first trace waits for MLflow to make its database.
        return run_script(python, "openai_calls.py", server.http, timeout=120)


def test_the_client_lists_the_models(answers):
    assert answers["models"] == ["chat", "chat_agent", "responses"]
    assert answers["model"] == "chat"


@pytest.mark.parametrize("name", ["chat", "chat_agent"])
def test_a_chat_is_answered_whole_and_streamed(answers, name):
    answer = answers[name]

    assert answer["whole"] == "hello big world"
    assert answer["finish_reason"] == "stop"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["chunks"] == ["hello", "big", "world"]
    assert answer["streamed"] == "hellobigworld"


def test_a_responses_agent_answers_a_text_whole_streamed_and_through_the_helper(answers):
    assert answers["text"] == {
        "whole": "hello world",
        "status": "completed",
        "types": FRAMED,
        "deltas": ["hello", "world"],
    }
    assert answers["helped"] == {"types": FRAMED, "text": "hello world", "status": "completed"}


def test_the_route_of_mlflows_agent_server_takes_items_and_no_model(answers):
    assert answers["items"]["whole"] == "hello big world"


def test_instructions_reach_the_agent_in_front_of_the_input(answers):
    assert answers["instructed"]["whole"] == "be short / hi"


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("unknown", 404, "'gone'"),
        ("several", 400, "name one with 'model' in the body"),
        ("other", 400, "not a chat model"),
        ("broken", 400, "role"),
        ("broken_items", 400, "input.0"),
    ],
)
def test_a_refusal_is_an_error_of_the_client_that_says_why(answers, name, status, words):
    assert answers[name]["status"] == status
    assert words in answers[name]["message"]


def test_a_failure_in_the_middle_of_a_stream_is_an_error_of_the_client(answers):
    assert answers["later"]["code"] == "model_error"
    assert "secret" not in answers["later"]["message"]


def test_its_key_is_the_servers_and_reaches_what_it_is_for(tmp_path):
    agents = tmp_path / "agents"
    save_agents(agents, {name: ECHOES[name] for name in ("chat", "responses")})
    keys = {**KEYS, "restricted": {"scopes": ["infer"], "models": ["chat"]}}
    file = write_keys(tmp_path / "keys.json", **keys)
    python = environment("openai")
    flags = ("--env-manager", "local", "--api-keys-file", file)
    with serving(agents, *flags, env=tracked(tmp_path)) as server:
        answers = run_script(python, "openai_keys.py", server.http, timeout=120)

    calls = ("models", "one", "chat", "streamed", "responses")
    hidden, refused = "NotFoundError", ["PermissionDeniedError"] * 3
    assert {key: [told[call] for call in calls] for key, told in answers.items()} == {
        "hr_wrong": ["AuthenticationError"] * 5,
        "hr_read": ["chat responses", "responses", *refused],
        "hr_infer": ["chat responses", "responses", "hello", "hello", "hello"],
        "hr_restricted": ["chat", hidden, "hello", "hello", hidden],
    }
