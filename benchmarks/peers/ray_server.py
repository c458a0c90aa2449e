"""Ray Serve, merging requests, on a cluster of its own on this machine.

In the mode that its pages advise for high throughput: requests come through HAProxy to the replica,
and not through a proxy in Python.
"""

from __future__ import annotations

from benchmarks import environments
from benchmarks.peers import forms
from benchmarks.peers.contender import Contender, Peer, Place

VERSION = "2.60.0"
# Nothing is reported to anybody, and the start has the time that a busy machine takes.
ENVIRON = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_raylet_start_wait_time_s": "120",
    # Otherwise its workers give way to the load that is measured with.
    "RAY_worker_niceness": "0",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
}
SERVER = """
import signal
import sys

import joblib
import numpy as np
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(
    max_ongoing_requests=256,
    ray_actor_options={"num_cpus": 0},
    logging_config={"enable_access_log": False},
)
class Wine:
    def __init__(self, path):
        self.model = joblib.load(path)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def predict(self, rows):
        return self.model.predict(np.array(rows)).tolist()

    async def __call__(self, request: Request):
        return {"prediction": await self.predict((await request.json())["row"])}


if __name__ == "__main__":
    port, path = int(sys.argv[1]), sys.argv[2]
    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Wine.bind(path), route_prefix="/")
    signal.sigwait([signal.SIGTERM])
    serve.shutdown()
    ray.shutdown()
"""


def _start(place: Place) -> list[str]:
    model = str(place.folder / "model.joblib")
    return [str(place.python), "server.py", str(place.port), model]


def _environ(place: Place) -> dict[str, str]:
    return {
        **ENVIRON,
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(place.metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(place.grpc_port),
    }


PEER = Peer(
    "ray",
    [f"ray[serve]=={VERSION}", *environments.model_requirements()],
    [
        Contender(
            "ray",
            "Ray Serve, batched, behind HAProxy",
            _start,
            "/-/healthz",
            {"row": forms.row_under("/", "row", "prediction")},
            files={"server.py": SERVER},
            environ=_environ,
        )
    ],
)
