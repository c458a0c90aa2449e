"""`mlserver.register` and `mlserver.log`, and prometheus_client in a worker, at `/metrics`."""

from __future__ import annotations

import os
import signal

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.compat.mlserver import metrics
from headrace.compat.mlserver.context import model_context
from headrace.compat.mlserver.settings import ModelSettings
from support import mlserver_sources as sources
from support.asking import ask, numbers
from support.serving import serving, until

LOGS = """
import mlserver
from mlserver import MLModel
from mlserver.codecs import NumpyCodec

class Runtime(MLModel):
    async def load(self):
        mlserver.register("rows_seen", "Rows of each request")
        return True

    async def predict(self, payload):
        x = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        mlserver.log(rows_seen=len(x), model_infer_request_duration=1)
        return self.encode_response(x)
"""

COUNTS = """
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from prometheus_client import Counter

SEEN = Counter("seen", "Requests", ["kind"])

class Runtime(MLModel):
    async def predict(self, payload):
        SEEN.labels(kind="a").inc()
        return self.encode_response(self.decode(payload.inputs[0], default_codec=NumpyCodec))
"""

HANGS = """
import prometheus_client, time
from prometheus_client.registry import Collector
from mlserver import MLModel

class Slow(Collector):
    def describe(self):
        return []
    def collect(self):
        time.sleep(60)
        return []

prometheus_client.REGISTRY.register(Slow())

class Runtime(MLModel):
    pass
"""


@pytest.fixture
def named():
    return ModelSettings(implementation="x.Y", name="m", parameters={"version": "v1"})


def test_values_are_counted_in_the_buckets_of_prometheus(named):
    with model_context(named):
        for value in (0.001, 0.3, 1e9):
            metrics.log(in_buckets=value)

    found = {
        (name, labels.get("le")): float(value)
        for name, labels, value in metrics.register("in_buckets", "").family()["samples"]
    }

    assert found["in_buckets_bucket", "0.005"] == 1
    assert found["in_buckets_bucket", "0.5"] == 2
    assert found["in_buckets_bucket", "10.0"] == 2
    assert found["in_buckets_bucket", "+Inf"] == found["in_buckets_count", None] == 3
    assert found["in_buckets_sum", None] == pytest.approx(1e9 + 0.301)


def test_the_labels_are_the_running_model(named):
    with model_context(named):
        metrics.log(labelled=1)

    labels = [sample[1] for sample in metrics.register("labelled", "").family()["samples"]]

    assert labels[-1] == {"model_name": "m", "model_version": "v1"}


def test_a_name_that_prometheus_does_not_take_is_refused():
    with pytest.raises(ValueError, match="cannot be the name of a metric"):
        metrics.register("not a name", "")


def test_labels_are_those_two_only():
    with pytest.raises(ValueError, match="model_name and model_version"):
        metrics.register("narrow", "").labels(kind="a")


def scraped(url):
    """Values by sample name and labels; the text must be one that a Prometheus server reads."""
    answer = ask(url, "GET", "/metrics")
    assert answer.status == 200, answer.body
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


@pytest.mark.e2e
def test_what_a_runtime_logs_is_at_both_listeners(tmp_path):
    sources.write(tmp_path / "m", LOGS, parameters={"version": "v1"})
    labels = ("model_name", "m"), ("model_version", "v1")

    with serving(tmp_path) as server:
        for _ in range(3):
            assert ask(server.http, "POST", "/v2/models/m/infer", numbers(1, 2)).status == 200
        for url in (server.http, server.metrics):
            found = scraped(url)
            assert found["rows_seen_count", *labels] == 3
            assert found["rows_seen_sum", *labels] == 6
            assert found["rows_seen_bucket", ("le", "2.5"), *labels] == 3
        assert found["model_infer_request_duration_count", ("model", "m"), ("version", "v1")] == 3
        assert "metric model_infer_request_duration is not shown" in server.log()


@pytest.mark.e2e
@pytest.mark.parametrize("workers", [0, 2])
def test_what_prometheus_client_holds_is_added_up(tmp_path, workers):
    sources.write(tmp_path / "m", COUNTS, instances=max(1, workers))

    with serving(tmp_path, "--parallel-workers", workers) as server:
        for _ in range(4):
            assert ask(server.http, "POST", "/v2/models/m/infer", numbers(1)).status == 200
        found = scraped(server.metrics)

    assert found["seen_total", ("kind", "a")] == 4
    assert not [name for name, *_ in found if name.startswith("python_")]


@pytest.mark.e2e
def test_a_worker_that_returns_counts_from_zero(tmp_path):
    sources.write(tmp_path / "m", COUNTS)

    with serving(tmp_path) as server:
        assert ask(server.http, "POST", "/v2/models/m/infer", numbers(1)).status == 200
        (pid,) = server.workers()
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in server.workers(), 60, "the worker is gone")
        assert ask(server.http, "POST", "/v2/models/m/infer", numbers(1)).status == 200

        assert scraped(server.metrics)["seen_total", ("kind", "a")] == 1


@pytest.mark.e2e
def test_a_collector_that_hangs_holds_up_no_scrape(tmp_path):
    sources.write(tmp_path / "m", HANGS)

    with serving(tmp_path) as server:
        for _ in range(2):
            answer = ask(server.metrics, "GET", "/metrics", timeout=10)
            assert b"headrace_worker_restarts_total 0.0" in answer.body
