"""`headrace serve MODEL`: every flag is one field of `ServerSettings`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

from headrace.settings import ServerSettings


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `serve` and its alias `start`."""
    parser = commands.add_parser(
        "serve", aliases=["start"], help="serve a model or a folder of models"
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="an MLflow model folder or URI (runs:/, models:/, s3://...), or a folder with "
        "model-settings.json in it or below",
    )
    parser.add_argument("--name", help="name to serve a single model under")
    hints = get_type_hints(ServerSettings)
    for field in fields(ServerSettings):
        shown = "" if field.default in (None, MISSING) else f" (default {field.default})"
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=_parser_of(hints[field.name]),
            choices=field.metadata.get("choices"),
            help=field.metadata["help"] + shown,
        )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read the settings, find the models, serve until a signal."""
    # Imported here so that `headrace --help` does not pay for the server.
    import asyncio

    from headrace import configuration
    from headrace.observability import logs
    from headrace.repository.discovery import discover

    folder = Path(options.model)
    settings = configuration.read(vars(options), os.environ, folder if folder.is_dir() else None)
    logs.configure(settings.log_level, settings.log_format)
    models = discover(options.model, options.name)

    async def serve() -> int:
        from headrace.server import Server

        return await Server(settings, models).run()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve())


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def _parser_of(hint: Any) -> Any:
    """The argparse type of a field: int, float or str, optional or not."""
    for kind in (int, float):
        if hint is kind or hint == kind | None:
            return kind
    return str
