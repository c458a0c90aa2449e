"""mosec: one request at a time, and merged.

It waits for a batch to be full, or for a millisecond. Batches of as many as there are callers are
never waited for, and larger ones take less time for each request.
"""

from __future__ import annotations

from benchmarks import environments
from benchmarks.peers import forms
from benchmarks.peers.contender import Contender, Peer, Place

VERSION = "0.9.8"
SINGLE = """
import joblib
from mosec import Server, Worker


class Wine(Worker):
    def __init__(self):
        self.model = joblib.load("model.joblib")

    def forward(self, data):
        return {"prediction": float(self.model.predict([data["row"]])[0])}


if __name__ == "__main__":
    server = Server()
    server.append_worker(Wine, num=1)
    server.run()
"""
BATCHED = """
import joblib
from mosec import Server, Worker


class Wine(Worker):
    def __init__(self):
        self.model = joblib.load("model.joblib")

    def forward(self, data):
        predictions = self.model.predict([each["row"] for each in data])
        return [{"prediction": each} for each in predictions.tolist()]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Wine, num=1, max_batch_size=SIZE, max_wait_time=1)
    server.run()
"""


def _start(place: Place) -> list[str]:
    return [
        *(str(place.python), "server.py", "--address", "127.0.0.1", "--port", str(place.port)),
        *("--log-level", "warning"),
    ]


def _contender(name: str, title: str, text: str) -> Contender:
    served = {"row": forms.row_under("/inference", "row", "prediction")}
    return Contender(name, title, _start, "/", served, files={"server.py": text})


PEER = Peer(
    "mosec",
    [f"mosec=={VERSION}", *environments.model_requirements()],
    [
        _contender("mosec", "mosec", SINGLE),
        _contender("mosec-batched-32", "mosec, batches of 32", BATCHED.replace("SIZE", "32")),
        _contender("mosec-batched", "mosec, batches of 64", BATCHED.replace("SIZE", "64")),
    ],
)
