"""MLServer's metrics under its names, as dashboards made for it read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace import Model
from headrace.admin.mlserver_metrics import MLServerCollector
from headrace.dataplane import Call, Calls
from headrace.dataplane.observers.mlserver_counters import MLServerCounters
from headrace.protocol.open_inference import inference_pb2 as pb
from headrace.testing import TestClient
from support.asking import Client, request, tensor
from support.serving import serving

ROUTE = "/v2/models/{model_name}"
BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
OF_HTTP = ("app_name", "method", "path", "status_code")
OF_GRPC = ("grpc_method", "grpc_service", "grpc_type")
# As scraped from MLServer 1.7.1 after requests over HTTP and gRPC, a stream and a batch.
SERIES_OF_MLSERVER = {
    "rest_server_requests_total": OF_HTTP,
    "rest_server_request_duration_seconds_count": OF_HTTP,
    "rest_server_request_duration_seconds_sum": OF_HTTP,
    "rest_server_request_duration_seconds_bucket": (*OF_HTTP, "le"),
    "rest_server_requests_in_progress": ("app_name", "method"),
    "grpc_server_started_total": OF_GRPC,
    "grpc_server_handled_total": (*OF_GRPC, "grpc_code"),
    "grpc_server_handling_seconds_count": OF_GRPC,
    "grpc_server_handling_seconds_sum": OF_GRPC,
    "grpc_server_handling_seconds_bucket": (*OF_GRPC, "le"),
    "grpc_server_msg_received_total": OF_GRPC,
    "grpc_server_msg_sent_total": OF_GRPC,
    "batch_request_queue_count": ("model_name", "model_version"),
    "batch_request_queue_sum": ("model_name", "model_version"),
    "batch_request_queue_bucket": ("model_name", "model_version", "le"),
    "parallel_request_queue_count": (),
    "parallel_request_queue_sum": (),
    "parallel_request_queue_bucket": ("le",),
}
BOUNDS = [
    "0.005",
    "0.01",
    "0.025",
    "0.05",
    "0.075",
    "0.1",
    "0.25",
    "0.5",
    "0.75",
    "1.0",
    "2.5",
    "5.0",
    "7.5",
    "10.0",
    "+Inf",
]
RUNTIME = """
from mlserver import MLModel, types

class Runtime(MLModel):
    async def predict(self, payload):
        return types.InferenceResponse(model_name=self.name, outputs=[])
"""


class Echo(Model):
    def predict(self, x: list[str]) -> list[str]:
        return x


def samples(text: str) -> list[Any]:
    """The samples of what is counted as in MLServer."""
    return [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(("rest_server_", "my_rest_", "grpc_", "batch_", "parallel_"))
    ]


def scraped(prefix: str | None = None, model: Any = Echo) -> dict[tuple[str, str, str], float]:
    """Method, path and status of each request that is counted, out of these."""
    with TestClient(model, metrics_rest_server_prefix=prefix) as client:
        name = "Echo" if model is Echo else "theirs"
        assert client.post(f"/v2/models/{name}/infer", json=BODY).status_code == 200
        assert client.post(f"/v2/models/{name}/infer", content=b"{").status_code == 400
        assert client.post("/v2/models/stranger/infer", json=BODY).status_code == 404
        assert client.get(f"/v2/models/{name}").status_code == 200
        client.get("/v2/nowhere")
        client.get("/v2/health/ready")
        found = samples(client.get("/metrics").text)
    return {
        tuple(sample.labels[each] for each in ("method", "path", "status_code")): sample.value
        for sample in found
        if sample.name == f"{prefix or 'rest_server'}_requests_total"
    }


EXPECTED = {
    ("POST", f"{ROUTE}/infer", "200"): 1.0,
    ("POST", f"{ROUTE}/infer", "400"): 1.0,
    ("POST", f"{ROUTE}/infer", "404"): 1.0,
    ("GET", ROUTE, "200"): 1.0,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of a runtime that is written against MLServer's API."""
    settings = {"name": "theirs", "implementation": "runtime.Runtime", "max_batch_size": 8}
    (tmp_path / "model-settings.json").write_text(json.dumps(settings))
    (tmp_path / "runtime.py").write_text(RUNTIME)
    return tmp_path


def test_requests_are_counted_by_method_route_and_status_and_probes_are_not(folder: Path) -> None:
    assert scraped(model=folder) == EXPECTED


def test_a_prefix_that_is_set_counts_for_models_that_mlserver_never_had() -> None:
    assert scraped("my_rest") == EXPECTED


def test_models_that_mlserver_never_had_are_not_counted_in_its_way_and_nobody_observes() -> None:
    with TestClient(Echo) as client:
        assert client.post("/v2/models/Echo/infer", json=BODY).status_code == 200
        assert samples(client.get("/metrics").text) == []
        active = client.app._application.calls._active
    assert not [each for each in active if isinstance(each, MLServerCounters)]


