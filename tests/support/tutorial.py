"""Follows a tutorial: writes its files, types its blocks, and compares what it shows."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support.pages import ADDRESS, blocks, files
from support.walkthrough import TIMEOUT, Walkthrough

TUTORIALS = Path(__file__).parents[2] / "docs/tutorials"
# What a page leaves out, or what is different each time.
ANYTHING = "…"
# Ends with 1 if a row failed, which a page may show.
MAY_FAIL = "headrace infer"


class Tutorial(Walkthrough):
    """A page whose blocks are typed in an empty folder.

    A block after a command shows what it prints: JSON as a value, everything else as text, with
    `…` for what may differ. Requests go to the server that the page started last.
    """

    def follow_all(self) -> list[str]:
        """Type every block but those that install; returns those that showed their output."""
        shown_by = []
        while self._page:
            language, text = self._page.pop(0)
            if "pip install" in text:
                continue
            if language == "sh" and "headrace serve" in text:
                self._serve(text)
                self.variables["HEADRACE_INFER_URL"] = self.http
                continue
            assert language in ("sh", "python"), f"nothing printed this:\n{text}"
            printed = self._printed(language, text)
            if self._page and self._page[0][0] in ("json", "", "text"):
                kind, shown = self._page.pop(0)
                compare(kind, printed, shown)
                shown_by.append(text)
        return shown_by

    def _printed(self, language: str, text: str) -> str:
        typed = text.replace(ADDRESS, urlsplit(self.http).netloc) if self.http else text
        command = [sys.executable, "-c"] if language == "python" else ["bash", "-ec"]
        done = subprocess.run(
            [*command, typed],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )
        allowed = (0, 1) if MAY_FAIL in text else (0,)
        assert done.returncode in allowed, f"{text}\n{done.stdout}\n{self.log()}"
        return done.stdout


def compare(kind: str, printed: str, shown: str) -> None:
    """Whether a page shows what was printed."""
    if kind == "json":
        found = json.loads(printed)
        assert alike(found, json.loads(shown)), f"printed {printed}, the page shows {shown}"
        return
    assert matches(printed.strip(), shown.strip()), f"printed:\n{printed}\nnot:\n{shown}"


def alike(found: Any, shown: Any) -> bool:
    """Whether JSON is as shown, where `…` stands for anything, and more members at its place."""
    if shown == ANYTHING:
        return True
    if isinstance(shown, float) and isinstance(found, float):
        return math.isclose(found, shown, rel_tol=1e-9)
    if isinstance(shown, dict) and isinstance(found, dict):
        names = shown.keys() - {ANYTHING}
        complete = ANYTHING in shown or names == found.keys()
        return complete and all(name in found and alike(found[name], shown[name]) for name in names)
    if isinstance(shown, list) and isinstance(found, list):
        return len(shown) == len(found) and all(map(alike, found, shown))
    if isinstance(shown, str) and isinstance(found, str):
        return matches(found, shown)
    return bool(found == shown)


def matches(found: str, shown: str) -> bool:
    """Whether a text is as shown, where `…` stands for anything."""
    return bool(re.fullmatch(".*?".join(map(re.escape, shown.split(ANYTHING))), found, re.DOTALL))


@contextmanager
def tutorial(page: Path, root: Path) -> Iterator[Tutorial]:
    """A page in an empty folder below `root`, with the files that it shows."""
    written = files(page)
    folder = root / "work"
    for path, text in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    folder.mkdir(exist_ok=True)
    typed = [(kind, text) for kind, text in blocks(page) if text not in written.values()]
    followed = Tutorial(folder, typed, root, {})
    try:
        yield followed
        followed.stop()
    finally:
        followed.close()
