"""MLServer: the scikit-learn and the MLflow runtime, in the server's own process.

Without workers of its own, because handing requests to one makes it slower.
"""

from __future__ import annotations

from benchmarks import environments
from benchmarks.peers import forms, headrace_servers, model_folders
from benchmarks.peers.contender import Contender, Peer, Place
from benchmarks.peers.model_folders import PIXELS, WINE

VERSION = "1.7.1"
SKLEARN, MLFLOW = "mlserver_sklearn.SKLearnModel", "mlserver_mlflow.MLflowRuntime"
SETTINGS = '{"debug": false, "parallel_workers": 0}\n'
LIVE = "/v2/health/live"
COLUMNS = headrace_servers.COLUMNS


def _start(place: Place) -> list[str]:
    return [place.program("mlserver"), "start", str(place.folder)]


def _ports(place: Place) -> dict[str, str]:
    return {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(place.port),
        "MLSERVER_GRPC_PORT": str(place.grpc_port),
        "MLSERVER_METRICS_PORT": str(place.metrics_port),
    }


PEER = Peer(
    "mlserver",
    [
        *(f"{name}=={VERSION}" for name in ("mlserver", "mlserver-sklearn", "mlserver-mlflow")),
        # It calls what 0.22 no longer has.
        "uvloop<0.22",
        # uvicorn uses it wherever it is installed, as it is in ours.
        *environments.pinned("httptools"),
        *environments.model_requirements(),
    ],
    [
        Contender(
            "mlserver",
            "MLServer",
            _start,
            LIVE,
            {
                "row": forms.tensor(WINE),
                "table-json": forms.tensor(PIXELS, forms.many),
                "grpc": forms.grpc(WINE),
            },
            files={"settings.json": SETTINGS, **model_folders.sklearn(SKLEARN)},
            copies=model_folders.SKLEARN_COPIES,
            environ=_ports,
        ),
        Contender(
            "mlserver-mlflow",
            "MLServer, MLflow model",
            _start,
            LIVE,
            {"invocations": forms.invocations(COLUMNS), "columns": forms.columns(WINE, COLUMNS)},
            files={"settings.json": SETTINGS, **model_folders.mlflow(MLFLOW)},
            copies=model_folders.MLFLOW_COPIES,
            environ=_ports,
        ),
    ],
)
