"""Renders docs/reference/compatibility.md from the results and the triage files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.tables import table
from compatibility import triage
from compatibility.triage import Entry, Sorted

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "compatibility" / "results"
PAGE = ROOT / "docs" / "reference" / "compatibility.md"

INTRODUCTION = """# Compatibility

How Headrace does in the test suites and with the clients of others, unedited. This page is rendered
from `compatibility/results/` by `python -m compatibility render`; do not edit it. The suites are
not in the repository: each section says where to get one, and the command that runs it again in
the environment of `make install`.

*By decision* counts cases that ask for something we chose to do differently, *does not apply* those
that test the inside of the other program, and *skipped* those that the suite skips itself.
"""
HEAD = ["passes", "by decision", "does not apply", "skipped", "fails"]

Result = dict[str, Any]


def results(folder: Path = RESULTS) -> dict[str, Result]:
    """The stored result of each suite, by its name."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def sorted_failures(result: Result, entries: list[Entry]) -> Sorted:
    """The failed cases of a stored result, by what the triage says of them."""
    return triage.sort((id for area in result["areas"].values() for id in area["failed"]), entries)


def page(found: dict[str, Result], entries: dict[str, list[Entry]]) -> str:
    """The whole page in Markdown."""
    sections = [section(name, result, entries[name]) for name, result in found.items()]
    head = ["suite", "version", *HEAD]
    rows = [
        [result["title"], result["version"], *_total(result, entries[name])]
        for name, result in found.items()
    ]
    return "\n".join([INTRODUCTION, *([table(head, rows)] if rows else []), *sections])


def section(name: str, result: Result, entries: list[Entry]) -> str:
    """One suite: where it is from, its counts by area, and every case that does not pass."""
    found = sorted_failures(result, entries)
    rows = [[area, *_counts(cases, found)] for area, cases in result["areas"].items()]
    rows.append(["**all**", *_total(result, entries)])
    failures = {
        id: why for cases in result["areas"].values() for id, why in cases["failed"].items()
    }
    skips = Counter(why for cases in result["areas"].values() for why in cases["skipped"].values())
    parts = [
        f"## {result['title']}\n",
        f"[{result['version']}]({result['url']}), run on {result['date']} with Headrace "
        f"{result['headrace']} (commit {result['commit']}) on Python {result['python']}.\n",
        table(["area", *HEAD], rows),
        _listed(
            "### By decision\n",
            (
                f"[{entry.decision}]({_link(entry)}): {entry.reason} ({_ids(ids)})"
                for entry, ids in found.triaged.items()
                if entry.decision
            ),
        ),
        _listed(
            "### Does not apply\n",
            (
                f"{entry.reason} ({_ids(ids)})"
                for entry, ids in found.triaged.items()
                if not entry.decision
            ),
        ),
        _listed("### Skipped by the suite\n", (f"{_code(why)} ({n})" for why, n in skips.items())),
        _listed("### Fails\n", (f"`{id}`: {_code(failures[id])}" for id in found.failed)),
        "To repeat it:\n",
        f"```sh\n{result['get']}\npython -m compatibility {name} {result['arguments']}\n```\n",
    ]
    return "\n".join(filter(None, parts))


def main() -> str:
    """Write the page from every result file; returns the text."""
    found = results()
    text = page(found, {name: triage.read(name) for name in found})
    PAGE.write_text(text, encoding="utf-8")
    return text


def _counts(cases: dict[str, Any], found: Sorted) -> list[int]:
    by_decision = sum(id in cases["failed"] for entry, ids in found.triaged.items()
                      if entry.decision for id in ids)  # fmt: skip
    fails = sum(id in cases["failed"] for id in found.failed)
    others = len(cases["failed"]) - by_decision - fails
    return [len(cases["passed"]), by_decision, others, len(cases["skipped"]), fails]


def _total(result: Result, entries: list[Entry]) -> list[int]:
    found = sorted_failures(result, entries)
    each = [_counts(cases, found) for cases in result["areas"].values()]
    return [sum(column) for column in zip(*each, strict=True)] if each else [0] * len(HEAD)


def _link(entry: Entry) -> str:
    page = triage.page_of(entry.decision)
    return f"../decisions/{page.name}" if page else ""


def _ids(ids: list[str]) -> str:
    return f"`{ids[0]}`" if len(ids) == 1 else f"{len(ids)} cases"


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`" if text else ""


def _listed(head: str, items: Iterable[str]) -> str:
    lines = [f"* {item}\n" for item in items]
    return f"{head}\n{''.join(lines)}" if lines else ""
