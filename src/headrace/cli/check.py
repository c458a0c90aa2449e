"""`headrace check MODEL`: read everything that serving would read, and serve nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.cli import serve
from headrace.errors import ConfigurationError, HeadraceError

if TYPE_CHECKING:
    from headrace.settings import ServerSettings
    from headrace.sources.model_file import FoundModel

PROBLEM, NOTE = "problem", "note"


class Finding(NamedTuple):
    """Something about a model, or about the server if `model` is empty."""

    model: str
    kind: str
    message: str


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `check`, which takes what `serve` takes."""
    parser = commands.add_parser("check", help="find mistakes in a folder without serving it")
    serve.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what was found; returns 1 if there are problems."""
    models: list[FoundModel] = []
    findings: list[Finding] = []
    try:
        resolved, source = serve.settled(options, serve.conf_of(options))
        findings += [Finding("", PROBLEM, text) for text in resolved.unknown]
        findings += _notes("", resolved.ignored)
        findings += [Finding("", NOTE, text) for text in resolved.notes]
        models = source.each()
        if not models and not resolved.settings.allow_empty:
            findings.append(Finding("", PROBLEM, source.nothing()))
        for found in models:
            findings += _of_model(found, resolved.settings)
    except ConfigurationError as error:
        findings.append(Finding("", PROBLEM, error.message))
    problems = sum(finding.kind == PROBLEM for finding in findings)
    if options.json:
        json.dump(_document(models, findings), sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        for finding in findings:
            print(f"{finding.model or 'server'}: {finding.kind}: {finding.message}")
        print(f"{_count(len(models), 'model')}, {_count(problems, 'problem')}")
    return 1 if problems else 0


def _of_model(found: FoundModel, settings: ServerSettings) -> Iterator[Finding]:
    from headrace.sources import inspection

    name = found.settings.name
    yield from (Finding(name, PROBLEM, text) for text in found.unknown)
    yield from _notes(name, found.ignored)
    if found.settings.fault:
        yield Finding(name, PROBLEM, found.settings.fault)
        return
    try:
        notes = inspection.inspect(found.settings, settings.env_manager)
    except HeadraceError as error:
        yield Finding(name, PROBLEM, error.message)
    else:
        yield from (Finding(name, NOTE, note) for note in notes)


def _notes(model: str, ignored: tuple[str, ...]) -> list[Finding]:
    return [Finding(model, NOTE, f"{each} is accepted and has no effect") for each in ignored]


def _document(models: list[FoundModel], findings: list[Finding]) -> dict[str, Any]:
    problems = [finding for finding in findings if finding.kind == PROBLEM]
    return {
        "ok": not problems,
        "models": [
            {"name": found.settings.name, "version": found.settings.version} for found in models
        ],
        "problems": [{"model": each.model or None, "message": each.message} for each in problems],
        "notes": [
            {"model": each.model or None, "message": each.message}
            for each in findings
            if each.kind == NOTE
        ],
    }


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
