"""`headrace infer`: score a file of requests or a table against a running server."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.cli.api_key import FLAG, HELP, api_key
from headrace.errors import ConfigurationError

if TYPE_CHECKING:
    from headrace.client.file_scoring import Job
    from headrace.client.part import Done
    from headrace.client.reasons import Reasons

PREFIXES = ("HEADRACE_INFER_", "MLSERVER_INFER_")
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")
# Seconds between two updates of the progress line.
REDRAW = 0.2
# A day; more is a mistake.
LONGEST_INTERVAL = 86_400.0

Flag = tuple[tuple[str, ...], str, dict[str, Any]]

FLAGS: tuple[Flag, ...] = (
    (("--url", "-u"), "URL", {"default": "localhost:8080", "help": "address of the server"}),
    (("--model-name", "-m"), "MODEL_NAME", {"help": "name of the model"}),
    (
        ("--model-version",),
        "MODEL_VERSION",
        {"help": "version of the model; by default the server chooses"},
    ),
    (
        ("--input-data-path", "-i"),
        "INPUT_DATA_PATH",
        {
            "help": "file to score: .csv, .tsv, .parquet, or .jsonl with a row or a v2 inference "
            "request per line; text may be compressed (.csv.gz)"
        },
    ),
    (
        ("--output-data-path", "-o"),
        "OUTPUT_DATA_PATH",
        {"help": "file for the answers, in the order of the input; its ending sets the format"},
    ),
    (("--workers", "-w"), "WORKERS", {"default": 10, "type": int, "help": "concurrent requests"}),
    (
        ("--retries", "-r"),
        "RETRIES",
        {"default": 3, "type": int, "help": "attempts after the first if the server is away"},
    ),
    (
        ("--batch-size", "-s"),
        "BATCH_SIZE",
        {"type": int, "help": "v2 requests sent as one (default 1), or rows (default 1000)"},
    ),
    (
        ("--ignore-extra",),
        "IGNORE_EXTRA",
        {"help": "leave out columns that the model's inputs do not include"},
    ),
    (
        ("--keep",),
        "KEEP",
        {"metavar": "NAME,...", "help": "columns of the file to carry into the output"},
    ),
    (
        ("--delimiter",),
        "DELIMITER",
        {"help": "what separates the columns of a CSV file; by default a comma, in .tsv a tab"},
    ),
    (
        ("--encoding",),
        "ENCODING",
        {"help": "encoding of a CSV or JSON file; by default UTF-8, or what its first bytes say"},
    ),
    (
        ("--keep-going",),
        "KEEP_GOING",
        {"help": "score the whole file even if its first entries all fail"},
    ),
    (("--binary-data", "-b"), "BINARY_DATA", {"help": "send and receive tensors as raw bytes"}),
    (
        ("--transport", "-t"),
        "TRANSPORT",
        {"default": "rest", "choices": ("rest", "grpc"), "help": "protocol to use"},
    ),
    (
        ("--request-headers", "-H"),
        "REQUEST_HEADERS",
        {"action": "append", "metavar": "NAME:VALUE", "help": "header to send; may be repeated"},
    ),
    (
        (FLAG,),
        "API_KEY_FILE",
        {"metavar": "FILE", "help": HELP},
    ),
    (
        ("--timeout",),
        "CONNECTION_TIMEOUT",
        {"default": 60.0, "type": float, "help": "seconds one request may take"},
    ),
    (
        ("--batch-interval",),
        "BATCH_INTERVAL",
        {
            "default": 0.0,
            "type": float,
            "help": "minimum seconds from the start of a worker's request to its next",
        },
    ),
    (
        ("--batch-jitter",),
        "BATCH_JITTER",
        {"default": 0.0, "type": float, "help": "maximum random addition to it, in seconds"},
    ),
    (("--verbose", "-v"), "VERBOSE", {"help": "log each request to standard error"}),
    (
        ("--extra-verbose", "-vv"),
        "EXTRA_VERBOSE",
        {"help": "also log everything that is sent and received"},
    ),
    (("--use-ssl",), "USE_SSL", {"help": "use TLS"}),
    (("--insecure",), "INSECURE", {"help": "accept any certificate"}),
    (
        ("--ssl-ca-certs",),
        "SSL_CA_CERTS",
        {"metavar": "FILE", "help": "certificates of the authorities to trust, in PEM"},
    ),
    (
        ("--ssl-certfile",),
        "SSL_CERTFILE",
        {"metavar": "FILE", "help": "certificate to show to the server, in PEM"},
    ),
    (
        ("--ssl-keyfile",),
        "SSL_KEYFILE",
        {"metavar": "FILE", "help": "key of that certificate; by default in the same file"},
    ),
)
SWITCHES = (
    "IGNORE_EXTRA",
    "KEEP_GOING",
    "BINARY_DATA",
    "VERBOSE",
    "EXTRA_VERBOSE",
    "USE_SSL",
    "INSECURE",
)
# Any of these asks for TLS where the URL does not say.
SECURE = ("USE_SSL", "SSL_CA_CERTS", "SSL_CERTFILE")
REQUIRED = ("MODEL_NAME", "INPUT_DATA_PATH", "OUTPUT_DATA_PATH")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `infer`."""
    parser = commands.add_parser("infer", help="score a file against a running server")
    for names, variable, options in FLAGS:
        arguments = {key: value for key, value in options.items() if key != "default"}
        default = options.get("default")
        shown = "" if default is None else f" (default {default})"
        arguments["help"] = f"{options['help']}{shown} [{PREFIXES[0]}{variable}]"
        if variable in SWITCHES:
            arguments["action"] = "store_true"
        # None marks a flag that was not given: the environment comes before the default.
        parser.add_argument(*names, dest=variable, default=None, **arguments)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Score the file; returns 1 if an entry failed or the run ended early."""
    try:
        from headrace.client.client_errors import ClientError
        from headrace.client.file_scoring import NothingSucceeds, score
    except ImportError as error:
        raise ConfigurationError(str(error)) from error
    import asyncio

    values = _values(vars(options), os.environ)
    job = _job(values)
    if values["VERBOSE"] or values["EXTRA_VERBOSE"]:
        _log_requests(job, bool(values["EXTRA_VERBOSE"]))
    progress = _Progress()
    try:
        done = asyncio.run(score(job, progress.show))
    except KeyboardInterrupt:
        progress.end("interrupted", _resume(job) or "nothing was answered yet")
        return 130
    except NothingSucceeds as error:
        progress.end("stopped", error.message)
        return 1
    except ClientError as error:
        progress.end("stopped", "; ".join(filter(None, [error.message, _resume(job)])))
        return 1
    progress.end("done", f"the answers are in {job.output}")
    if done.advice and done.failed == done.entries:
        print(f"  {done.advice}", file=sys.stderr)
    return 1 if done.failed else 0


def _resume(job: Job) -> str:
    """How to continue, where there is something to continue from."""
    part = Path(f"{job.output}.part")
    if not part.exists() or not part.stat().st_size:
        return ""
    return f"run the same command to resume after what is answered, in {part}"


def _values(flags: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The value of each flag: as given, else from the environment, else its default."""
    values = {}
    for names, variable, options in FLAGS:
        value = flags.get(variable)
        source = next((p + variable for p in PREFIXES if p + variable in environ), None)
        if value is None and source is not None:
            value = _converted(environ[source], variable, options, source)
        if value is None:
            value = options.get("default")
        if value is None and variable in REQUIRED:
            raise ConfigurationError(f"{names[0]} is missing")
        values[variable] = value
    return values


