"""The predict API that KServe v1, TensorFlow Serving and Vertex AI share."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.asking import ask
from support.custom import write_model
from support.serving import serving
from support.wine import save_mlflow, trained, wines

pytestmark = pytest.mark.e2e

PREDICT = "/v1/models/wine:predict"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    model = save_mlflow(tmp_path_factory.mktemp("wine") / "model", trained(), True)
    with serving(str(model), "--name", "wine") as server:
        yield server.http


def rows():
    return wines().head(3).to_dict(orient="records")


def expected():
    return pytest.approx(trained().predict(wines().head(3)).tolist(), rel=1e-12)


def test_instances_are_answered_by_predictions(url):
    columns = wines().head(3).to_dict(orient="list")
    answer = ask(url, "POST", PREDICT, {"inputs": columns, "signature_name": "serving_default"})

    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {"outputs": expected()}


def test_a_custom_model_answers_rows(tmp_path: Path):
    with serving(write_model(tmp_path)) as server:
        answer = ask(server.http, "POST", "/v1/models/m:predict", {"instances": [1.0, 2.5]})
        columns = ask(server.http, "POST", "/v1/models/m:predict", {"inputs": [1.0, 2.5]})

        assert answer.json == {"predictions": [2.0, 5.0]}
        assert columns.json == {"outputs": [2.0, 5.0]}
        assert ask(server.http, "GET", "/v1/models").json == {
            "models": ["m"],
            "object": "list",
            "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "headrace"}],
        }


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "expected either instances or inputs"),
        ({"instances": [1], "inputs": [1]}, "expected either instances or inputs"),
        ({"instances": [1], "signature_name": "other"}, "signature_name"),
        ({"instances": [1], "signature_name": 3}, "signature_name: expected string"),
        ([1], "expected object, got array"),
        (b"{", "not valid JSON: it ends too early"),
    ],
)
def test_a_malformed_body_is_refused_with_its_reason(url, body, words):
    answer = ask(url, "POST", PREDICT, body)

    assert answer.status == 400
    assert answer.json["code"] == "invalid_argument"
    assert words in answer.json["error"]


def test_a_model_says_whether_it_is_ready(url):
    answer = ask(url, "GET", "/v1/models/wine")

    assert answer.json["ready"] is True
    assert answer.json["model_version_status"][0]["state"] == "AVAILABLE"
    assert ask(url, "GET", "/v1/models/nobody").status == 404
    assert ask(url, "POST", "/v1/models/nobody:predict", {"instances": [1]}).status == 404


def test_other_verbs_and_the_document_follow_the_declaration(url):
    refused = ask(url, "GET", PREDICT)
    document = ask(url, "GET", "/openapi.json").json

    assert (refused.status, refused.headers["allow"]) == (405, "POST")
    assert ask(url, "PUT", PREDICT).headers["allow"] == "POST"
    assert {"/v1/models", "/v1/models/{name}", PREDICT} <= document["paths"].keys()
