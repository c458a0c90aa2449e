"""`mlflow models serve` with the MLflow of our own environment."""

from __future__ import annotations

import sys

from benchmarks.peers import forms, headrace_servers
from benchmarks.peers.contender import Contender, Peer, Place


def _serve(place: Place) -> list[str]:
    where = ["-h", "127.0.0.1", "-p", str(place.port), "--env-manager", "local"]
    return [sys.executable, "-m", "mlflow", "models", "serve", "-m", "model", *where]


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
