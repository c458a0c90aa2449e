"""Resolve and download one model URI through MLflow's client, then exit.

Runs as `python -m headrace.worker.fetch URI FOLDER [--origin]`, so that MLflow never enters the
server. Prints a line of JSON: `{"path": ...}`, or `{"kind": ..., "message": ...}`. Before it may
come lines `{"trouble": ...}`, one for each try that failed. `--origin` adds `origin`, which has the
`source` of a registered model's version, and the `digest` of its files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
from contextlib import suppress
from typing import Any, Callable

from headrace.errors import MissingDependency, shorten
from headrace.masking import without_credentials
from headrace.runtimes import fetch_failure
from headrace.runtimes.catalog import MLFLOW

_VERSION = re.compile(r"models:/+([^/@]+)/([0-9]+)")
# MLflow's client writes it into what it has fetched, and it names the version.
_ADDED = frozenset(("registered_model_meta",))


class FailedTries(logging.Handler):
    """Tells of each try that failed; MLflow's client tries again for minutes, and says nothing.

    It sends its requests through urllib3, which logs each connection that it cannot make.
    """

    _ADDRESS = re.compile(r"host='([^']*)', port=(\d+)")

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        error = next((each for each in arguments if isinstance(each, Exception)), None)
        if error is not None:
            address = self._ADDRESS.search(str(error))
            who = f"{address[1]}:{address[2]}" if address else "the server"
            reason = re.sub(r"\[Errno -?\d+\] ", "", str(error)).rpartition(": ")[2]
            self._tell(f"{who} does not answer: {shorten(reason, 200).lower()}")


def fetch(uri: str, folder: str) -> dict[str, str]:
    """The local path of a model; artifacts that are already local are used in place.

    Its runtime decides whether it is an MLflow model: a plugin takes any file or folder.
    """
    try:
        import mlflow.artifacts
    except ImportError:
        return _failure(
            MissingDependency.kind,
            f"'{uri}' needs the MLflow client: {MLFLOW.install}",
        )
    try:
        path = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)
    except Exception as exc:
        failed = fetch_failure.failure(exc, uri)
        return _failure(failed.kind, failed.message)
    return {"path": path}


def origin(uri: str, path: str) -> dict[str, str]:
    """Where a version of a registered model came from, and the digest of what arrived."""
    found = {"digest": f"sha256:{digest(path)}"}
    if version := _VERSION.fullmatch(uri):
        # It has just answered; but what is here is served also without an answer to this.
        with suppress(Exception):
            from mlflow.tracking import MlflowClient

            source = MlflowClient().get_model_version_download_uri(version[1], version[2])
            found["source"] = without_credentials(source)
    return found


def digest(path: str) -> str:
    """The SHA-256 of the sorted lines `SHA-256 SIZE PATH` of all files."""
    lines = []
    for folder, _, files in os.walk(path):
        for name in files:
            if name in _ADDED:
                continue
            file = os.path.join(folder, name)
            with open(file, "rb") as opened:
                hashed = hashlib.file_digest(opened, "sha256").hexdigest()
            inner = os.path.relpath(file, path).replace(os.sep, "/")
            lines.append(f"{hashed} {os.path.getsize(file)} {inner}")
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def _failure(kind: str, message: str) -> dict[str, str]:
    return {"kind": kind, "message": message}


def main() -> int:
    """Answer on the real standard output; whatever libraries print goes to standard error."""
    answer_to = os.dup(1)
    os.dup2(2, 1)

    def tell(line: dict[str, Any]) -> None:
        os.write(answer_to, json.dumps(line).encode() + b"\n")

    logging.getLogger("urllib3.connectionpool").addHandler(
        FailedTries(lambda trouble: tell({"trouble": trouble}))
    )
    result: dict[str, Any] = dict(fetch(sys.argv[1], sys.argv[2]))
    if "--origin" in sys.argv[3:] and "path" in result:
        result["origin"] = origin(sys.argv[1], result["path"])
    tell(result)
    return 0 if "path" in result else 1


if __name__ == "__main__":
    sys.exit(main())
