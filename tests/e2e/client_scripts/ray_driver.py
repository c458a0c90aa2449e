"""Starts a small cluster of Ray, and does what the lines of JSON on standard input say.

Answers each line with one on standard output. The end of standard input ends the cluster.
"""

import json
import os
import sys
from typing import Any

import numpy as np
import ray
from ray import serve

import headrace.ray
from headrace import Model

# What one message of Ray's may add to its own; tracebacks are long.
LONGEST = 20_000


def run(arguments: dict[str, Any], name: str, prefix: str) -> None:
    """Deploy an application, or deploy it again with other arguments."""
    serve.run(headrace.ray.app(arguments), name=name, route_prefix=prefix)


class Triple(Model):
    """A model that only this script has. Its annotations must be objects to travel with it."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 3


def run_class(name: str, prefix: str) -> None:
    serve.run(headrace.ray.app(Triple), name=name, route_prefix=prefix)


def status(name: str) -> dict[str, Any]:
    application = serve.status().applications[name]
    deployment = application.deployments["Headrace"]
    return {
        "application": application.status.value,
        "deployment": deployment.status.value,
        "message": f"{application.message}{deployment.message}"[-LONGEST:],
        "replicas": {str(state): count for state, count in deployment.replica_states.items()},
    }


def delete(name: str) -> None:
    serve.delete(name)


def main(port: str, metrics_port: str, folder: str) -> None:
    # Ray and what it starts print on standard output as well.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    context = ray.init(
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
        include_dashboard=False,
        _metrics_export_port=int(metrics_port),
        num_cpus=4,
        object_store_memory=80 * 1024 * 1024,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    print(json.dumps(context.address_info["address"]), file=answers)
    verbs = {each.__name__: each for each in (run, run_class, status, delete)}
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        try:
            answer = {"done": verbs[verb](**arguments)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[-LONGEST:]}
        print(json.dumps(answer), file=answers)
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
