"""LitServe, merging requests."""

from __future__ import annotations

from benchmarks import environments
from benchmarks.peers import forms
from benchmarks.peers.contender import Contender, Peer

VERSION = "0.2.19"
SERVER = """
import sys

import joblib
import litserve
import numpy as np


class Wine(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load("model.joblib")

    def decode_request(self, request):
        return np.asarray(request["row"])

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, batch):
        return self.model.predict(batch)

    def unbatch(self, output):
        return output.tolist()

    def encode_response(self, output):
        return {"prediction": output}


if __name__ == "__main__":
    api = Wine(max_batch_size=64, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False
    )
"""

PEER = Peer(
    "litserve",
    [f"litserve=={VERSION}", *environments.model_requirements()],
    [
        Contender(
            "litserve",
            "LitServe, batched",
            lambda place: [str(place.python), "server.py", str(place.port)],
            "/health",
            {"row": forms.row_under("/predict", "row", "prediction")},
            files={"server.py": SERVER},
        )
    ],
)
