"""`headrace serve MODEL`: every flag is one field of `ServerSettings`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

from headrace.settings import ServerSettings

logger = logging.getLogger("headrace")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `serve` and its alias `start`."""
    parser = commands.add_parser(
        "serve", aliases=["start"], help="serve a model or a folder of models"
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL, `--name` and one flag per server setting."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="an MLflow model folder or URI (runs:/, models:/, s3://...), or a folder with "
        "model-settings.json in it or below; this folder when left out",
    )
    parser.add_argument("--name", help="name to serve a single model under")
    hints = get_type_hints(ServerSettings)
    for field in fields(ServerSettings):
        shown = "" if field.default in (None, MISSING, "", ()) else f" (default {field.default})"
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            help=field.metadata["help"] + shown,
            **_takes(hints[field.name], field.metadata.get("choices")),
        )


def run(options: argparse.Namespace) -> int:
    """Read the settings, find the models, serve until a signal."""
    # Imported here so that `headrace --help` does not pay for the server.
    import asyncio

    from headrace import configuration
    from headrace.observability import logs
    from headrace.repository.discovery import Source

    model = configuration.model_argument(options.model, os.environ)
    folder = Path(model) if Path(model).is_dir() else None
    resolved = configuration.resolve(vars(options), os.environ, folder)
    settings = resolved.settings
    logs.configure(settings.log_level, settings.log_format)
    for origin in resolved.ignored:
        logger.warning("%s is accepted and has no effect", origin)
    source = Source(model, options.name, os.environ)
    models = [found.settings for found in source.found()]
    if not models:
        logger.warning("no model found; a folder added later is served once it is loaded")

    async def serve() -> int:
        from headrace.server import Server

        return await Server(settings, models, source.find).run()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve())


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def _takes(hint: Any, choices: tuple[str, ...] | None) -> dict[str, Any]:
    """What argparse needs to know of a field: a switch, or a value of a type."""
    if hint in (bool, bool | None):
        return {"action": argparse.BooleanOptionalAction, "default": None}
    for kind in (int, float):
        if hint in (kind, kind | None):
            return {"type": kind}
    return {"type": str, "choices": choices}
