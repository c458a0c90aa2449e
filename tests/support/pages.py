"""Reads the commands of a page, so that tests run what people copy from it."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*?\n", re.MULTILINE | re.DOTALL)
# A block that shows a file has the name of the file as a paragraph above it.
FILE = re.compile(r"^`([\w./-]+)`:\n\n" + FENCE.pattern, re.MULTILINE | re.DOTALL)
# Where the server of a page listens: the default HTTP port.
ADDRESS = "127.0.0.1:8080"


class CurlExample(NamedTuple):
    """A curl command of a page, and the answer that the next block shows."""

    command: str
    language: str
    answer: str


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each fenced block, in order."""
    return FENCE.findall(page.read_text(encoding="utf-8"))


def files(page: Path) -> dict[str, str]:
    """The files that a page shows, by their paths."""
    return {name: text for name, _, text in FILE.findall(page.read_text(encoding="utf-8"))}


def curl_examples(page: Path) -> list[CurlExample]:
    """Each block with a curl command, and the block after it."""
    found = blocks(page)
    return [
        CurlExample(command, *answer)
        for (_, command), answer in zip(found, found[1:], strict=False)
        if command.startswith("curl ")
    ]


def cells(page: Path) -> list[tuple[str, str | None]]:
    """The Python blocks that show no file, each with the output that the page shows below it."""
    found = blocks(page)
    shown = set(files(page).values())
    return [
        (text, after if other == "" else None)
        for (language, text), (other, after) in zip(found, [*found[1:], ("end", "")], strict=True)
        if language == "python" and text not in shown
    ]


def run_cells(page: Path, folder: Path, env: Mapping[str, str]) -> list[str]:
    """Run the cells of a page in one process, as a notebook does; returns what each would show."""
    sources = [source for source, _ in cells(page)]
    done = subprocess.run(
        [sys.executable, __file__], cwd=folder, env={**os.environ, **env}, check=True,
        input=json.dumps(sources), stdout=subprocess.PIPE, text=True, timeout=300,
    )  # fmt: skip
    shown: list[str] = json.loads(done.stdout)
    return shown


def _notebook(sources: list[str]) -> list[str]:
    """What each cell writes, with the values of its expressions as a notebook shows them."""
    names: dict[str, object] = {"__name__": "__main__"}
    shown = []
    for source in sources:
        cell = compile(ast.Interactive(ast.parse(source).body), "<cell>", "single")
        with redirect_stdout(StringIO()) as out:
            exec(cell, names)
        shown.append(out.getvalue())
    return shown


if __name__ == "__main__":
    json.dump(_notebook(json.load(sys.stdin)), sys.stdout)


def helped(*command: str) -> str:
    """What `--help` of a command prints, which a page must not contradict."""
    done = subprocess.run(
        [sys.executable, "-m", "headrace", *command, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
