"""`python -m headrace.plugins.webserver`: the command line of the MLflow pluggable scoring server.

Serves one plugin as `headrace serve MODEL --plugin FILE` does, at the address and port of that
server. It had no other listeners, so nothing expects ours: they take free ports unless configured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from headrace.cli import conf, serve
from headrace.errors import ConfigurationError

DEFAULT = "default"
HOST, PORT = "localhost", 5005


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m headrace.plugins.webserver", description="Serve a plugin and its model."
    )
    parser.add_argument("--host", help=f"address to listen on (default {HOST})")
    parser.add_argument(
        "--port", dest="http_port", type=int, help=f"port to listen on (default {PORT})"
    )
    parser.add_argument("--plugin", "--plugin-file", help="file or import path of the plugin")
    parser.add_argument("--plugin-class", help="class of the plugin (default plugin.Plugin)")
    parser.add_argument("--model-uri", dest="model", help="MLflow model URI, or a path")
    parser.add_argument("--packages", help="packages the model needs, separated by commas")
    parser.add_argument("--conf", help="YAML file with these and all server settings")
    options = parser.parse_args(arguments)
    options.name = None
    try:
        return serve.start(options, _completed(options))
    except ConfigurationError as error:
        print(f"headrace: {error.message}", file=sys.stderr)
        return 2


def _completed(options: argparse.Namespace) -> conf.Conf:
    """The file of `--conf`, completed with the defaults of the older server."""
    given = conf.read(options.conf)
    for name, flag in (("plugin", "--plugin-file"), ("model", "--model-uri")):
        value = getattr(options, name)
        # An empty value comes from an unset shell variable, and would mean the current folder.
        if value == "" or (value is None and name not in given.arguments):
            raise ConfigurationError(f"{flag} is missing")
    settings = {
        "host": (HOST, DEFAULT),
        "http_port": (PORT, DEFAULT),
        "grpc_port": (0, DEFAULT),
        "metrics_port": (0, DEFAULT),
        **given.settings,
    }
    # The older server resolved this name to the IPv4 address; the system may prefer the IPv6 one.
    if settings["host"][0] == HOST:
        settings["host"] = "127.0.0.1", settings["host"][1]
    if options.host == HOST:
        options.host = "127.0.0.1"
    return replace(given, settings=settings)


if __name__ == "__main__":
    sys.exit(main())
