"""Metrics that a service defines, and its endpoints called by our client."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.client import Client
from support.asking import ask
from support.services import serving_service, write_service
from support.serving import until

pytestmark = pytest.mark.e2e

SERVICE = """
import bentoml
from headrace.io import NumpyNdarray

asked = bentoml.metrics.Counter("asked", "Questions", labelnames=["kind"])
sizes = bentoml.metrics.Histogram("sizes", "Rows", buckets=[1, 10])
level = bentoml.metrics.Gauge("level", "The last one")
times = bentoml.metrics.Summary("times", "Of all")
inner = bentoml.metrics.Counter("inner", "In the runner's process")

class Doubled(bentoml.Runnable):
    @bentoml.Runnable.method(batchable=True)
    def ask(self, rows):
        inner.inc(len(rows))
        return rows * 2

doubled = bentoml.Runner(Doubled)
svc = bentoml.Service("measured", runners=[doubled])

@svc.api(input=NumpyNdarray(), output=NumpyNdarray())
async def double(rows):
    asked.labels(kind="rows").inc()
    sizes.observe(len(rows))
    level.set(len(rows))
    times.observe(0.5)
    return await doubled.ask.async_run(rows)
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    return write_service(tmp_path, monkeypatch, SERVICE)


def lines(server):
    text = ask(server.metrics, "GET", "/metrics").body.decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_metrics_of_the_service_and_of_its_runnables_are_shown(file):
    with serving_service(file) as server:
        ask(server.http, "POST", "/double", [1, 2, 3])
        ask(server.http, "POST", "/double", [1])
        shown = lines(server)

    assert 'asked_total{kind="rows"} 2.0' in shown
    assert 'sizes_bucket{le="1.0"} 1.0' in shown
    assert "times_sum 1.0" in shown
    assert "level 1.0" in shown
    # It is counted in another process, where the module is imported as well.
    assert "inner_total 4.0" in shown


def test_metrics_are_defined_again_when_the_service_is_loaded_again(file):
    with serving_service(file, "--reload") as server:
        assert ask(server.http, "POST", "/double", [1]).json == [2]
        file.write_text(file.read_text().replace("async_run(rows)", "async_run(rows) + 100"))
        until(lambda: ask(server.http, "POST", "/double", [1]).json == [102], 60, "it is new")
        before = [line for line in lines(server) if line.startswith("asked_total")]
        ask(server.http, "POST", "/double", [1])
        after = [line for line in lines(server) if line.startswith("asked_total")]
        assert "not loaded again" not in server.log()

    assert float(after[0].split()[1]) == float(before[0].split()[1]) + 1


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_our_client_calls_an_endpoint_with_an_array(file, transport):
    with serving_service(file) as server:
        url = server.http if transport == "http" else f"grpc://{server.announced['grpc']}"
        with Client(url) as client:
            rows = np.arange(3, dtype=np.float32)
            answer = client.infer("measured", rows, parameters={"endpoint": "double"})

    (found,) = answer.outputs.values()
    assert found.dtype == np.float32
    assert found.tolist() == [0, 2, 4]
