"""`headrace health`: ask a running server whether it is ready, for the health check of an image."""

from __future__ import annotations

import argparse
import http.client
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli import dotenv
from headrace.errors import ConfigurationError

if TYPE_CHECKING:
    from headrace.settings import ServerSettings

TIMEOUT = 4.0
# What a listener with TLS answers to a request without.
SPEAKS_TLS = b"this port speaks TLS"
FLAGS = {
    "--host": "address of the server",
    "--http-port": "its port",
    "--ssl-certfile": "its certificate",
    "--ssl-keyfile": "its key",
    "--ssl-keyfile-password-file": "file with the password of the key",
    "--ssl-ca-certs": "the authorities of its clients",
}
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `health`."""
    parser = commands.add_parser("health", help="exit with 0 if the server here is ready")
    parser.add_argument("--live", action="store_true", help="ask only whether it is live")
    for flag, what in FLAGS.items():
        parser.add_argument(flag, help=f"{what}, as for `headrace serve`")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask `/v2/health/ready` or `live`; 0 if the answer is a 200, otherwise 1."""
    from headrace import configuration

    names = [flag.removeprefix("--").replace("-", "_") for flag in FLAGS]
    flags = {name: getattr(options, name) for name in names}
    try:
        settings = configuration.resolve(flags, dotenv.environment(), None).settings
        context = _context(settings)
    except ConfigurationError as error:
        print(f"headrace: {error.message}", file=sys.stderr)
        return 1
    host = ANY_ADDRESS.get(settings.host, settings.host)
    asked = "live" if options.live else "ready"
    connection = (
        http.client.HTTPConnection(host, settings.http_port, timeout=TIMEOUT)
        if context is None
        else http.client.HTTPSConnection(host, settings.http_port, timeout=TIMEOUT, context=context)
    )
    try:
        connection.request("GET", f"/v2/health/{asked}")
        answer = connection.getresponse()
        status = answer.status
        speaks_tls = status == 400 and answer.read(len(SPEAKS_TLS)) == SPEAKS_TLS
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer from {host}:{settings.http_port}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    hint = "; the server has TLS, so this needs its --ssl-certfile" if speaks_tls else ""
    print(asked if status == 200 else f"not {asked}: status {status}{hint}")
    return 0 if status == 200 else 1


def _context(settings: ServerSettings) -> ssl.SSLContext | None:
    """What asking a server with TLS takes; None for one without.

    The server is known by its address, so its certificate, which has its names, proves nothing more
    here. It is also what this shows where clients need one.

    Raises:
        ConfigurationError: the certificate or its key cannot be read.
    """
    if settings.ssl_certfile is None:
        return None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if settings.ssl_ca_certs is None:
        return context
    file = settings.ssl_keyfile_password_file
    try:
        password = Path(file).read_bytes().rstrip(b"\r\n") if file is not None else b""
        key = settings.ssl_keyfile
        context.load_cert_chain(settings.ssl_certfile, key, password=lambda: password)
    except OSError as error:
        raise ConfigurationError(
            f"--ssl-certfile: '{settings.ssl_certfile}': {error.strerror or error}"
        ) from error
    return context