def _converted(text: str, variable: str, options: Mapping[str, Any], source: str) -> Any:
    if variable in SWITCHES:
        if text.lower() not in TRUE + FALSE:
            raise ConfigurationError(f"{source}: expected true or false")
        return text.lower() in TRUE
    if variable == "REQUEST_HEADERS":
        return text.split()
    if text not in options.get("choices", (text,)):
        raise ConfigurationError(f"{source}: expected one of {', '.join(options['choices'])}")
    try:
        return options.get("type", str)(text)
    except ValueError:
        raise ConfigurationError(f"{source}: expected a number") from None


def _job(values: Mapping[str, Any]) -> Job:
    from headrace.client.file_scoring import Job
    from headrace.client.flows import Policy
    from headrace.client.input_files import InputFile
    from headrace.client.sources import Selection
    from headrace.client.transports import Options, with_key

    flags = {variable: names[0] for names, variable, _ in FLAGS}
    for variable in ("WORKERS", "BATCH_SIZE", "CONNECTION_TIMEOUT"):
        if values[variable] is not None and not values[variable] > 0:
            raise ConfigurationError(f"{flags[variable]} must be above 0")
    for variable in ("BATCH_INTERVAL", "BATCH_JITTER"):
        if not 0 <= values[variable] < LONGEST_INTERVAL:
            raise ConfigurationError(
                f"{flags[variable]}: expected seconds from 0 to {LONGEST_INTERVAL:g}"
            )
    headers = with_key(_headers(values["REQUEST_HEADERS"]), api_key(values["API_KEY_FILE"]))
    return Job(
        url=_url(values["URL"], values["TRANSPORT"], any(values[name] for name in SECURE)),
        model=values["MODEL_NAME"],
        input=InputFile(
            Path(values["INPUT_DATA_PATH"]),
            values["ENCODING"] or "",
            _delimiter(values["DELIMITER"] or ""),
        ),
        output=Path(values["OUTPUT_DATA_PATH"]),
        version=values["MODEL_VERSION"],
        workers=values["WORKERS"],
        batch_size=values["BATCH_SIZE"],
        interval=values["BATCH_INTERVAL"],
        jitter=values["BATCH_JITTER"],
        binary=bool(values["BINARY_DATA"]),
        selection=Selection(bool(values["IGNORE_EXTRA"]), _names(values["KEEP"])),
        keep_going=bool(values["KEEP_GOING"]),
        policy=Policy(values["CONNECTION_TIMEOUT"], values["RETRIES"]),
        options=Options(headers, _verify(values), cert=_certificate(values)),
    )


