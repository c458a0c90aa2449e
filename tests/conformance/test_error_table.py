"""Every row of the table of errors, brought about for real over every transport."""

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

from conformance.refusals import (
    Refusal,
    Transports,
    grpc_refusal,
    http_refusal,
    message,
    path,
    require,
    require_same_message,
)
from conformance.states import (
    GATED,
    HELD,
    QUEUE,
    at_once,
    held,
    in_flight,
    loading,
    logged_statuses,
    write_models,
)
from headrace.protocol.open_inference import inference_pb2 as pb
from support.asking import ask, connect, numbers, request, send_raw, tensor
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
    with serving(models, *limits, *slow, "--log-level", "debug") as running:
        yield running


@pytest.fixture
def transports(server: Server) -> Iterator[Transports]:
    """The transports of a server, which must still answer well when the test is over."""
    transports = Transports(server.announced)
    yield transports
    answer = ask(server.http, "POST", path("fine"), numbers(1, 2))
    assert answer.json["outputs"][0]["data"] == [2.0, 4.0]
    response = transports.method("ModelInfer")(message("fine", 1, 2), timeout=30)
    assert list(response.outputs[0].contents.fp64_contents) == [2.0, 4.0]
    transports.channel.close()


def post(transports: Transports, where: str, body: Any, **headers: str) -> Refusal:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http_refusal(ask(transports.http, "POST", where, body, named))


def infer(transports: Transports, sent: Any, **more: Any) -> Refusal:
    return grpc_refusal(transports.method("ModelInfer"), sent, **more)


# What the caller did wrong.


def test_a_malformed_body(transports: Transports) -> None:
    json_type = {"Content_Type": "application/json"}
    require(
        "invalid_argument",
        post(transports, path("fine"), b"{", **json_type),
        infer(transports, b"\xff\xff\xff"),
    )
    for body in (b"{", b"[1]", b'{"a": 1}', b'{"dataframe_split": 3}', b"\xff"):
        where = path("fine", verb="invocations")
        require("malformed_body", post(transports, where, body, **json_type))


@pytest.mark.parametrize(
    ("shape", "values"),
    [([-1], [1.0]), ([1] * 33, [1.0]), ([2**31], []), ([2, 2], [1.0, 2.0]), ([1], [1.0, 2.0])],
    ids=["negative", "too deep", "too long", "too few elements", "too many elements"],
)
def test_a_bad_shape_or_size(transports: Transports, shape: list[int], values: list[float]) -> None:
    sent = pb.ModelInferRequest(model_name="fine")
    added = sent.inputs.add(name="x", datatype="FP64", shape=shape)
    added.contents.fp64_contents.extend(values)
    refusals = [
        post(transports, path("fine"), request(tensor("x", "FP64", shape, values))),
        infer(transports, sent),
    ]

    require("invalid_argument", *refusals)
    require_same_message(*refusals)


def test_a_ragged_table(transports: Transports) -> None:
    body = {"dataframe_split": {"columns": ["x"], "data": [[1.0], [1.0, 2.0]]}}
    require("malformed_body", post(transports, path("fine", verb="invocations"), body))


def test_a_raw_size_that_is_not_that_of_the_shape(transports: Transports) -> None:
    sent = pb.ModelInferRequest(model_name="fine", raw_input_contents=[bytes(12)])
    sent.inputs.add(name="x", datatype="FP64", shape=[2])
    described = {"name": "x", "datatype": "FP64", "shape": [2]}
    head = request({**described, "parameters": {"binary_data_size": 12}})
    body = json.dumps(head).encode()
    refusals = [
        post(
            transports,
            path("fine"),
            body + bytes(12),
            Content_Type="application/octet-stream",
            Inference_Header_Content_Length=str(len(body)),
        ),
        infer(transports, sent),
    ]

    require("invalid_argument", *refusals)
    require_same_message(*refusals)


