"""Reads the commands of a page, so that tests run what people copy from it."""

from __future__ import annotations

import re
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
