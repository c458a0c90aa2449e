"""What callers get when the code of an MLflow model raises, or MLflow does on its behalf."""

from __future__ import annotations

import json

import pytest

from headrace.testing import TestClient

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")

from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.protos import databricks_pb2 as codes  # noqa: E402
from mlflow.pyfunc import ChatAgent, ChatModel, ResponsesAgent  # noqa: E402
from mlflow.types.agent import ChatAgentMessage, ChatAgentResponse  # noqa: E402
from mlflow.types.llm import ChatChoice, ChatCompletionResponse, ChatMessage  # noqa: E402
from mlflow.types.responses import ResponsesAgentResponse  # noqa: E402


class Strict(mlflow.pyfunc.PythonModel):
    """Raises what it is asked to."""

    def predict(self, context, model_input, params=None):
        what = model_input["what"].iloc[0]
        if what == "age":
            raise MlflowException.invalid_parameter_value("age must be at least 18")
        if what == "value":
            raise ValueError("a bug")
        raise MlflowException(f"no {what} here", error_code=getattr(codes, what))


class Chat(ChatModel):
    def predict(self, context, messages, params):
        text = messages[-1].content
        if text == "fail":
            raise ValueError("a bug")
        answer = ChatMessage(role="assistant", content=f"{text} {params.temperature}")
        return ChatCompletionResponse(
            choices=[ChatChoice(index=0, message=answer)], model="m", id="1", created=1
        )


class Agent(ChatAgent):
    def predict(self, messages, context=None, custom_inputs=None):
        answer = ChatAgentMessage(role="assistant", content=messages[-1].content, id="1")
        return ChatAgentResponse(messages=[answer])


class Responses(ResponsesAgent):
    def predict(self, request):
        return ResponsesAgentResponse(output=[self.create_text_output_item("hi", "1")])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    models = {"strict": Strict(), "chat": Chat(), "agent": Agent(), "responses": Responses()}
    for name, model in models.items():
        mlflow.pyfunc.save_model(str(root / name), python_model=model, pip_requirements=["mlflow"])
        settings = {"name": name, "implementation": "mlflow"}
        (root / name / "model-settings.json").write_text(json.dumps(settings))
    with TestClient(root, env_manager="local") as server:
        yield server


def score(server, model, body):
    answer = server.post(f"/v2/models/{model}/invocations", json=body)
    return answer.status_code, answer.json()


def raising(server, what):
    return score(server, "strict", {"dataframe_records": [{"what": what}]})


def test_an_exception_of_mlflow_that_the_model_raises_is_its_answer(server):
    error = {"error_code": "INVALID_PARAMETER_VALUE", "message": "age must be at least 18"}
    assert raising(server, "age") == (400, error)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("UNAUTHENTICATED", 401),
        ("PERMISSION_DENIED", 403),
        ("RESOURCE_DOES_NOT_EXIST", 404),
        ("RESOURCE_CONFLICT", 409),
        ("REQUEST_LIMIT_EXCEEDED", 429),
        ("INTERNAL_ERROR", 500),
        ("NOT_IMPLEMENTED", 501),
        ("TEMPORARILY_UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", 504),
    ],
)
def test_such_an_exception_keeps_its_status_and_words(code, status, server):
    assert raising(server, code) == (status, {"error_code": code, "message": f"no {code} here"})


def test_such_an_exception_keeps_its_status_and_words_over_v2(server):
    tensor = {"name": "what", "datatype": "BYTES", "shape": [1], "data": ["age"]}
    body = {"inputs": [tensor], "parameters": {"content_type": "pd"}}
    answer = server.post("/v2/models/strict/infer", json=body)
    assert answer.status_code == 400
    assert answer.json() == {"error": "age must be at least 18", "code": "invalid_argument"}


def test_any_other_exception_of_the_model_is_its_failure(server):
    status, error = raising(server, "value")
    assert status == 500
    assert "a bug" not in error["message"]


