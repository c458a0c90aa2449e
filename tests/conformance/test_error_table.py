"""Every row of the table of errors, brought about for real, and told through every door."""

from __future__ import annotations

import gzip
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from conformance.states import (
    GATED,
    HELD,
    QUEUE,
    at_once,
    held,
    in_flight,
    loading,
    logged,
    write_models,
)
from conformance.telling import (
    Doors,
    Told,
    message,
    path,
    require,
    require_same_words,
    told_by_grpc,
    told_by_http,
)
from headrace.protocol.open_inference import inference_pb2 as pb
from support.asking import ask, connect, exchange, numbers, request, tensor
from support.custom import write_model
from support.serving import Server, serving, until

pytestmark = pytest.mark.e2e

CAP = 100_000


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_models(root)
    (root / "heavy/go").touch()
    return root


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    limits = ("--max-body-size", CAP, "--max-queue-size", QUEUE)
    slow = ("--header-timeout", 1, "--body-timeout", 1)
    # The native core tells one row otherwise, which tests/e2e/test_grpc.py names.
    core = "--no-native-grpc"
    with serving(models, core, *limits, *slow, "--log-level", "debug") as running:
        yield running


@pytest.fixture
def doors(server: Server) -> Iterator[Doors]:
    """The doors of a server that still answers well when the test is over."""
    doors = Doors(server.announced)
    yield doors
    answer = ask(server.http, "POST", path("fine"), numbers(1, 2))
    assert answer.json["outputs"][0]["data"] == [2.0, 4.0]
    told = doors.method("ModelInfer")(message("fine", 1, 2), timeout=30)
    assert list(told.outputs[0].contents.fp64_contents) == [2.0, 4.0]
    doors.channel.close()


def post(doors: Doors, where: str, body: Any, **headers: str) -> Told:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return told_by_http(ask(doors.http, "POST", where, body, named))


def infer(doors: Doors, sent: Any, **more: Any) -> Told:
    return told_by_grpc(doors.method("ModelInfer"), sent, **more)


# What the caller did wrong.


def test_a_malformed_body(doors: Doors) -> None:
    json_type = {"Content_Type": "application/json"}
    require(
        "invalid_argument",
        post(doors, path("fine"), b"{", **json_type),
        post(doors, path("fine", verb="invocations"), b"{", **json_type),
        infer(doors, b"\xff\xff\xff"),
    )


@pytest.mark.parametrize(
    ("shape", "values"),
    [([-1], [1.0]), ([1] * 33, [1.0]), ([2**31], []), ([2, 2], [1.0, 2.0]), ([1], [1.0, 2.0])],
    ids=["negative", "too deep", "too long", "too few elements", "too many elements"],
)
def test_a_bad_shape_or_size(doors: Doors, shape: list[int], values: list[float]) -> None:
    sent = pb.ModelInferRequest(model_name="fine")
    added = sent.inputs.add(name="x", datatype="FP64", shape=shape)
    added.contents.fp64_contents.extend(values)
    told = [
        post(doors, path("fine"), request(tensor("x", "FP64", shape, values))),
        infer(doors, sent),
    ]

    require("invalid_argument", *told)
    require_same_words(*told)


def test_a_ragged_table(doors: Doors) -> None:
    body = {"dataframe_split": {"columns": ["x"], "data": [[1.0], [1.0, 2.0]]}}
    require("invalid_argument", post(doors, path("fine", verb="invocations"), body))


def test_a_raw_size_that_is_not_that_of_the_shape(doors: Doors) -> None:
    sent = pb.ModelInferRequest(model_name="fine", raw_input_contents=[bytes(12)])
    sent.inputs.add(name="x", datatype="FP64", shape=[2])
    described = {"name": "x", "datatype": "FP64", "shape": [2]}
    head = request({**described, "parameters": {"binary_data_size": 12}})
    body = json.dumps(head).encode()
    told = [
        post(
            doors,
            path("fine"),
            body + bytes(12),
            Content_Type="application/octet-stream",
            Inference_Header_Content_Length=str(len(body)),
        ),
        infer(doors, sent),
    ]

    require("invalid_argument", *told)
    require_same_words(*told)


