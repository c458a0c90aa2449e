"""What is asked, over how many connections, and which servers are up together.

Only the servers of one group are up at a time, because some work even when nobody asks them. Each
group has Headrace in it, so a ratio is one of neighbours in time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers import (
    bare,
    bentoml_server,
    headrace_servers,
    litserve_server,
    mlflow_server,
    mlserver,
    mosec_server,
    ray_server,
    triton,
)
from benchmarks.peers.contender import Contender, Peer


@dataclass(frozen=True)
class Scenario:
    """One request: `data` is the rows that it holds, `wine` or `pixels`.

    `streams` are those of a connection over gRPC, and 0 over HTTP. If `checked`, wrk looks at
    every answer in every round; the others are looked at before the first and after the last,
    because it takes wrk as long as the fastest servers take to answer.
    """

    name: str
    title: str
    connections: Sequence[int]
    data: str = "wine"
    streams: int = 0
    checked: bool = False


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("row", "One row as JSON", (1, 8, 32, 128)),
        Scenario("invocations", "One row, `/invocations` of an MLflow model", (1, 32)),
        Scenario("columns", "Eleven tensors of one element, an MLflow model", (32,)),
        Scenario("grpc", "One row over gRPC, 32 streams a connection", (4,), streams=32),
        Scenario("table-json", "1000 × 784 as JSON, 6 MB", (4,), "pixels", checked=True),
        Scenario("table-binary", "1000 × 784 as binary tensors", (4,), "pixels", checked=True),
    )
}

PEERS: tuple[Peer, ...] = (
    headrace_servers.PEER,
    bare.PEER,
    triton.PEER,
    mlserver.PEER,
    mosec_server.PEER,
    mlflow_server.PEER,
    litserve_server.PEER,
    bentoml_server.PEER,
    ray_server.PEER,
)
CONTENDERS: dict[str, Contender] = {each.name: each for peer in PEERS for each in peer.contenders}

# What the names of our own servers begin with.
OURS = "headrace"
# Servers and scenarios of each group; a server takes part in the scenarios that it has a form for.
GROUPS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "limits": (
        ("headrace", "headrace-inline", "uvicorn"),
        ("row", "table-json", "table-binary"),
    ),
    "triton": (("headrace", "triton"), ("row", "table-json", "table-binary")),
    "grpc": (
        ("headrace", "headrace-grpcio", "grpc-aio", "triton", "mlserver"),
        ("grpc",),
    ),
    "mlserver": (("headrace", "mlserver"), ("row", "table-json", "table-binary")),
    "mosec": (("headrace", "mosec", "mosec-batched-32", "mosec-batched"), ("row",)),
    "mlflow": (("headrace-mlflow", "mlflow", "mlserver-mlflow"), ("invocations", "columns")),
    "litserve": (("headrace", "litserve"), ("row",)),
    "bentoml": (("headrace", "bentoml", "bentoml-batched"), ("row",)),
    "ray": (("headrace", "ray"), ("row",)),
}


def digest(group: str) -> str:
    """Of the configurations of a group, so that results of earlier ones are recognized."""
    contenders = GROUPS[group][0]
    described = [
        [each.name, peer.requirements, each.shown_command(), each.shown_environ(), each.files]
        for peer in PEERS
        for each in peer.contenders
        if each.name in contenders
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:12]
