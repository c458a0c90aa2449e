"""The gRPC transport as a client sees it, beyond what all transports share."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from headrace.protocol.open_inference import inference_pb2 as pb
from support.asking import ask, numbers
from support.custom import write_model
from support.serving import serving, starting, until

pytestmark = pytest.mark.e2e

SERVICE = "/inference.GRPCInferenceService/"
# Records that it runs, then waits until it may continue.
GATED = """
import time
open(os.path.join(HERE, "runs"), "a").write("x")
while not os.path.exists(os.path.join(HERE, "go")):
    time.sleep(0.005)
return x
"""

COUNTER = """
import itertools
import os
import numpy as np
from headrace import Model

HERE = os.path.dirname(os.path.abspath(__file__))

class Counter(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        return x

    def predict_stream(self, x: np.ndarray):
        try:
            for number in itertools.count() if x[0] < 0 else range(int(x[0])):
                yield np.array([float(number)])
        except GeneratorExit:
            open(os.path.join(HERE, "left"), "w").close()
            raise
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    write_model(root, "return x", name="echo")
    (root / "counter").mkdir()
    (root / "counter/counter.py").write_text(COUNTER)
    settings = {"name": "counter", "implementation": "counter:Counter"}
    (root / "counter/model-settings.json").write_text(json.dumps(settings))
    return root


@pytest.fixture(scope="module", params=["--no-native-grpc", "--native-grpc"])
def core(request):
    """Which implementation of HTTP/2 serves gRPC; all tests run with both."""
    return request.param


@pytest.fixture(scope="module")
def server(models, core):
    with serving(models, core, "--max-body-size", 100_000) as server:
        yield server


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.announced["grpc"]) as channel:
        yield channel


def unary(channel, method, answer):
    return channel.unary_unary(
        SERVICE + method, lambda sent: sent.SerializeToString(), answer.FromString
    )


def infer(channel):
    return unary(channel, "ModelInfer", pb.ModelInferResponse)


def stream(channel):
    return channel.stream_stream(
        SERVICE + "ModelStreamInfer",
        lambda sent: sent.SerializeToString(),
        pb.ModelInferResponse.FromString,
    )


def request(*values, model="echo"):
    message = pb.ModelInferRequest(model_name=model)
    added = message.inputs.add(name="x", datatype="FP64", shape=[len(values)])
    added.contents.fp64_contents.extend(values)
    return message


def answer_of(message):
    return list(message.outputs[0].contents.fp64_contents)


def refusal(call, *arguments, **more):
    with pytest.raises(grpc.RpcError) as refused:
        call(*arguments, timeout=30, **more)
    return refused.value


def watch(channel):
    call = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    return call(health_pb2.HealthCheckRequest(), timeout=60)


def in_flight(server, model):
    """The requests of a model that wait or run."""
    text = ask(server.metrics, "GET", "/metrics").body.decode()
    name = f'headrace_in_flight_requests{{model="{model}"'
    return next(float(row.split()[-1]) for row in text.splitlines() if row.startswith(name))


