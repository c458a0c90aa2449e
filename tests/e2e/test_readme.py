"""What README.md says to type works as printed: train, serve, and every curl command."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from support.pages import ADDRESS, FENCE
from support.serving import serving

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


class Example(NamedTuple):
    """One command of the page as words, and the JSON answer shown right under it, or None."""

    words: list[str]
    answer: str | None = None


def examples(program: str) -> list[Example]:
    """The commands of the page's `sh` blocks that run this program.

    A `json` block that directly follows a block shows the answer to its last command.
    """
    text = (ROOT / "README.md").read_text()
    blocks = list(FENCE.finditer(text))
    found: list[Example] = []
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] != "sh":
            continue
        commands = [Example(words) for words in _commands(block[2])]
        between = text[block.end() : following.start()] if following else ""
        if following and following[1] == "json" and not between.strip():
            commands[-1] = Example(commands[-1].words, following[2])
        found += commands
    return [example for example in found if example.words[0] == program]


def _commands(block: str) -> list[list[str]]:
    """The words of each command; a line ending in a backslash or an open quote continues it."""
    found, begun = [], ""
    for line in block.splitlines():
        begun += line
        if begun.endswith("\\"):
            begun = begun[:-1]
            continue
        try:
            words = shlex.split(begun, comments=True)
        except ValueError:
            begun += "\n"
            continue
        begun = ""
        if words:
            found.append(words)
    assert not begun, "a command of the page is not finished"
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page's model, trained and served by the page's own commands."""
    store = str(tmp_path_factory.mktemp("readme") / "mlruns")
    (train,) = examples("python")
    words = [store if word == "mlruns" else word for word in train.words[1:]]
    assert store in words
    trained = subprocess.run(
        [sys.executable, *words], capture_output=True, cwd=ROOT, text=True, timeout=100
    )
    assert trained.returncode == 0, trained.stderr
    (_, verb, model, *flags) = examples("headrace")[0].words
    assert (verb, model) == ("serve", "FOLDER")
    with serving(trained.stdout.strip(), *flags) as server:
        yield server


def test_the_page_uses_both_protocols():
    commands = " ".join(" ".join(example.words) for example in examples("curl"))
    assert "/infer" in commands
    assert "/invocations" in commands


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=next(word for word in example.words if ADDRESS in word))
        for example in examples("curl")
    ],
)
def test_a_curl_command_of_the_page_works(example, server):
    words = [word.replace(ADDRESS, urlsplit(server.http).netloc) for word in example.words]
    assert words != example.words, f"the page's server is at {ADDRESS}"
    done = subprocess.run(
        [*words, "--max-time", "20", "--write-out", "%{stderr}%{http_code}"],
        capture_output=True,
        cwd=ROOT,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "200"), done.stdout
    if example.answer is not None:
        shown, got = json.loads(example.answer), json.loads(done.stdout)
        # Every request has an id of its own.
        assert {**got, "id": None} == {**shown, "id": None}
