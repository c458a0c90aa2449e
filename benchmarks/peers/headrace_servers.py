"""Headrace: with its defaults, inline, and over gRPC on grpcio."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from benchmarks import wine
from benchmarks.peers import forms, model_folders
from benchmarks.peers.contender import Contender, Peer, Place
from benchmarks.peers.model_folders import PIXELS, WINE

LIVE = "/v2/health/live"
REST = {
    "row": forms.tensor(WINE),
    "table-json": forms.tensor(PIXELS, forms.many),
    "table-binary": forms.binary(PIXELS),
}
GRPC = {"grpc": forms.grpc(WINE)}
COLUMNS = wine.feature_names()


def _serve(*options: str) -> Callable[[Place], Sequence[str]]:
    return lambda place: [
        *(sys.executable, "-m", "headrace", "serve", str(place.folder), *options),
        *("--http-port", str(place.port), "--grpc-port", str(place.grpc_port)),
        *("--metrics-port", str(place.metrics_port)),
    ]


def _sklearn(name: str, title: str, served: dict[str, forms.Form], *options: str) -> Contender:
    return Contender(
        name, title, _serve(*options), LIVE, served,
        files=model_folders.sklearn("sklearn"), copies=model_folders.SKLEARN_COPIES,
    )  # fmt: skip


PEER = Peer(
    "headrace",
    [],
    [
        _sklearn("headrace", "Headrace", {**REST, **GRPC}),
        _sklearn("headrace-inline", "Headrace, `--workers 0`", REST, "--workers", "0"),
        _sklearn("headrace-grpcio", "Headrace, `--no-native-grpc`", GRPC, "--no-native-grpc"),
        Contender(
            "headrace-mlflow",
            "Headrace, MLflow model",
            _serve(),
            LIVE,
            {"invocations": forms.invocations(COLUMNS), "columns": forms.columns(WINE, COLUMNS)},
            files=model_folders.mlflow("mlflow"),
            copies=model_folders.MLFLOW_COPIES,
        ),
    ],
    "The folder is the one that MLServer serves, but for the names of the runtimes: with "
    "MLServer's, Headrace answers and counts as MLServer does, which costs more.",
)
