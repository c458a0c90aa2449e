"""`mlflow models serve` with the MLflow of our own environment.

With a worker for each processor, as the images have that MLflow builds.
"""

from __future__ import annotations

import os
import sys

from benchmarks.peers import forms, headrace_servers
from benchmarks.peers.contender import Contender, Peer, Place


def _serve(place: Place) -> list[str]:
    where = ["-h", "127.0.0.1", "-p", str(place.port), "--env-manager", "local"]
    workers = ["-w", str(len(os.sched_getaffinity(0)))]
    return [sys.executable, "-m", "mlflow", "models", "serve", "-m", "model", *where, *workers]


PEER = Peer(
    "mlflow",
    [],
    [
        Contender(
            "mlflow",
            "`mlflow models serve`",
            _serve,
            "/ping",
            {"invocations": forms.invocations(headrace_servers.COLUMNS)},
            copies={"model": "mlflow"},
            # Otherwise uvicorn writes a line for each request.
            environ=lambda place: {"UVICORN_ACCESS_LOG": "false"},
        )
    ],
)
