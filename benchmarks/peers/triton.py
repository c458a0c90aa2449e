"""Triton: the server of the nvidia-pytriton wheel, with a model for its Python backend."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

from benchmarks import environments
from benchmarks.peers import forms
from benchmarks.peers.contender import Contender, Peer, Place
from benchmarks.peers.model_folders import PIXELS, WINE

VERSION = "0.7.0"
MODEL = """
import os

import joblib
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        folder = os.path.join(args["model_repository"], args["model_version"])
        self.model = joblib.load(os.path.join(folder, "model.joblib"))

    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(each, "input-0").as_numpy() for each in requests]
        output = self.model.predict(np.concatenate(rows)).reshape(-1, 1)
        parts = np.split(output, np.cumsum([len(each) for each in rows])[:-1])
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("predict", part)]) for part in parts
        ]
"""
CONFIGURATION = """
backend: "python"
max_batch_size: {rows}
input [ {{ name: "input-0" data_type: {datatype} dims: [ {features} ] }} ]
output [ {{ name: "predict" data_type: TYPE_FP64 dims: [ 1 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
dynamic_batching {{ }}
"""
FILES = {
    "models/wine/config.pbtxt": CONFIGURATION.format(rows=64, datatype="TYPE_FP64", features=11),
    "models/pixels/config.pbtxt": CONFIGURATION.format(
        rows=1000, datatype="TYPE_FP32", features=784
    ),
    "models/wine/1/model.py": MODEL,
    "models/pixels/1/model.py": MODEL,
}


def _packages(place: Place) -> Path:
    minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return place.python.parent.parent / "lib" / minor / "site-packages"


def _server(place: Place) -> Path:
    return _packages(place) / "pytriton" / "tritonserver"


def _start(place: Place) -> list[str]:
    return [
        str(_server(place) / "bin" / "tritonserver"),
        *("--model-repository=models", "--backend-directory=backends"),
        *("--http-address=127.0.0.1", f"--http-port={place.port}"),
        *("--grpc-address=127.0.0.1", f"--grpc-port={place.grpc_port}"),
        *("--allow-metrics=false", "--log-info=false"),
    ]


def _prepare(place: Place) -> None:
    """Lay out the Python backend as the server expects it, with the stub for our interpreter."""
    backend = place.folder / "backends" / "python"
    shutil.copytree(_server(place) / "backends" / "python", backend)
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = "triton_python_backend_stub"
    shutil.copy(_server(place) / "python_backend_stubs" / minor / name, backend)


def _environ(place: Place) -> dict[str, str]:
    # The stub embeds an interpreter, whose library it needs, and which finds the packages of the
    # environment by the `python3` that is first on the path.
    libraries = [_packages(place) / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    return {
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
    }


PEER = Peer(
    "triton",
    [
        f"nvidia-pytriton=={VERSION}",
        *(
            each
            for each in environments.model_requirements()
            if not each.startswith(("numpy", "pandas"))
        ),
        # Its backend is built for it, and our pandas needs a newer one.
        "numpy<2",
        "pandas",
    ],
    [
        Contender(
            "triton",
            "Triton, Python backend, dynamic batching",
            _start,
            "/v2/health/live",
            {
                "row": forms.tensor(WINE),
                "table-json": forms.tensor(PIXELS, forms.many),
                "table-binary": forms.binary(PIXELS),
                "grpc": forms.grpc(WINE),
            },
            files=FILES,
            copies={
                "models/wine/1/model.joblib": "wine.joblib",
                "models/pixels/1/model.joblib": "pixels.joblib",
            },
            environ=_environ,
            prepare=_prepare,
        )
    ],
)
