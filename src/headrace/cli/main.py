"""`headrace`: arguments in, human output out."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from headrace import __version__
from headrace.cli.parser import Parser
from headrace.errors import ConfigurationError

# The module of each command, in the order of `--help`.
COMMANDS = {
    "serve": "serve",
    "start": "serve",
    "check": "check",
    "config": "config",
    "infer": "infer",
    "keys": "keys_command",
    "env": "env",
    "build": "bundling",
    "containerize": "bundling",
    "bundles": "bundles_command",
    "dockerfile": "images",
    "deploy": "deploy_command",
    "health": "health_check",
    "models": "models_command",
    "rollout": "rollout",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    _open_standard_files()
    parser: argparse.ArgumentParser = Parser(
        prog="headrace", description="Serve MLflow and other models over open protocols."
    )
    parser.add_argument("--version", action="version", version=f"headrace {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in _modules(sys.argv[1:] if arguments is None else arguments):
        importlib.import_module(f"headrace.cli.{module}").add_command(commands)
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except ConfigurationError as exc:
        print(f"headrace: {exc.message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as exc:
        if exc.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        print(f"headrace: {exc.strerror}", file=sys.stderr)
        # What is left in the buffer must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _modules(arguments: Sequence[str]) -> list[str]:
    """The modules of the commands to add: of the one that is asked for, or of all of them."""
    # A server is not ready the sooner for what other commands import.
    named = COMMANDS.get(arguments[0]) if arguments else None
    return [named] if named is not None else list(dict.fromkeys(COMMANDS.values()))


def _open_standard_files() -> None:
    """Open those of the three standard files that were closed when this process was started.

    Otherwise a socket would get one of their numbers, and libraries would write to it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
