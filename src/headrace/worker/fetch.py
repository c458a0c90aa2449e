"""Resolve and download one model URI through MLflow's client, then exit.

Runs as `python -m headrace.worker.fetch URI FOLDER`, so that MLflow never enters the server.
Prints one JSON object: `{"path": ...}`, or `{"kind": ..., "message": ...}`.
"""

from __future__ import annotations

import json
import os
import sys

from headrace.errors import LoadFailed, MissingDependency
from headrace.runtimes.artefact import fetch_reason
from headrace.runtimes.catalog import MLFLOW


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
        return _failure(LoadFailed.kind, f"MLflow cannot fetch '{uri}': {fetch_reason(exc)}")
    return {"path": path}


def _failure(kind: str, message: str) -> dict[str, str]:
    return {"kind": kind, "message": message}


def main() -> int:
    """Answer on the real standard output; whatever libraries print goes to standard error."""
    answer_to = os.dup(1)
    os.dup2(2, 1)
    result = fetch(sys.argv[1], sys.argv[2])
    os.write(answer_to, json.dumps(result).encode())
    return 0 if "path" in result else 1


if __name__ == "__main__":
    sys.exit(main())