def test_an_input_of_another_name(doors: Doors) -> None:
    sent = message("fine", 1)
    sent.inputs[0].name = "y"
    told = [
        post(doors, path("fine"), numbers(1, name="y")),
        infer(doors, sent),
        post(doors, path("fine", verb="invocations"), {"inputs": {"y": [1.0]}}),
    ]

    require("invalid_argument", *told)
    require_same_words(*told)


def test_an_unknown_output(doors: Doors) -> None:
    sent = message("fine", 1)
    sent.outputs.add(name="colour")
    told = [
        post(doors, path("fine"), {**numbers(1), "outputs": [{"name": "colour"}]}),
        infer(doors, sent),
    ]

    require("invalid_argument", *told)
    require_same_words(*told)


def test_a_media_type_or_encoding_nobody_decodes(doors: Doors) -> None:
    for where in (path("fine"), path("fine", verb="invocations")):
        require("unsupported_media", post(doors, where, b"{}", Content_Type="text/html"))
        require("unsupported_media", post(doors, where, b"{}", Content_Encoding="br"))


def test_a_body_over_the_cap(doors: Doors) -> None:
    many = [0.123456] * (CAP // 8)
    inflated = gzip.compress(bytes(CAP + 1))
    require("too_large", *doors.everywhere("fine", *many))
    for where in (path("fine"), path("fine", verb="invocations")):
        require("too_large", post(doors, where, inflated, Content_Encoding="gzip"))


def test_headers_over_the_cap(doors: Doors) -> None:
    long = "x" * 20_000
    require(
        "headers_too_large",
        doors.rest("fine", 1, headers={"X-Long": long}),
        doors.rpc("fine", 1, metadata=[("x-long", long)]),
        doors.scoring("fine", 1, headers={"X-Long": long}),
    )


@pytest.mark.parametrize("late", ["body", "head"])
def test_a_request_that_arrives_too_slowly(doors: Doors, late: str) -> None:
    lines = ["Host: x", "Content-Length: 9", "Content-Type: application/json"]

    def begun(where: str) -> Told:
        head = "\r\n".join([f"POST {where} HTTP/1.1", *lines, ""])
        end = "\r\n{" if late == "body" else ""
        return told_by_http(exchange(doors.http, (head + end).encode()))

    wheres = (path("fine"), path("fine", verb="invocations"))
    told = at_once(*(lambda where=where: begun(where) for where in wheres))

    require("request_timeout", *told)
    assert [one.kind for one in told] == ["request_timeout", ""]
    assert late in told[0].message


# What is not there, or may not be asked.


def test_an_unknown_model_or_version(doors: Doors) -> None:
    for model, version in (("nobody", ""), ("fine", "9")):
        told = doors.everywhere(model, 1, version=version)

        require("not_found", *told)
        require_same_words(*told)


def test_an_unknown_route_or_method(doors: Doors) -> None:
    require("not_found", post(doors, "/v2/cellar", {}), post(doors, "/v2/cellar/invocations", {}))
    require(
        "method_not_allowed",
        told_by_http(ask(doors.http, "GET", path("fine"))),
        told_by_http(ask(doors.http, "GET", "/invocations")),
    )
    for name in ("ModelConfig", "/inference.Cellar/Taste"):
        assert told_by_grpc(doors.method(name), b"").code == "UNIMPLEMENTED"


def test_loading_from_afar(tmp_path: Path) -> None:
    with serving(write_model(tmp_path), "--host", "0.0.0.0", "--parallel-workers", 0) as afar:
        doors = Doors(afar.announced)
        for verb in ("load", "unload"):
            told = doors.repository(verb, "m")

            require("forbidden", *told)
            require_same_words(*told)
            assert "--allow-repository-api" in told[0].message
        doors.channel.close()


def test_a_stream_of_a_model_that_does_not_stream(doors: Doors) -> None:
    where = path("fine", verb="infer_stream")
    told = post(doors, where, numbers(1))

    require("unimplemented", told)
    assert "'fine' does not stream" in told.message


def test_what_is_not_built(doors: Doors) -> None:
    told = doors.repository("load", "fine", {"config": "{}"})
    require("unimplemented", *told)
    require_same_words(*told)

    head = f"POST {path('fine', verb='invocations')} HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"
    require("unimplemented", told_by_http(exchange(doors.http, head.encode())))


# What state the model is in.


def test_a_model_that_did_not_load(doors: Doors) -> None:
    told = doors.everywhere("broken", 1)

    require("model_not_ready", *told)
    require_same_words(*told)
    assert "no such vintage" in told[0].message


def test_a_load_that_fails(doors: Doors) -> None:
    told = doors.repository("load", "broken")

    require("load_failed", *told)
    require_same_words(*told)


def test_a_model_that_was_unloaded(doors: Doors) -> None:
    assert ask(doors.http, "POST", "/v2/repository/models/gone/unload").status == 200
    told = doors.everywhere("gone", 1)

    require("model_not_ready", *told)
    require_same_words(*told)
    assert "unloaded" in told[0].message


def test_a_model_that_loads(doors: Doors, models: Path) -> None:
    with loading(doors, models):
        told = doors.everywhere("heavy", 1)

    require("model_not_ready", *told)
    require_same_words(*told)


def test_two_loads_of_one_model(doors: Doors, models: Path) -> None:
    with loading(doors, models):
        told = doors.repository("load", "heavy")

    require("conflict", *told)
    require_same_words(*told)


def test_a_model_that_does_not_come_back_with_its_worker(doors: Doors, models: Path) -> None:
    (models / "fickle/spoilt").touch()
    first = doors.rest("fickle", 1)
    told = doors.everywhere("fickle", 1)

    require("model_not_ready", first, *told)
    require_same_words(first, *told)
    assert "spoilt since" in first.message


def test_requests_wait_for_a_worker_that_starts_again(doors: Doors, server: Server) -> None:
    with ThreadPoolExecutor() as threads:
        killer = threads.submit(doors.rest, "returns", -1)
        ready = path("returns", verb="ready")
        answer = until(
            lambda: (asked := ask(server.http, "GET", ready)).status == 503 and asked,
            10,
            "the worker is down",
        )
        kind = pb.ModelReadyResponse
        told = doors.method("ModelReady", kind)(pb.ModelReadyRequest(name="returns"), timeout=30)
        waiting = ask(server.http, "POST", path("returns"), numbers(1))

        assert int(answer.headers["retry-after"]) > 0
        assert told.ready is False
        assert waiting.json["outputs"][0]["data"] == [1.0]
        require("poisoned", killer.result(30))


# Too much, too late, and nobody there.


def test_a_full_queue(doors: Doors, server: Server, models: Path) -> None:
    with held(server, models / "gated", HELD):
        told = doors.everywhere("gated", 9)

    require("overloaded", *told)
    require_same_words(*told)
    assert "--max-queue-size" in told[0].message


def test_a_deadline_that_passes_in_the_queue(doors: Doors, server: Server, models: Path) -> None:
    with held(server, models / "gated", 2):
        told = [
            doors.rest("gated", 91, headers={"X-Request-Timeout": "0.2"}),
            doors.rpc("gated", 92, timeout=0.2),
            doors.scoring("gated", 93, headers={"X-Request-Timeout": "0.2"}),
        ]

    # The deadline of a gRPC client is kept by the client as well, which is the first to tell it.
    require("deadline_exceeded", *told)
    assert ask(server.http, "POST", path("gated"), numbers(94)).status == 200
    seen = (models / "gated/seen").read_text().split()
    assert seen[-1] == "94"
    assert not {"91", "92", "93"} & set(seen)


def test_a_model_that_runs_for_too_long(doors: Doors, server: Server) -> None:
    told = []
    for door in doors.all:
        ready = path("hangs", verb="ready")
        until(lambda ready=ready: ask(server.http, "GET", ready).status == 200, 20, "a worker")
        told.append(door("hangs", 1))

    require("deadline_exceeded", *told)
    require_same_words(*told)


def test_a_caller_who_leaves(doors: Doors, server: Server, models: Path) -> None:
    body = json.dumps(numbers(7)).encode()
    lines = [f"POST {path('gated')} HTTP/1.1", "X-Request-Id: left", f"Content-Length: {len(body)}"]
    with held(server, models / "gated", 1):
        with connect(server.http) as leaver:
            leaver.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            until(lambda: in_flight(server, "gated") == 2, 60, "the request is in flight")
        until(lambda: '"status": 499' in logged(server, "left"), 60, "the log has it")

        before = in_flight(server, "gated")
        call = doors.method("ModelInfer").future(
            message("gated", 8), metadata=[("x-request-id", "gone")], timeout=30
        )
        until(lambda: in_flight(server, "gated") > before, 60, "the call is in flight")
        call.cancel()
        assert call.code() is grpc.StatusCode.CANCELLED
        until(lambda: '"CANCELLED"' in logged(server, "gone"), 60, "the log has it")


# What the model did.


def test_a_model_that_raises(doors: Doors) -> None:
    told = doors.everywhere("raises", 1)

    require("model_error", *told)
    require_same_words(*told)
    assert "4711" not in told[0].message


def test_a_model_that_refuses_its_input(doors: Doors) -> None:
    told = doors.everywhere("refuses", 1)

    require("invalid_argument", *told)
    require_same_words(*told)
    assert told[0].message == "x: expected a vintage after 1900"


def test_an_answer_that_nothing_can_hold(doors: Doors) -> None:
    told = doors.everywhere("speechless", 1)

    require("bad_model_output", *told)
    require_same_words(*told)


def test_an_answer_with_too_few_rows_for_its_callers(doors: Doors) -> None:
    # A raw scoring body is never merged, so MLflow's door has no second caller here.
    told = at_once(lambda: doors.rest("short", 1), lambda: doors.rest("short", 1))
    told += at_once(lambda: doors.rpc("short", 1), lambda: doors.rpc("short", 1))

    require("bad_model_output", *told)
    require_same_words(*told)


def test_a_request_that_ends_its_worker_twice(doors: Doors) -> None:
    told = doors.everywhere("poison", 1)

    require("poisoned", *told)
    require_same_words(*told)


def test_a_stream_whose_worker_dies(doors: Doors, server: Server) -> None:
    rest = post(doors, path("dies", verb="infer_stream"), numbers(1))
    ready = path("dies", verb="ready")
    until(lambda: ask(server.http, "GET", ready).status == 200, 20, "another worker")
    told = [rest, doors.stream("dies", 1)]

    require("worker_crashed", *told)
    require_same_words(*told)


# What the server does.


def test_the_end_of_a_drain(tmp_path: Path) -> None:
    folder = write_model(tmp_path, GATED, name="last")
    with serving(folder, "--drain-timeout", 1, exit_code=3) as draining:
        doors = Doors(draining.announced, alone="last")
        with ThreadPoolExecutor(3) as threads:
            calls = [threads.submit(door, "last", 1) for door in doors.all]
            until(lambda: in_flight(draining, "last") == 3, 20, "three requests are in flight")
            draining.signal(signal.SIGTERM)
            ready = "/v2/health/ready"
            until(lambda: ask(draining.http, "GET", ready).status == 503, 20, "it drains")
            require("shutting_down", *(late := doors.repository("load", "last")))
            require_same_words(*late)
            told = [call.result(30) for call in calls]
        doors.channel.close()

    require("shutting_down", *told)
    require_same_words(*told)
    assert "--drain-timeout" in told[0].message
