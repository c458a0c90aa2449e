"""MLflow's agents: many requests at once, their headers and traces, and callers who leave."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from headrace.protocol.open_inference import inference_pb2 as pb
from support.agents import save_agents, tracked
from support.asking import Client, ask
from support.serving import serving, until

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

TOGETHER = 12
RESPONSES = """
    import asyncio
    import mlflow
    from mlflow.genai.agent_server import get_request_headers
    from mlflow.types.responses import ResponsesAgentResponse, ResponsesAgentStreamEvent

    class Agent(mlflow.pyfunc.ResponsesAgent):
        def predict(self, request):
            text = get_request_headers().get("x-user", "nobody")
            return ResponsesAgentResponse(output=[self.create_text_output_item(text, "1")])

        async def predict_stream(self, request):
            await asyncio.sleep(0)
            text = get_request_headers().get("x-user", "nobody")
            yield ResponsesAgentStreamEvent(**self.create_text_delta(text, "1"))
            item = self.create_text_output_item(text, "1")
            yield ResponsesAgentStreamEvent(type="response.output_item.done", item=item)

    mlflow.models.set_model(Agent())
"""
# Each request is answered once all of them are there.
COROUTINES = f"""
    import asyncio
    import mlflow

    class Meeting(mlflow.pyfunc.PythonModel):
        here = 0

        async def predict(self, context, model_input, params=None):
            self.here += 1
            while self.here < {TOGETHER}:
                await asyncio.sleep(0.01)
            return ["met"]

        async def predict_stream(self, context, model_input, params=None):
            self.here += 1
            while self.here < {TOGETHER}:
                await asyncio.sleep(0.01)
            yield "met"

    mlflow.models.set_model(Meeting())
"""
THREADS = f"""
    import threading
    import mlflow
    from mlflow.types.agent import ChatAgentMessage, ChatAgentResponse

    class Meeting(mlflow.pyfunc.ChatAgent):
        barrier = threading.Barrier({TOGETHER})

        def predict(self, messages, context=None, custom_inputs=None):
            if messages[-1].content == "meet":
                self.barrier.wait(60)
            return ChatAgentResponse(
                messages=[ChatAgentMessage(role="assistant", content="met", id="1")]
            )

    mlflow.models.set_model(Meeting())
"""
# Waits for ever, and makes a file when it is ended.
ENDLESS = """
    import asyncio, pathlib
    import mlflow

    class Endless(mlflow.pyfunc.PythonModel):
        async def wait(self, folder):
            try:
                pathlib.Path(folder, "began").touch()
                await asyncio.sleep(3600)
            finally:
                pathlib.Path(folder, "ended").touch()

        async def predict(self, context, model_input, params=None):
            await self.wait(model_input[0])

        async def predict_stream(self, context, model_input, params=None):
            yield "a piece"
            # MLflow gives a stream the one row of a list.
            await self.wait(model_input)

    mlflow.models.set_model(Endless())
"""
PLAIN = """
    import pathlib
    import mlflow

    class Plain(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return ["whole"]

        def predict_stream(self, context, model_input, params=None):
            try:
                pathlib.Path(model_input, "began").touch()
                while True:
                    yield "a piece"
            finally:
                pathlib.Path(model_input, "ended").touch()

    mlflow.models.set_model(Plain())
"""
SOURCES = {
    "responses": RESPONSES,
    "coroutines": COROUTINES,
    "streams": COROUTINES,
    "threads": THREADS,
    "endless": ENDLESS,
    "plain": PLAIN,
}
INPUT = {"input": [{"role": "user", "content": "who?"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("agents")
    save_agents(root, SOURCES)
    with serving(root, "--env-manager", "local", env=tracked(root)) as server:
        yield server


@pytest.fixture
def url(server):
    return server.http


def score(url, name, body, **headers):
    return ask(url, "POST", f"/v2/models/{name}/invocations", body, headers, timeout=90)


def events(answer):
    *found, done = answer.body.decode().strip().split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in found]


def at_once(url, name, body):
    with ThreadPoolExecutor(TOGETHER) as threads:
        return list(threads.map(lambda _: score(url, name, body), range(TOGETHER)))


def test_coroutines_of_a_model_work_on_many_requests_at_once(url):
    answers = at_once(url, "coroutines", {"inputs": ["x"]})

    assert [answer.json for answer in answers] == [{"predictions": ["met"]}] * TOGETHER


def test_plain_functions_of_an_agent_work_on_many_requests_at_once(url):
    answers = at_once(url, "threads", {"messages": [{"role": "user", "content": "meet"}]})

    assert {answer.status for answer in answers} == {200}


def test_many_streams_of_a_model_run_at_once(url):
    answers = at_once(url, "streams", {"inputs": ["x"], "stream": True})

    assert [events(answer) for answer in answers] == [["met"]] * TOGETHER


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_agent_sees_the_headers_of_each_request(url, stream):
    users = [f"user {number}" for number in range(TOGETHER)]
    with ThreadPoolExecutor(TOGETHER) as threads:
        body = {**INPUT, "stream": stream}
        answers = threads.map(lambda user: score(url, "responses", body, **{"X-User": user}), users)

    said = [events(a)[0]["delta"] if stream else a.json["output"][0]["content"] for a in answers]
    assert said == users if stream else [each[0]["text"] for each in said] == users


def test_the_id_of_the_trace_is_in_the_answer_if_the_request_asks_for_it(url):
    asked = {"x-mlflow-return-trace-id": "true"}

    whole = score(url, "responses", INPUT, **asked).json
    *_, last = events(score(url, "responses", {**INPUT, "stream": True}, **asked))

    assert whole["metadata"]["trace_id"].startswith("tr-")
    assert last["trace_id"].startswith("tr-")
    assert "metadata" not in score(url, "responses", INPUT).json


@pytest.mark.parametrize(
    ("name", "stream"), [("endless", False), ("endless", True), ("plain", True)]
)
def test_a_caller_who_leaves_ends_what_the_model_does_for_it(url, tmp_path, name, stream):
    body = {"inputs": [str(tmp_path)], "stream": stream}
    with Client(url) as client:
        client.begin("POST", f"/v2/models/{name}/invocations", body)
        until((tmp_path / "began").exists, 60, "the model did not begin")

    until((tmp_path / "ended").exists, 60, "the model was not ended")


def test_with_several_agents_the_page_about_the_only_one_names_them(url):
    answer = ask(url, "GET", "/agent/info")

    assert answer.status == 400
    assert "'responses', 'threads'" in answer.json["message"]


def test_a_model_that_does_not_stream_says_so(url):
    answer = score(url, "threads", {"messages": [{"role": "user", "content": "x"}], "stream": True})

    assert answer.status == 501
    assert "does not stream" in answer.json["message"]


def test_pieces_of_an_asynchronous_generator_come_over_infer_stream(url):
    tensor = {"name": "input", "shape": [1], "datatype": "BYTES", "data": ["x"]}
    answer = ask(url, "POST", "/v2/models/streams/infer_stream", {"inputs": [tensor]}, timeout=90)

    assert answer.status == 200, answer
    assert answer.body.count(b"data: ") == 1


def test_pieces_of_an_asynchronous_generator_come_over_the_stream_of_grpc(server):
    tensor = pb.ModelInferRequest.InferInputTensor(name="input", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(b"x")
    asked = pb.ModelInferRequest(model_name="streams", inputs=[tensor])
    with grpc.insecure_channel(server.announced["grpc"]) as channel:
        call = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        pieces = list(call(iter([asked]), timeout=90))

    assert [piece.outputs[0].contents.bytes_contents[0] for piece in pieces] == [b"met"]
