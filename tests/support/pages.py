"""Reads the commands of a page, so that tests run what people copy from it."""

from __future__ import annotations

import re
from pathlib import Path

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*?\n", re.MULTILINE | re.DOTALL)
# Where the server of a page listens: the default port of the HTTP door.
ADDRESS = "127.0.0.1:8080"


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each fenced block, in order."""
    return FENCE.findall(page.read_text(encoding="utf-8"))
