"""Models for the table of errors, one for each state, and how to bring the states about."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conformance.refusals import Transports, path
from support.asking import ask, numbers
from support.custom import write_model
from support.serving import Server, until

QUEUE = 2
# Two batches are with the worker, one of them running; the rest waits in the queue.
HELD = 2 + QUEUE

GATED = """
open(os.path.join(HERE, "seen"), "a").write(f"{x[0]:g} ")
while not os.path.exists(os.path.join(HERE, "go")):
    time.sleep(0.005)
return x * 2
"""
REFUSES = """
from headrace.errors import InvalidInput
raise InvalidInput("x: expected a vintage after 1900")
"""
FICKLE = "if os.path.exists(os.path.join(HERE, 'spoilt')): raise ValueError('spoilt since')"
SLOW_AGAIN = """
seen = os.path.join(HERE, "seen")
time.sleep(1 if os.path.exists(seen) else 0)
open(seen, "w").close()
"""
DIES_STREAMING = """
import os
import numpy as np
from headrace import Model

class Dies(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        return x

    def predict_stream(self, x: np.ndarray):
        os._exit(1)
        yield x
"""


def write_models(root: Path) -> None:
    """One model for each state; those that kill their worker have one of their own."""
    apart: dict[str, Any] = {"autogenerate_inference_pool_gid": True}
    write_model(root, name="fine", parameters={"version": "3"})
    write_model(root, "raise RuntimeError('4711')", name="raises")
    write_model(root, REFUSES, name="refuses")
    write_model(root, "return object()", name="speechless")
    write_model(
        root,
        "return x[:1]",
        name="short",
        row_independent=True,
        max_batch_size=2,
        max_batch_time=20,
    )
    write_model(root, load="raise ValueError('no such vintage')", name="broken")
    write_model(root, name="gone")
    write_model(root, GATED, name="gated")
    write_model(root, load=GATED.replace("x[0]", "1").replace("return x * 2", ""), name="heavy")
    write_model(root, "time.sleep(600)", name="hangs", infer_timeout=0.4, parameters=apart)
    write_model(root, "os._exit(1)", name="poison", parameters=apart)
    write_model(root, "os._exit(1)", load=FICKLE, name="fickle", parameters=apart)
    write_model(
        root,
        "if x[0] < 0: os._exit(1)\nreturn x",
        load=SLOW_AGAIN,
        name="returns",
        parameters=apart,
    )
    dies = write_model(root, name="dies", parameters=apart)
    (dies / "custom_dies.py").write_text(DIES_STREAMING.replace("Dies", "Custom"))


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as threads:
        return [call.result(60) for call in [threads.submit(call) for call in calls]]


def in_flight(server: Server, model: str) -> int:
    text = ask(server.metrics, "GET", "/metrics").body.decode()
    rows = (row for row in text.splitlines() if row.startswith("headrace_in_flight_requests{"))
    return sum(int(float(row.split()[-1])) for row in rows if f'model="{model}"' in row)


@contextmanager
def held(server: Server, folder: Path, count: int) -> Iterator[None]:
    """`count` requests of the model `gated` wait or run in the block, and are answered after it."""
    (folder / "go").unlink(missing_ok=True)
    (folder / "seen").unlink(missing_ok=True)
    before = in_flight(server, "gated")
    with ThreadPoolExecutor(count) as threads:
        calls = [
            threads.submit(ask, server.http, "POST", path("gated"), numbers(n))
            for n in range(count)
        ]
        try:
            until(lambda: in_flight(server, "gated") == before + count, 20, "requests are held")
            yield
        finally:
            (folder / "go").touch()
        for n, call in enumerate(calls):
            assert call.result(30).json["outputs"][0]["data"] == [n * 2.0]


@contextmanager
def loading(transports: Transports, models: Path) -> Iterator[None]:
    """The model `heavy` is being loaded in the block, and was not ready before it."""
    where = "/v2/repository/models/heavy/"
    assert ask(transports.http, "POST", where + "unload").status == 200
    for name in ("go", "seen"):
        (models / "heavy" / name).unlink(missing_ok=True)
    with ThreadPoolExecutor() as threads:
        load = threads.submit(ask, transports.http, "POST", where + "load")
        try:
            until((models / "heavy/seen").exists, 60, "the load has begun")
            yield
        finally:
            (models / "heavy/go").touch()
        assert load.result(30).status == 200


def logged_statuses(server: Server, request_id: str) -> list[Any]:
    """The statuses that the log has of a request, of HTTP or of gRPC."""
    lines = [line for line in server.log().splitlines() if line[:1] == "{" and line[-1:] == "}"]
    found = [json.loads(line) for line in lines]
    mine = [line for line in found if line.get("request_id") == request_id]
    return [line.get("status", line.get("grpc_status")) for line in mine]