def test_an_input_of_another_name(transports: Transports) -> None:
    sent = message("fine", 1)
    sent.inputs[0].name = "y"
    refusals = [
        post(transports, path("fine"), numbers(1, name="y")),
        infer(transports, sent),
        post(transports, path("fine", verb="invocations"), {"inputs": {"y": [1.0]}}),
    ]

    require("invalid_argument", *refusals)
    require_same_message(*refusals)


def test_an_unknown_output(transports: Transports) -> None:
    sent = message("fine", 1)
    sent.outputs.add(name="colour")
    refusals = [
        post(transports, path("fine"), {**numbers(1), "outputs": [{"name": "colour"}]}),
        infer(transports, sent),
    ]

    require("invalid_argument", *refusals)
    require_same_message(*refusals)


def test_an_unsupported_media_type_or_encoding(transports: Transports) -> None:
    for where in (path("fine"), path("fine", verb="invocations")):
        require("unsupported_media", post(transports, where, b"{}", Content_Type="text/html"))
        require("unsupported_media", post(transports, where, b"{}", Content_Encoding="br"))


def test_a_body_over_the_cap(transports: Transports) -> None:
    many = [0.123456] * (CAP // 8)
    inflated = gzip.compress(bytes(CAP + 1))
    require("too_large", *transports.everywhere("fine", *many))
    for where in (path("fine"), path("fine", verb="invocations")):
        require("too_large", post(transports, where, inflated, Content_Encoding="gzip"))


def test_headers_over_the_cap(transports: Transports) -> None:
    long = "x" * 20_000
    require(
        "headers_too_large",
        transports.rest("fine", 1, headers={"X-Long": long}),
        transports.rpc("fine", 1, metadata=[("x-long", long)]),
        transports.scoring("fine", 1, headers={"X-Long": long}),
    )


@pytest.mark.parametrize("late", ["body", "head"])
def test_a_request_that_arrives_too_slowly(transports: Transports, late: str) -> None:
    lines = ["Host: x", "Content-Length: 9", "Content-Type: application/json"]

    def begun(where: str) -> Refusal:
        head = "\r\n".join([f"POST {where} HTTP/1.1", *lines, ""])
        end = "\r\n{" if late == "body" else ""
        return http_refusal(send_raw(transports.http, (head + end).encode()))

    wheres = (path("fine"), path("fine", verb="invocations"))
    refusals = at_once(*(lambda where=where: begun(where) for where in wheres))

    require("request_timeout", *refusals)
    assert [one.kind for one in refusals] == ["request_timeout", ""]
    assert late in refusals[0].message


# What does not exist, or is not allowed.


def test_an_unknown_model_or_version(transports: Transports) -> None:
    for model, version in (("nobody", ""), ("fine", "9")):
        refusals = transports.everywhere(model, 1, version=version)

        require("not_found", *refusals)
        require_same_message(*refusals)


def test_an_unknown_route_or_method(transports: Transports) -> None:
    require(
        "not_found",
        post(transports, "/v2/cellar", {}),
        post(transports, "/v2/cellar/invocations", {}),
    )
    require(
        "method_not_allowed",
        http_refusal(ask(transports.http, "GET", path("fine"))),
        http_refusal(ask(transports.http, "GET", "/invocations")),
    )
    for name in ("TraceSetting", "/inference.Cellar/Taste"):
        assert grpc_refusal(transports.method(name), b"").code == "UNIMPLEMENTED"


def test_loading_from_afar(tmp_path: Path) -> None:
    with serving(write_model(tmp_path), "--host", "0.0.0.0", "--parallel-workers", 0) as afar:
        transports = Transports(afar.announced)
        for verb in ("load", "unload"):
            refusals = transports.repository(verb, "m")

            require("forbidden", *refusals)
            require_same_message(*refusals)
            assert "--allow-repository-api" in refusals[0].message
        transports.channel.close()


def test_a_stream_of_a_model_that_does_not_stream(transports: Transports) -> None:
    where = path("fine", verb="infer_stream")
    refusal = post(transports, where, numbers(1))

    require("unimplemented", refusal)
    assert "'fine' does not stream" in refusal.message


def test_what_is_not_implemented(transports: Transports) -> None:
    refusals = transports.repository("load", "fine", {"config": "{}"})
    require("unimplemented", *refusals)
    require_same_message(*refusals)

    head = f"POST {path('fine', verb='invocations')} HTTP/1.1\r\nHost: x\r\n"
    sent = head.encode() + b"Transfer-Encoding: gzip\r\n\r\n"
    require("unimplemented", http_refusal(send_raw(transports.http, sent)))


# What state the model is in.


def test_a_model_that_did_not_load(transports: Transports) -> None:
    refusals = transports.everywhere("broken", 1)

    require("model_not_ready", *refusals)
    require_same_message(*refusals)
    assert "raised ValueError while loading" in refusals[0].message


def test_a_load_that_fails(transports: Transports) -> None:
    refusals = transports.repository("load", "broken")

    require("load_failed", *refusals)
    require_same_message(*refusals)


def test_a_model_that_was_unloaded(transports: Transports) -> None:
    assert ask(transports.http, "POST", "/v2/repository/models/gone/unload").status == 200
    refusals = transports.everywhere("gone", 1)

    require("model_unavailable", *refusals)
    require_same_message(*refusals)
    assert "unloaded" in refusals[0].message


def test_a_model_that_loads(transports: Transports, models: Path) -> None:
    with loading(transports, models):
        refusals = transports.everywhere("heavy", 1)

    require("model_not_ready", *refusals)
    require_same_message(*refusals)


def test_two_loads_of_one_model(transports: Transports, models: Path) -> None:
    with loading(transports, models):
        refusals = transports.repository("load", "heavy")

    require("conflict", *refusals)
    require_same_message(*refusals)


def test_a_model_that_does_not_come_back_with_its_worker(
    transports: Transports, models: Path
) -> None:
    (models / "fickle/spoilt").touch()
    first = transports.rest("fickle", 1)
    refusals = transports.everywhere("fickle", 1)

    require("model_not_ready", first, *refusals)
    require_same_message(first, *refusals)
    assert "raised ValueError while loading" in first.message


def test_requests_wait_for_a_worker_that_starts_again(
    transports: Transports, server: Server
) -> None:
    with ThreadPoolExecutor() as threads:
        killer = threads.submit(transports.rest, "returns", -1)
        ready = path("returns", verb="ready")
        answer = until(
            lambda: (asked := ask(server.http, "GET", ready)).status == 503 and asked,
            10,
            "the worker is down",
        )
        kind = pb.ModelReadyResponse
        named = pb.ModelReadyRequest(name="returns")
        response = transports.method("ModelReady", kind)(named, timeout=30)
        waiting = ask(server.http, "POST", path("returns"), numbers(1))

        assert int(answer.headers["retry-after"]) > 0
        assert response.ready is False
        assert waiting.json["outputs"][0]["data"] == [1.0]
        require("poisoned", killer.result(30))


# Too much, too late, and no one left to answer.


def test_a_full_queue(transports: Transports, server: Server, models: Path) -> None:
    with held(server, models / "gated", HELD):
        refusals = transports.everywhere("gated", 9)

    require("overloaded", *refusals)
    require_same_message(*refusals)
    assert "--max-queue-size" in refusals[0].message


def test_a_deadline_that_passes_in_the_queue(
    transports: Transports, server: Server, models: Path
) -> None:
    with held(server, models / "gated", 2):
        refusals = [
            transports.rest("gated", 91, headers={"X-Request-Timeout": "0.2"}),
            transports.rpc("gated", 92, timeout=0.2),
            transports.scoring("gated", 93, headers={"X-Request-Timeout": "0.2"}),
        ]

    # A gRPC client keeps its deadline as well, and is the first to report it.
    require("deadline_exceeded", *refusals)
    assert ask(server.http, "POST", path("gated"), numbers(94)).status == 200
    seen = (models / "gated/seen").read_text().split()
    assert seen[-1] == "94"
    assert not {"91", "92", "93"} & set(seen)


def test_a_model_that_runs_for_too_long(transports: Transports, server: Server) -> None:
    refusals = []
    for transport in transports.all:
        ready = path("hangs", verb="ready")
        until(lambda ready=ready: ask(server.http, "GET", ready).status == 200, 20, "a worker")
        refusals.append(transport("hangs", 1))

    require("deadline_exceeded", *refusals)
    require_same_message(*refusals)


def test_a_caller_who_leaves(transports: Transports, server: Server, models: Path) -> None:
    body = json.dumps(numbers(7)).encode()
    head = f"POST {path('gated')} HTTP/1.1"
    lines = [head, "Host: x", "X-Request-Id: left", f"Content-Length: {len(body)}"]
    with held(server, models / "gated", 1):
        with connect(server.http) as leaver:
            leaver.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            until(lambda: in_flight(server, "gated") == 2, 60, "the request is in flight")
        until(lambda: 499 in logged_statuses(server, "left"), 60, "the log has it")

        before = in_flight(server, "gated")
        call = transports.method("ModelInfer").future(
            message("gated", 8), metadata=[("x-request-id", "gone")], timeout=30
        )
        until(lambda: in_flight(server, "gated") > before, 60, "the call is in flight")
        call.cancel()
        assert call.code() is grpc.StatusCode.CANCELLED
        until(lambda: "CANCELLED" in logged_statuses(server, "gone"), 60, "the log has it")


# What the model did.


def test_a_model_that_raises(transports: Transports) -> None:
    refusals = transports.everywhere("raises", 1)

    require("model_error", *refusals)
    require_same_message(*refusals)
    assert "4711" not in refusals[0].message


def test_a_model_that_refuses_its_input(transports: Transports) -> None:
    refusals = transports.everywhere("refuses", 1)

    require("invalid_argument", *refusals)
    require_same_message(*refusals)
    assert refusals[0].message == "x: expected a vintage after 1900"


def test_an_answer_that_nothing_can_hold(transports: Transports) -> None:
    refusals = transports.everywhere("speechless", 1)

    require("bad_model_output", *refusals)
    require_same_message(*refusals)


def test_an_answer_with_too_few_rows_for_its_callers(transports: Transports) -> None:
    # A raw scoring body is never merged, so MLflow's routes have no second caller here.
    refusals = at_once(lambda: transports.rest("short", 1), lambda: transports.rest("short", 1))
    refusals += at_once(lambda: transports.rpc("short", 1), lambda: transports.rpc("short", 1))

    require("bad_model_output", *refusals)
    require_same_message(*refusals)


def test_a_request_that_ends_its_worker_twice(transports: Transports) -> None:
    refusals = transports.everywhere("poison", 1)

    require("poisoned", *refusals)
    require_same_message(*refusals)


def test_a_stream_whose_worker_dies(transports: Transports, server: Server) -> None:
    rest = post(transports, path("dies", verb="infer_stream"), numbers(1))
    ready = path("dies", verb="ready")
    until(lambda: ask(server.http, "GET", ready).status == 200, 20, "another worker")
    refusals = [rest, transports.stream("dies", 1)]

    require("worker_crashed", *refusals)
    require_same_message(*refusals)


# What the server does.


def test_the_end_of_a_drain(tmp_path: Path) -> None:
    folder = write_model(tmp_path, GATED, name="last")
    with serving(folder, "--drain-timeout", 1, exit_code=3) as draining:
        transports = Transports(draining.announced, alone="last")
        with ThreadPoolExecutor(3) as threads:
            calls = [threads.submit(transport, "last", 1) for transport in transports.all]
            until(lambda: in_flight(draining, "last") == 3, 20, "three requests are in flight")
            draining.signal(signal.SIGTERM)
            ready = "/v2/health/ready"
            until(lambda: ask(draining.http, "GET", ready).status == 503, 20, "it drains")
            require("shutting_down", *(late := transports.repository("load", "last")))
            require_same_message(*late)
            refusals = [call.result(30) for call in calls]
        transports.channel.close()

    require("shutting_down", *refusals)
    require_same_message(*refusals)
    assert "--drain-timeout" in refusals[0].message
