"""MLflow's scoring route, streamed if the body asks for it."""

from __future__ import annotations

import json
import warnings

import mlflow
import pytest

from support.asking import ask
from support.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]


COUNTING = """
import mlflow

class Counting(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return ["all at once"]

    def predict_stream(self, context, model_input, params=None):
        # MLflow gives a stream the one row of a table.
        for number in range(int(model_input["limit"])):
            if number == 3:
                raise RuntimeError("secret")
            yield {"number": number}

mlflow.models.set_model(Counting())
"""
WHOLE = """
import mlflow

class Whole(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return ["all at once"]

mlflow.models.set_model(Whole())
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    root = tmp_path_factory.mktemp("streams")
    for name, source in (("counting", COUNTING), ("whole", WHOLE)):
        (root / name).mkdir()
        (root / name / "agent.py").write_text(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mlflow.pyfunc.save_model(
                root / name / "model",
                python_model=str(root / name / "agent.py"),
                pip_requirements=["mlflow"],
            )
        settings = {"implementation": "mlflow", "parameters": {"uri": "./model"}}
        (root / name / "model-settings.json").write_text(json.dumps(settings))
    with serving(root, "--env-manager", "local") as server:
        yield server.http


def score(url, name, limit, **more):
    body = {"dataframe_split": {"columns": ["limit"], "data": [[limit]]}, **more}
    return ask(url, "POST", f"/v2/models/{name}/invocations", body)


def test_a_body_that_asks_for_a_stream_gets_events(url):
    answer = score(url, "counting", 2, stream=True)

    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.body == b'data: {"number":0}\n\ndata: {"number":1}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("more", [{}, {"stream": False}], ids=["silent", "false"])
def test_a_body_that_does_not_is_answered_whole(url, more):
    assert score(url, "counting", 2, **more).json == {"predictions": ["all at once"]}


def test_an_error_after_the_first_event_is_an_event_without_secrets(url):
    answer = score(url, "counting", 9, stream=True)

    assert answer.status == 200
    *_, last = answer.body.decode().strip().split("\n\n")
    assert json.loads(last.removeprefix("data: "))["error"]["error_code"] == "INTERNAL_ERROR"
    assert "secret" not in last


def test_a_model_that_does_not_stream_says_so(url):
    answer = score(url, "whole", 1, stream=True)

    assert answer.status == 501
    assert answer.json["error_code"] == "NOT_IMPLEMENTED"
    assert "does not stream" in answer.json["message"]


def test_the_same_pieces_come_over_the_stream_of_the_open_inference_protocol(url):
    tensor = {"name": "limit", "shape": [1], "datatype": "INT64", "data": [2]}
    answer = ask(
        url,
        "POST",
        "/v2/models/counting/infer_stream",
        {"inputs": [tensor], "parameters": {"content_type": "pd"}},
    )

    assert answer.status == 200, answer
    assert answer.body.count(b"data: ") == 2
