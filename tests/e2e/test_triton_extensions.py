"""What Triton's own clients have besides inference: extensions of the protocol, and streams."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest

from support.asking import ask
from support.clients import TEST_TIMEOUT, environment, run_script
from support.custom import write_model
from support.serving import serving

pytestmark = [
    pytest.mark.e2e,
    # The first test to need it builds the environment of the client.
    pytest.mark.timeout(TEST_TIMEOUT),
]

MODELS = """
import os
import time
import numpy as np
from headrace.model import InferenceRequest, InferenceResponse, Model

class Echo(Model):
    row_independent = True

    def predict(self, request: InferenceRequest) -> InferenceResponse:
        return InferenceResponse(request.inputs)

class Counter(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        return x

    def predict_stream(self, x: np.ndarray):
        for number in range(int(x[0])):
            yield np.array([float(number)])

class Waits(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        go = os.path.join(os.path.dirname(os.path.abspath(__file__)), "go")
        while not os.path.exists(go):
            time.sleep(0.01)
        return x
"""


def write(root, name):
    (root / name).mkdir()
    (root / name / f"triton_{name}.py").write_text(MODELS)
    settings = {"name": name, "implementation": f"triton_{name}:{name.title()}"}
    (root / name / "model-settings.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name in ("echo", "counter", "waits"):
        write(root, name)
    write_model(root, "raise ValueError('no')", name="fails")
    shape = {"datatype": "FP64", "shape": [-1, 3]}
    labels = {"labels": ["ale", "lager"]}
    write_model(
        root,
        "return x",
        name="scores",
        row_independent=True,
        max_batch_size=32,
        inputs=[{"name": "x", **shape}],
        outputs=[{"name": "output-1", **shape, "parameters": labels}],
    )
    with serving(root) as server:
        yield server
        (root / "waits/go").touch()


@pytest.fixture(scope="module")
def over_http(server):
    python = environment("tritonclient")
    return run_script(python, "triton_extensions.py", "http", urlsplit(server.http).netloc)


@pytest.fixture(scope="module")
def over_grpc(server):
    python = environment("tritonclient-grpc")
    return run_script(python, "triton_extensions.py", "grpc", server.announced["grpc"])


@pytest.fixture(params=["over_http", "over_grpc"])
def found(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def streams(server):
    python = environment("tritonclient-grpc")
    return run_script(python, "triton_stream.py", server.announced["grpc"])


def test_class_count_asks_for_the_highest_elements_of_each_row(found):
    assert found["classes"] == [["0.5:1", "0.25:0"], ["3.0:0", "3.0:2"]]
    assert found["more than there are"] == [["5.0:1", "1.0:0"]]


def test_classes_have_the_labels_of_the_models_metadata(found):
    assert found["labelled"] == [
        ["0.5:1:lager", "0.25:0:ale", "0.125:2"],
        ["3.0:0:ale", "3.0:2", "1.0:1:lager"],
    ]


def test_classes_are_the_same_in_json(over_http):
    assert over_http["in json"] == [["0.5:1"], ["3.0:0"]]


def test_a_timeout_that_is_long_enough_changes_nothing(found):
    assert found["patient"] == [[0.25, 0.5, 0.125], [3.0, 1.0, 3.0]]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("priority", "request: parameter priority is not supported: requests are answered in"),
        ("sequence_id", "request: parameter sequence_end is not supported: models keep no"),
        ("timeout", "the request's time ran out before the model answered"),
        ("negative timeout", "request: parameter timeout: expected a whole number of microsec"),
        ("shared input", "input 'x': parameter shared_memory_region: shared memory"),
        ("shared output", "output 'x': parameter shared_memory_region: shared memory"),
        ("shared memory", "shared memory is not supported; send tensors in the request"),
        ("cuda shared memory", "shared memory is not supported; send tensors in the request"),
        ("text classes", "output 'x': parameter classification needs numbers, the model answers"),
        ("unknown", "model 'nobody' not found"),
    ],
)
def test_what_is_not_done_is_refused_by_name(case, message, found):
    errors = {**found["errors"], "unknown": found["unknown"]}
    assert errors[case].startswith(message)


def duration(stats, name):
    count = stats["inference_stats"][name]
    return int(count.get("count", 0)), int(count.get("ns", 0))


def test_statistics_count_requests_rows_and_batches(found):
    (before,), (after,) = found["before"]["model_stats"], found["statistics"]["model_stats"]

    def grown(name):
        return int(after.get(name, 0)) - int(before.get(name, 0))

    # Two rows, two for their classes, two numbers for theirs, and a text that has none.
    assert after["name"] == "echo"
    assert (grown("inference_count"), grown("execution_count")) == (7, 4)


def test_statistics_have_the_time_of_each_step_in_nanoseconds(found):
    (after,) = found["statistics"]["model_stats"]
    requests, seconds = duration(after, "compute_infer")

    assert duration(after, "success")[0] > 0
    assert duration(after, "fail")[0] > 0
    assert requests == duration(after, "queue")[0] == duration(after, "compute_input")[0]
    assert seconds > 0
    sizes = {int(each["batch_size"]): each["compute_infer"] for each in after["batch_stats"]}
    assert sum(int(each["count"]) for each in sizes.values()) == int(after["execution_count"])
    assert sum(int(each["ns"]) for each in sizes.values()) == pytest.approx(seconds, rel=1e-6)


def test_statistics_of_all_models_name_each(found):
    names = [each["name"] for each in found["all"]["model_stats"]]

    assert names == ["counter", "echo", "fails", "scores", "waits"]


def test_the_configuration_has_the_batch_and_the_tensors(found):
    config = found["config"].get("config", found["config"])
    (given,) = config["input"]

    assert (config["name"], config["max_batch_size"]) == ("scores", 32)
    assert (given["name"], given["data_type"], [int(dim) for dim in given["dims"]]) == (
        "x",
        "TYPE_FP64",
        [3],
    )


NOT_FOUND = "model 'nobody' not found"
FAILED = "model 'fails' failed on this request; the server's log has the details"
ANSWERS = [
    ["a", [1.5], True],
    ["b", [0.0], False],
    ["b", [1.0], False],
    ["b", [2.0], False],
    ["", NOT_FOUND, None],
    ["", FAILED, None],
    ["e", [2.5], True],
]


def of_each_request(answers):
    """The answers by their ids; requests run together, so those of one alone have an order."""
    return {id: [each[1:] for each in answers if each[0] == id] for id in ("a", "b", "e")}


def errors(answers):
    return {each[1] for each in answers if not each[0]}


@pytest.mark.parametrize("client", ["blocking", "asynchronous"])
def test_triton_reads_each_answer_and_error_of_a_stream(client, streams):
    assert len(streams[client]) == len(ANSWERS)
    assert of_each_request(streams[client]) == of_each_request(ANSWERS)
    assert errors(streams[client]) == {NOT_FOUND, FAILED}


def test_triton_is_told_when_a_request_of_a_stream_has_no_more_answers(streams):
    answers = streams["with the end of each"]
    assert of_each_request(answers) == of_each_request([*ANSWERS, ["b", None, True]])
    assert errors(answers) == {NOT_FOUND, FAILED}


def test_an_error_ends_the_stream_where_triton_asks_for_that(streams):
    assert streams["ended by an error"] == ANSWERS[:5]


def test_a_path_with_a_slash_at_the_end_is_the_same(server):
    with_slash, without = (ask(server.http, "GET", path) for path in ("/v2/", "/v2"))

    assert (with_slash.status, with_slash.json) == (200, without.json)


def test_the_models_are_listed_as_in_kserve(server):
    answer = ask(server.http, "GET", "/v2/models")

    assert answer.json == {"models": ["counter", "echo", "fails", "scores", "waits"]}


@pytest.mark.parametrize("path", ["/v2/models/nobody/stats", "/v2/models/echo/versions/9/stats"])
def test_statistics_of_what_does_not_exist_are_not_found(path, server):
    assert ask(server.http, "GET", path).status == 404