def _log_requests(job: Job, contents: bool) -> None:
    """Log each request to standard error, with the `contents` of request and answer if asked."""
    import logging

    from headrace.observability import logs

    logs.configure("debug", "text")
    if not contents:
        logging.getLogger("headrace.client.wire").setLevel(logging.INFO)
    logging.getLogger("headrace.client").debug(
        "model '%s' at %s: %s to %s by %d workers",
        job.model,
        job.url,
        job.input.path,
        job.output,
        job.workers,
    )


def _url(given: str, transport: str, secure: bool) -> str:
    if "://" in given:
        return given
    scheme = {"rest": "http", "grpc": "grpc"}[transport]
    return f"{scheme}{'s' if secure else ''}://{given}"


def _verify(values: Mapping[str, Any]) -> bool | str:
    authorities: str | None = values["SSL_CA_CERTS"]
    if authorities and values["INSECURE"]:
        raise ConfigurationError("--insecure trusts everybody; leave --ssl-ca-certs out, or it")
    return authorities or not values["INSECURE"]


def _certificate(values: Mapping[str, Any]) -> tuple[str, str] | None:
    certificate, key = values["SSL_CERTFILE"], values["SSL_KEYFILE"]
    if key and not certificate:
        raise ConfigurationError("--ssl-keyfile needs --ssl-certfile, which is missing")
    return (certificate, key or certificate) if certificate else None


def _delimiter(given: str) -> str:
    """One character; a tab may be written out, as shells make it hard to type."""
    found = {"tab": "\t", r"\t": "\t"}.get(given, given)
    if len(found) > 1 or found in ('"', "\n", "\r"):
        raise ConfigurationError("--delimiter: expected one character, or the word tab")
    return found


def _names(given: str | None) -> tuple[str, ...]:
    """Names separated by commas; a name that holds one is quoted, as in CSV."""
    import csv

    found = next(csv.reader([given or ""], skipinitialspace=True), [])
    return tuple(dict.fromkeys(filter(None, found)))


def _headers(given: list[str] | None) -> dict[str, str]:
    headers = {}
    for item in given or []:
        name, found, value = item.partition(":")
        if not found:
            raise ConfigurationError("--request-headers: expected NAME:VALUE")
        headers[name.strip()] = value.strip()
    return headers


class _Progress:
    """A progress line if standard error is a terminal, and the counts at the end of the run."""

    def __init__(self) -> None:
        self._began = self._shown = time.monotonic()
        self._first: int | None = None
        self._entries = self._failed = 0
        self._reasons: Reasons | None = None
        self._live = sys.stderr.isatty()

    def show(self, done: Done) -> None:
        """Record the progress, and redraw the line now and then."""
        if self._first is None:
            self._first = done.entries
            if self._first and done.reasons is not None:
                print(f"resuming after {done.reasons.counted(self._first)}", file=sys.stderr)
        self._entries, self._failed, self._reasons = done.entries, done.failed, done.reasons
        now = time.monotonic()
        if self._live and now - self._shown >= REDRAW:
            self._shown = now
            print(f"\r{self._counts()}", end="", file=sys.stderr, flush=True)

    def end(self, how: str, more: str) -> None:
        """Print the counts, what else there is to say, and why entries failed."""
        start = "\r" if self._live else ""
        print(f"{start}{how}: {self._counts()}; {more}", file=sys.stderr)
        for line in self._reasons.lines() if self._reasons is not None else ():
            print(f"  {line}", file=sys.stderr)

    def _counts(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-6)
        rate = (self._entries - (self._first or 0)) / seconds
        entries = self._reasons.counted(self._entries) if self._reasons else "nothing"
        return f"{entries}, {self._failed} failed, {rate:.0f}/s"
