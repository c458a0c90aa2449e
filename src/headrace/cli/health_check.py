"""`headrace health`: ask a running server whether it is ready, for the health check of an image."""

from __future__ import annotations

import argparse
import http.client
import sys

from headrace.cli import dotenv
from headrace.errors import ConfigurationError

TIMEOUT = 4.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `health`."""
    parser = commands.add_parser("health", help="exit with 0 if the server here is ready")
    parser.add_argument("--host", help="address of the server, as for `headrace serve`")
    parser.add_argument("--http-port", type=int, help="its port, as for `headrace serve`")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask `/v2/health/ready`; 0 if the answer is a 200, otherwise 1."""
    from headrace import configuration

    try:
        flags = {"host": options.host, "http_port": options.http_port}
        settings = configuration.resolve(flags, dotenv.environment(), None).settings
    except ConfigurationError as error:
        print(f"headrace: {error.message}", file=sys.stderr)
        return 1
    host = ANY_ADDRESS.get(settings.host, settings.host)
    connection = http.client.HTTPConnection(host, settings.http_port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/v2/health/ready")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer from {host}:{settings.http_port}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    print("ready" if status == 200 else f"not ready: status {status}")
    return 0 if status == 200 else 1
