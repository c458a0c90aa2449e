"""`headrace`: arguments in, human output out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from headrace import __version__
from headrace.cli import config, env, infer, serve
from headrace.errors import ConfigurationError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="headrace", description="Serve MLflow and other models over open protocols."
    )
    parser.add_argument("--version", action="version", version=f"headrace {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    serve.add_command(commands)
    config.add_command(commands)
    infer.add_command(commands)
    env.add_command(commands)
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
    except ConfigurationError as exc:
        print(f"headrace: {exc.message}", file=sys.stderr)
        return 2
    return status
