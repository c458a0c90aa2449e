"""Requests of one stream of Triton's are worked on together, over both gRPC cores."""

from __future__ import annotations

import queue

import grpc
import numpy as np
import pytest

from headrace.protocol.open_inference import inference_pb2 as pb
from support.custom import write_model
from support.serving import serving

pytestmark = pytest.mark.e2e

# The request of 0 is answered once the one of 1 has been.
WAITS = """
import threading
event = self.__dict__.setdefault("event", threading.Event())
event.wait(30) if x[0] == 0 else event.set()
return x
"""
PIECES = """
import threading
from headrace import Model

class Pieces(Model):
    def load(self):
        self.event = threading.Event()

    def predict(self, x):
        return x

    def predict_stream(self, x):
        yield x
        if x[0] == 0:
            self.event.wait(30)
        self.event.set()
        yield x
"""


@pytest.fixture(scope="module", params=["--no-native-grpc", "--native-grpc"])
def channel(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    write_model(root, WAITS, name="waits", max_concurrency=4)
    write_model(root, "return x", name="pieces")
    (root / "pieces/pieces.py").write_text(PIECES)
    settings = '{"name": "pieces", "implementation": "pieces.Pieces"}'
    (root / "pieces/model-settings.json").write_text(settings)
    with (
        serving(root, request.param) as server,
        grpc.insecure_channel(server.announced["grpc"]) as channel,
    ):
        yield channel


def asked(model, *numbers):
    for number in numbers:
        message = pb.ModelInferRequest(model_name=model, id=str(number))
        message.inputs.add(name="x", datatype="FP64", shape=[1])
        message.raw_input_contents.append(np.array([float(number)]).tobytes())
        yield message


def stream(channel):
    return channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        lambda sent: sent.SerializeToString(),
        pb.ModelStreamInferResponse.FromString,
    )


def ids(answers):
    return [answer.infer_response.id for answer in answers]


def test_requests_run_together_and_are_answered_in_order(channel):
    answers = stream(channel)(asked("waits", 0, 1), timeout=60)

    assert ids(answers) == ["0", "1"]


def test_an_error_keeps_its_place_among_the_answers(channel):
    messages = [*asked("waits", 1), *asked("nobody", 2), *asked("waits", 3)]

    answers = list(stream(channel)(iter(messages), timeout=60))

    assert ids(answers) == ["1", "2", "3"]
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]


def test_pieces_of_several_requests_leave_as_they_come(channel):
    answers = list(stream(channel)(asked("pieces", 0, 1), timeout=60))

    assert sorted(ids(answers)) == ["0", "0", "1", "1"]
    assert not any(answer.error_message for answer in answers)


def test_more_requests_than_run_together_are_all_answered_in_order(channel):
    numbers = range(1, 101)

    assert ids(stream(channel)(asked("waits", *numbers), timeout=60)) == [*map(str, numbers)]


def test_a_stream_that_is_left_with_requests_in_flight_does_not_hold_up_the_next(channel):
    sent = queue.SimpleQueue()
    for message in asked("pieces", 5, 6):
        sent.put(message)
    left = stream(channel)(iter(sent.get, None), timeout=60)
    next(left)
    left.cancel()
    sent.put(None)

    assert len(ids(stream(channel)(asked("pieces", 7), timeout=60))) == 2