def test_an_empty_prefix_turns_them_off(folder: Path) -> None:
    assert scraped("", folder) == {}


def test_a_runtime_under_mlservers_name_is_counted_without_a_setting(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    linear = pytest.importorskip("sklearn.linear_model")
    joblib.dump(
        linear.LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), tmp_path / "model.joblib"
    )
    written = {"name": "m", "implementation": "mlserver_sklearn.SKLearnModel"}
    (tmp_path / "model-settings.json").write_text(json.dumps(written))

    with TestClient(tmp_path) as client:
        client.post("/v2/models/m/infer", json=request(tensor("x", "FP64", [1, 1], [1])))
        found = {sample.name: sample.labels for sample in samples(client.get("/metrics").text)}
    assert found["rest_server_requests_total"]["status_code"] == "200"


@pytest.mark.e2e
def test_names_labels_and_buckets_are_those_of_mlserver(folder: Path) -> None:
    message = pb.ModelInferRequest(model_name="theirs")
    message.inputs.add(name="x", datatype="INT64", shape=[1]).contents.int64_contents.append(1)
    kinds = pb.ModelInferRequest.SerializeToString, None
    base = "/inference.GRPCInferenceService/"
    with serving(folder) as server, Client(server.http) as client:
        client.ask("POST", "/v2/models/theirs/infer", BODY)
        with grpc.insecure_channel(server.announced["grpc"]) as channel:
            infer = channel.unary_unary(base + "ModelInfer", *kinds)
            stream = channel.stream_stream(base + "ModelStreamInfer", *kinds)
            infer(message, timeout=60)
            list(stream(iter([message]), timeout=60))
            with pytest.raises(grpc.RpcError):
                infer(pb.ModelInferRequest(model_name="stranger"), timeout=60)
        found = samples(client.ask("GET", "/metrics").body.decode())

    assert {each.name: set(each.labels) for each in found} == {
        name: set(labels) for name, labels in SERIES_OF_MLSERVER.items()
    }
    for name in SERIES_OF_MLSERVER:
        bounds = [each.labels["le"] for each in found if each.name == name and "le" in each.labels]
        assert bounds[: len(BOUNDS)] in ([], BOUNDS)
    codes = {
        each.labels["grpc_code"]: each.value
        for each in found
        if each.name == "grpc_server_handled_total"
    }
    assert codes == {"OK": 1.0, "NOT_FOUND": 1.0}
    types = {each.labels["grpc_type"] for each in found if each.name.startswith("grpc_server_msg")}
    assert types == {"BIDI_STREAMING"}


def shown(counters: MLServerCounters, has_workers: bool = True) -> dict[str, float]:
    found = MLServerCollector(counters, "rest_server", has_workers).collect()
    return {sample.name: sample.value for metric in found for sample in metric.samples}


def test_a_request_is_in_progress_until_it_ends_however_it_ends() -> None:
    counters = MLServerCounters(frozenset())
    calls = Calls((counters,))
    gauge = "rest_server_requests_in_progress"
    for end in (
        lambda call: calls.answered(call, 200, 0),
        lambda call: calls.refused(call, ValueError(), 500, 0),
        lambda call: calls.left(call, 499),
    ):
        call = Call("open_inference", "/v2/models/{name}/infer", "1")
        call.method = "POST"
        calls.admit(call)
        assert shown(counters)[gauge] == 1
        end(call)
        assert shown(counters)[gauge] == 0


def test_a_call_that_began_before_it_was_observed_ends_without_a_trace() -> None:
    calls = Calls()
    call = Call("open_inference", "/v2/models/{name}/infer", "1")
    call.method = "POST"
    calls.admit(call)
    counters = MLServerCounters(frozenset())
    calls.observe(counters)
    calls.answered(call, 200, 0)

    assert shown(counters) == {}


def test_a_method_of_the_callers_own_adds_no_series() -> None:
    counters = MLServerCounters(frozenset())
    calls = Calls((counters,))
    for method in ("POST", "BREW"):
        call = Call("http", "/v2/models/{name}/infer", "1")
        call.method = method
        calls.admit(call)
        calls.answered(call, 405, 0)

    assert {method for method, _, _ in counters.requests} == {"POST"}


def test_the_queue_of_workers_is_shown_if_there_are_workers(folder: Path) -> None:
    for workers, expected in ((0, False), (1, True)):
        with TestClient(folder, parallel_workers=workers) as client:
            client.post("/v2/models/theirs/infer", json=BODY)
            names = {sample.name for sample in samples(client.get("/metrics").text)}
        assert ("parallel_request_queue_count" in names) is expected