def peak_memory(server):
    """The most bytes that the front process has held."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_a_malformed_message_is_an_invalid_argument(channel):
    refused = refusal(channel.unary_unary(SERVICE + "ModelInfer"), b"\xff\xff\xff")

    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.details() == "the request is not a valid ModelInferRequest message"


def test_an_unknown_method_is_unimplemented(channel):
    refused = refusal(channel.unary_unary(SERVICE + "TraceSetting"), b"")

    assert refused.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_over_the_body_limit_is_refused(channel):
    refused = refusal(infer(channel), request(*range(13_000)))

    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("compression", grpc.Compression, ids=lambda each: each.name)
def test_a_message_over_the_body_limit_is_neither_received_nor_unpacked(compression, server):
    before = peak_memory(server)
    eager = grpc.insecure_channel(
        server.announced["grpc"],
        options=[("grpc.max_send_message_length", -1)],
        compression=compression,
    )
    with eager:
        refused = refusal(eager.unary_unary(SERVICE + "ModelInfer"), b"\0" * 2**26)

    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert peak_memory(server) - before < 2**25


def test_metadata_over_the_head_limit_is_refused(channel):
    refused = refusal(infer(channel), request(1.0), metadata=[("x-long", "x" * 40_000)])

    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_compressed_request_is_understood(channel):
    values = [1.0] * 1000

    answer = infer(channel)(request(*values), compression=grpc.Compression.Gzip)

    assert answer_of(answer) == values


def test_more_requests_than_streams_are_all_answered(channel):
    call = infer(channel)

    asked = [call.future(request(float(n)), timeout=60) for n in range(2000)]

    assert [answer_of(future.result()) for future in asked] == [[float(n)] for n in range(2000)]


def test_each_message_of_a_stream_is_answered_in_order(channel):
    answers = stream(channel)(iter([request(float(n)) for n in range(5)]), timeout=30)

    assert [answer_of(message) for message in answers] == [[float(n)] for n in range(5)]


def test_a_model_that_streams_answers_each_message_in_pieces(channel):
    asked = [request(3.0, model="counter"), request(1.0), request(2.0, model="counter")]

    pieces = stream(channel)(iter(asked), timeout=30)

    assert [answer_of(piece) for piece in pieces] == [[0.0], [1.0], [2.0], [1.0], [0.0], [1.0]]


def test_a_caller_who_leaves_a_stream_ends_it_at_the_model(channel, models):
    pieces = stream(channel)(iter([request(-1.0, model="counter")]), timeout=60)
    assert answer_of(next(pieces)) == [0.0]

    pieces.cancel()

    until((models / "counter/left").exists, 30, "the model's generator is closed")


def test_a_bad_message_of_a_stream_ends_it_with_its_status(channel):
    answers = stream(channel)(iter([request(1.0), request(1.0, model="nobody")]), timeout=30)

    assert answer_of(next(answers)) == [1.0]
    with pytest.raises(grpc.RpcError) as refused:
        next(answers)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert refused.value.details() == "model 'nobody' not found"


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
def test_health_says_that_the_server_serves(service, channel):
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )

    health = check(health_pb2.HealthCheckRequest(service=service), timeout=30)

    assert health.status == health_pb2.HealthCheckResponse.SERVING
    refused = refusal(check, health_pb2.HealthCheckRequest(service="nobody"))
    assert refused.code() is grpc.StatusCode.NOT_FOUND


def test_health_can_be_watched(channel):
    states = watch(channel)

    assert next(states).status == health_pb2.HealthCheckResponse.SERVING
    states.cancel()


def test_reflection_lists_the_services_and_shows_ours(channel):
    reflect = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="inference.GRPCInferenceService"
        ),
    ]

    listed, shown = reflect(iter(asked), timeout=30)

    names = {row.name for row in listed.list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names
    file = descriptor_pb2.FileDescriptorProto.FromString(
        shown.file_descriptor_response.file_descriptor_proto[0]
    )
    assert "ModelInfer" in {method.name for method in file.service[0].method}


def test_the_repository_can_be_listed_and_changed(tmp_path, core):
    write_model(tmp_path, "return x", name="a")
    write_model(tmp_path, "return x", name="b")
    with (
        serving(tmp_path, core) as server,
        grpc.insecure_channel(server.announced["grpc"]) as channel,
    ):
        index = unary(channel, "RepositoryIndex", pb.RepositoryIndexResponse)
        unload = unary(channel, "RepositoryModelUnload", pb.RepositoryModelUnloadResponse)
        load = unary(channel, "RepositoryModelLoad", pb.RepositoryModelLoadResponse)

        def states(ready=False):
            rows = index(pb.RepositoryIndexRequest(ready=ready), timeout=30).models
            return {row.name: row.state for row in rows}

        assert states() == {"a": "READY", "b": "READY"}
        unload(pb.RepositoryModelUnloadRequest(model_name="a"), timeout=30)
        assert states() == {"a": "UNAVAILABLE", "b": "READY"}
        assert states(ready=True) == {"b": "READY"}
        refused = refusal(infer(channel), request(1.0, model="a"))
        assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "grpc-retry-pushback-ms" not in dict(refused.trailing_metadata())
        # KServe's client writes the name into the first field, which is for the repository's.
        loaded = load(pb.RepositoryModelLoadRequest(repository_name="a"), timeout=30)
        assert (loaded.model_name, loaded.isLoaded) == ("a", True)
        assert states() == {"a": "READY", "b": "READY"}
        refused = refusal(load, pb.RepositoryModelLoadRequest(model_name="nobody"))
        assert refused.code() is grpc.StatusCode.NOT_FOUND
        # MLServer's clients ask a service of its own, with messages of the same fields.
        theirs = channel.unary_unary(
            "/inference.model_repository.ModelRepositoryService/RepositoryIndex",
            request_serializer=pb.RepositoryIndexRequest.SerializeToString,
            response_deserializer=pb.RepositoryIndexResponse.FromString,
        )
        assert theirs(pb.RepositoryIndexRequest(), timeout=30) == index(
            pb.RepositoryIndexRequest(), timeout=30
        )


def test_a_deadline_that_passes_takes_the_request_out_of_the_queue(tmp_path, core):
    folder = write_model(tmp_path, GATED, name="gated", instances=1)
    with (
        serving(tmp_path, core) as server,
        grpc.insecure_channel(server.announced["grpc"]) as channel,
    ):
        call = infer(channel)
        running = [call.future(request(1.0, model="gated"), timeout=60) for _ in range(2)]
        until((folder / "runs").exists, 30, "the model runs")
        # Calls may overtake each other on their way.
        until(lambda: in_flight(server, "gated") == 2, 30, "both have arrived")

        waiting = call.future(request(2.0, model="gated"), timeout=0.2)
        leaving = call.future(request(3.0, model="gated"), timeout=60)
        assert waiting.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        leaving.cancel()
        until(lambda: in_flight(server, "gated") == 2, 30, "the server has read the cancellation")
        (folder / "go").touch()

        assert [answer_of(future.result()) for future in running] == [[1.0], [1.0]]
        last = ask(server.http, "POST", "/v2/models/gated/infer", numbers(4.0))
        assert last.status == 200
        assert (folder / "runs").read_text() == "xxx"


def test_a_drain_finishes_what_is_in_flight(tmp_path, core):
    folder = write_model(tmp_path, GATED, name="gated")
    with (
        serving(tmp_path, core) as server,
        grpc.insecure_channel(server.announced["grpc"]) as channel,
    ):
        call = infer(channel)
        running = call.future(request(1.0, model="gated"), timeout=60)
        until((folder / "runs").exists, 30, "the model runs")

        server.signal()
        until(lambda: "draining" in server.log(), 30, "the server drains")
        (folder / "go").touch()

        assert answer_of(running.result()) == [1.0]


def test_an_idle_stream_does_not_hold_up_a_drain(tmp_path, core):
    write_model(tmp_path, "return x", name="echo")
    with (
        serving(tmp_path, core) as server,
        grpc.insecure_channel(server.announced["grpc"]) as channel,
    ):
        closed = threading.Event()

        def one_and_then_nothing():
            yield request(1.0)
            closed.wait(60)

        answers = stream(channel)(one_and_then_nothing(), timeout=60)
        assert answer_of(next(answers)) == [1.0]

        server.signal()

        assert server.wait(60) == 0
        with pytest.raises(grpc.RpcError) as refused:
            next(answers)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        closed.set()


def test_a_watched_health_does_not_hold_up_a_drain(models, core):
    with (
        serving(models, core) as server,
        grpc.insecure_channel(server.announced["grpc"]) as channel,
    ):
        states = watch(channel)
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING

        server.signal()

        assert server.wait(60) == 0


def test_a_taken_port_names_the_flag(models, core):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with starting(models, core, "--grpc-port", port) as server:
            assert server.wait(30) != 0

            assert server.log() == (
                f"headrace: cannot listen on 127.0.0.1 port {port}: address already in use "
                "(--grpc-port)\n"
            )
            assert "--grpc-port" in server.log()
