"""Why a case does not pass: by a decision of ours, or because it does not apply to us."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "compatibility" / "triage"
DECISIONS = ROOT / "docs" / "decisions"
KEYS = {"cases", "reason", "decision", "not_applicable"}


class BadTriage(ValueError):
    """A triage file that says nothing, or two things at once."""


@dataclass(frozen=True)
class Entry:
    """Patterns of ids, and why they do not pass. `decision` is empty if they do not apply."""

    patterns: tuple[str, ...]
    reason: str
    decision: str = ""


def page_of(decision: str) -> Path | None:
    """The page of a decision, by its number."""
    return next(DECISIONS.glob(f"{decision}-*.md"), None)


def read(name: str, folder: Path = FOLDER) -> list[Entry]:
    """The entries of a suite's triage file, in order; none if there is no file.

    Raises `BadTriage` for an entry that lacks a reason, names no decision page, or has both or
    neither of `decision` and `not_applicable`.
    """
    path = folder / f"{name}.toml"
    if not path.exists():
        return []
    found = tomllib.loads(path.read_text(encoding="utf-8")).get("triage", [])
    return [_entry(entry, f"{path.name}, entry {at}") for at, entry in enumerate(found, 1)]


def _entry(found: dict[str, Any], where: str) -> Entry:
    if unknown := found.keys() - KEYS:
        raise BadTriage(f"{where}: unknown key {', '.join(sorted(unknown))}")
    if not found.get("cases") or not found.get("reason"):
        raise BadTriage(f"{where}: expected `cases` and a `reason`")
    decision = found.get("decision", "")
    if bool(decision) == bool(found.get("not_applicable")):
        raise BadTriage(f"{where}: expected either `decision` or `not_applicable = true`")
    if decision and page_of(decision) is None:
        raise BadTriage(f"{where}: no page in docs/decisions has the number {decision}")
    return Entry(tuple(found["cases"]), found["reason"], decision)


@dataclass
class Sorted:
    """Failed ids by what the triage says of them, and the patterns that match none of them."""

    triaged: dict[Entry, list[str]]
    failed: list[str]
    stale: list[str]


def sort(failed: Iterable[str], entries: list[Entry]) -> Sorted:
    """The first pattern that matches an id decides."""
    triaged: dict[Entry, list[str]] = {}
    rest: list[str] = []
    patterns = [(pattern, _compiled(pattern), entry) for entry in entries
                for pattern in entry.patterns]  # fmt: skip
    used = set()
    for id in failed:
        for pattern, compiled, entry in patterns:
            if compiled.fullmatch(id):
                triaged.setdefault(entry, []).append(id)
                used.add(pattern)
                break
        else:
            rest.append(id)
    return Sorted(triaged, rest, [pattern for pattern, _, _ in patterns if pattern not in used])


def _compiled(pattern: str) -> re.Pattern[str]:
    # `*` is the only special character: the ids of pytest have brackets.
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
