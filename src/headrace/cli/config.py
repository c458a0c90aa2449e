"""`headrace config show MODEL`: every value the server would run with, and where it comes from."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from headrace.cli import serve

if TYPE_CHECKING:
    from headrace.configuration import Resolved
    from headrace.sources.model_file import FoundModel

DEFAULT = "default"


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `config show`, which takes what `serve` takes."""
    parser = commands.add_parser("config", help="show settings and where they come from")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="print what `serve` would run with")
    serve.add_arguments(show)
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the settings of the server and of its models."""
    resolved, source = serve.settled(options, serve.conf_of(options))
    models = source.found()
    if options.json:
        json.dump(_document(resolved, models), sys.stdout, indent=2)
        print()
    else:
        for line in _lines(resolved, models):
            print(line)
    return 0


def _document(resolved: Resolved, models: list[FoundModel]) -> dict[str, Any]:
    return {
        "server": _values(asdict(resolved.settings), resolved.origins),
        "ignored": list(resolved.ignored),
        "models": [
            {
                "settings": _values(found.settings.to_dict(), found.origins),
                "ignored": list(found.ignored),
            }
            for found in models
        ],
    }


def _values(settings: dict[str, Any], origins: dict[str, str]) -> dict[str, Any]:
    return {
        name: {"value": value, "from": origins.get(name, DEFAULT)}
        for name, value in settings.items()
    }


def _lines(resolved: Resolved, models: list[FoundModel]) -> Iterator[str]:
    yield "server"
    yield from _table(asdict(resolved.settings), resolved.origins, resolved.ignored)
    for found in models:
        settings = found.settings
        yield ""
        yield f"model {settings.name}" + (
            f" version {settings.version}" if settings.version else ""
        )
        yield from _table(settings.to_dict(), found.origins, found.ignored)
    if not models:
        yield ""
        yield "no model found"


def _table(
    settings: dict[str, Any], origins: dict[str, str], ignored: tuple[str, ...]
) -> Iterator[str]:
    texts = {name: json.dumps(value) for name, value in settings.items()}
    names = max(map(len, texts))
    # A long value pushes only its own origin to the right.
    values = min(24, max(map(len, texts.values())))
    for name, text in texts.items():
        yield f"  {name:{names}}  {text:{values}}  {origins.get(name, DEFAULT)}"
    for origin in ignored:
        yield f"  {origin} is accepted and has no effect"
