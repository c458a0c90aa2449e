"""docs/how-to/genai.md: its agent is logged and served, and answers as the page shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from headrace.sources.model_file import read_model
from support.agents import tracked
from support.asking import ask
from support.clients import TEST_TIMEOUT, environment
from support.pages import ADDRESS, curl_examples, files
from support.serving import serving

pytestmark = [
    pytest.mark.e2e,
    # The first test to need it builds the environment of the client.
    pytest.mark.timeout(TEST_TIMEOUT),
]

PAGE = Path(__file__).parents[2] / "docs/how-to/genai.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every file that the page shows, and the model that they make."""
    root = tmp_path_factory.mktemp("page")
    for name, text in files(PAGE).items():
        (root / name).write_text(text)
    subprocess.run([sys.executable, "log.py"], cwd=root, env=tracked(root), check=True)
    return root


@pytest.fixture(scope="module")
def url(folder):
    with serving(folder / "shouting", "--env-manager", "local", env=tracked(folder)) as server:
        # The first trace waits for MLflow to make its database.
        body = {"input": [{"role": "user", "content": "x"}]}
        assert ask(server.http, "POST", "/invocations", body, timeout=120).status == 200
        yield server.http


def moved(text, url):
    return text.replace(ADDRESS, urlsplit(url).netloc)


@pytest.mark.parametrize("example", curl_examples(PAGE), ids=["whole", "streamed"])
def test_a_command_of_the_page_is_answered_as_shown(example, url):
    command = ["bash", "-ec", moved(example.command, url)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == example.answer.strip()


def test_the_script_for_openais_client_prints_the_whole_answer_and_its_parts(folder, url):
    script = folder / "moved.py"
    script.write_text(moved((folder / "ask.py").read_text(), url))
    done = subprocess.run(
        [environment("openai"), script], env=os.environ, capture_output=True, text=True, timeout=120
    )

    assert done.stdout.split("\n") == ["HELLO WORLD", "HELLO", "WORLD", ""], done.stderr


def test_the_agent_is_shown_as_by_mlflows_agent_server(url):
    shown = ask(url, "GET", "/agent/info").json

    assert (shown["name"], shown["use_case"]) == ("shouting", "agent")
    assert shown["agent_api"] == "responses"
    assert shown["mlflow_version"]


def test_the_settings_of_the_page_say_how_many_requests_run_at_once(folder):
    found = read_model(folder / "model-settings.json", {})

    assert found.settings.max_concurrency == 100
    assert Path(found.settings.uri) == folder / "shouting"