USER = {"role": "user", "content": "hey"}
# Not too deep for a reader of JSON, but for what looks through it afterwards.
NESTED = json.loads("[" * 500 + "]" * 500)


@pytest.mark.parametrize(
    ("model", "body", "reason"),
    [
        ("chat", {"messages": "hey"}, "list"),
        ("chat", {"messages": ["hey"]}, "dictionary"),
        ("chat", {"messages": [{"role": "user"}]}, "`content` is required"),
        ("chat", {"messages": [{"content": "hey"}]}, "role"),
        ("chat", {"messages": [{"role": "user", "content": 5}]}, "content"),
        ("chat", {"messages": [USER], "temperature": "hot"}, "temperature"),
        ("agent", {"messages": [{"content": "hey"}]}, "role"),
        ("responses", {"input": [{"role": "user"}]}, "input.0"),
        ("responses", {"input": None}, "input: Input should be a valid list"),
        ("chat", {"messages": NESTED}, "nests too deeply"),
        ("responses", {"input": NESTED}, "nests too deeply"),
    ],
)
def test_a_broken_request_to_a_chat_model_or_agent_is_the_callers_mistake(
    model, body, reason, server
):
    status, error = score(server, model, body)
    assert (status, error["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert reason in error["message"]


def test_a_value_error_in_the_code_of_a_chat_model_is_its_failure(server):
    status, _ = score(server, "chat", {"messages": [{"role": "user", "content": "fail"}]})
    assert status == 500


@pytest.mark.parametrize("given", [2, 2.0, 1])
def test_a_whole_number_is_a_double_for_a_chat_model(given, server):
    status, answer = score(server, "chat", {"messages": [USER], "temperature": given})
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == f"hey {float(given)}"


def test_a_refusal_of_an_object_of_a_chat_does_not_quote_it(server):
    tools = [{"type": "confidential"}]
    status, error = score(server, "chat", {"messages": [USER], "tools": tools})
    assert status == 400
    assert "ToolDefinition" in error["message"]
    assert "confidential" not in error["message"]


def test_a_number_too_large_for_a_double_is_refused_rather_than_infinite(server):
    body = b'{"messages": [{"role": "user", "content": "hey"}], "temperature": 1e400}'
    answer = server.post(
        "/v2/models/chat/invocations", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400
    assert "too large for a double" in answer.json()["message"]


CONVERSATIONS = [("chat", "messages"), ("agent", "messages"), ("responses", "input")]


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize(("model", "name"), CONVERSATIONS)
def test_conversations_that_an_agent_would_not_answer_are_refused(model, name, count, server):
    tensor = {"name": name, "datatype": "BYTES", "shape": [count],
              "data": [json.dumps([USER])] * count,
              "parameters": {"content_type": "pd_json"}}  # fmt: skip
    table = {"columns": [name], "data": [[[USER]]] * count}

    scored = server.post(f"/v2/models/{model}/invocations", json={"dataframe_split": table})
    inferred = server.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]})

    assert (scored.status_code, inferred.status_code) == (400, 400)
    for said in (scored.json()["message"], inferred.json()["error"]):
        assert f"takes one conversation in a request, got {count}" in said


@pytest.mark.parametrize(("model", "name"), CONVERSATIONS)
def test_a_table_of_one_conversation_is_answered(model, name, server):
    table = {"columns": [name], "data": [[[USER]]]}

    assert score(server, model, {"dataframe_split": table})[0] == 200


@pytest.mark.parametrize(("model", "name"), CONVERSATIONS)
def test_messages_that_are_not_in_a_list_of_their_row_are_told_so(model, name, server):
    tensor = {"name": name, "datatype": "BYTES", "shape": [2], "data": [json.dumps(USER)] * 2,
              "parameters": {"content_type": "pd_json"}}  # fmt: skip
    answer = server.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]})

    assert answer.status_code == 400
    said = answer.json()["error"]
    assert f"column '{name}', row 0: expected a list (array), got an object; a row holds" in said
