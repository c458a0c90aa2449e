"""Service files as BentoML's users write them, unedited: served, asked, and described."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

import headrace
from support.asking import ask
from support.serving import serving

pytestmark = pytest.mark.e2e

SERVICES = Path(__file__).parent / "bentoml_services"
BATCHED = {"batchable": True, "batch_dim": 0}


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Serves a service file, over the models that the test stores."""
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    return lambda name: serving(SERVICES / name, env={"HEADRACE_HOME": str(tmp_path)})


def described(server, route):
    """What the OpenAPI document says of an endpoint: its body and its answer, by media type."""
    document = ask(server.http, "GET", "/openapi.json").json
    operation = document["paths"][route]["post"]
    body, answer = operation["requestBody"]["content"], operation["responses"]["200"]["content"]

    def whole(node):
        if isinstance(node, dict) and "$ref" in node:
            node = document["components"]["schemas"][node["$ref"].rpartition("/")[2]]
        return {key: whole(value) for key, value in node.items()} if type(node) is dict else node

    return whole(body), whole(answer)


def test_arrays_in_and_out_of_a_scikit_learn_runner(serve):
    flowers, species = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(flowers, species)
    headrace.sklearn.save_model(
        "iris_clf", model, signatures={"predict": BATCHED, "predict_proba": BATCHED}
    )
    with serve("iris_service.py:svc") as server:
        classes = ask(server.http, "POST", "/classify", flowers.tolist())
        odds = ask(server.http, "POST", "/probabilities", flowers.tolist())
        wrong = ask(server.http, "POST", "/classify", [[1.0, 2.0]])
        body, answer = described(server, "/classify")
        by_sample, _ = described(server, "/probabilities")

    assert classes.json == model.predict(flowers).tolist()
    np.testing.assert_allclose(odds.json, model.predict_proba(flowers), rtol=1e-12)
    assert wrong.status == 400
    assert "(*, 4)" in wrong.json["error"]
    assert body["application/json"]["schema"]["type"] == "array"
    assert answer["application/json"]["schema"]["type"] == "array"
    assert by_sample["application/json"]["example"] == [[5.1, 3.5, 1.4, 0.2]]


def test_frames_and_pydantic_models_in_and_out(serve):
    wines = pd.DataFrame(
        {"alcohol": [9.4, 12.1, 10.5], "acidity": [0.7, 0.3, 0.5], "sweet": [False, True, False]}
    )
    model = LinearRegression().fit(wines, [5.0, 7.0, 6.0])
    headrace.sklearn.save_model("wine_quality", model, signatures={"predict": BATCHED})
    scores = model.predict(wines)
    csv = wines.to_csv(index=False).encode()
    with serve("wine_service.py:svc") as server:
        table = ask(server.http, "POST", "/rate_table", wines.to_dict("records"))
        as_csv = ask(server.http, "POST", "/rate_table", csv, {"Content-Type": "text/csv"})
        one = ask(server.http, "POST", "/v1/rate", {"alcohol": 9.4, "acidity": 0.7})
        wrong = ask(server.http, "POST", "/v1/rate", {"alcohol": "strong", "acidity": 0.7})
        body, answer = described(server, "/v1/rate")
        by_sample, _ = described(server, "/rate_table")

    assert table.json["model"] == "wine_quality"
    np.testing.assert_allclose(table.json["scores"], scores, rtol=1e-12)
    assert as_csv.json == table.json
    np.testing.assert_allclose(one.json["scores"], scores[:1], rtol=1e-12)
    assert wrong.status == 400
    assert "alcohol" in wrong.json["error"]
    assert body["application/json"]["schema"]["required"] == ["alcohol", "acidity"]
    assert list(answer["application/json"]["schema"]["properties"]) == ["model", "scores"]
    assert by_sample["application/json"]["example"] == [
        {"alcohol": 9.4, "acidity": 0.7, "sweet": False}
    ]


def test_a_picture_in_and_json_out_of_two_runners_called_in_parallel(serve):
    digits = load_digits()
    model = LogisticRegression(max_iter=200).fit(digits.data, digits.target)
    headrace.sklearn.save_model("digit_reader", model, signatures={"predict_proba": BATCHED})

    # Local, so that the pickle holds the class itself.
    class Ink:
        def __call__(self, pixels):
            return pixels.mean(axis=1)

    headrace.picklable_model.save_model("ink_judge", Ink(), signatures={"__call__": BATCHED})
    bright = np.minimum(digits.images[:20] * 16, 255)
    pictures, seen = [png(each) for each in bright], bright.reshape(20, 64) / 16
    png_type = {"Content-Type": "image/png"}
    with serve("digit_service.py:svc") as server, ThreadPoolExecutor(10) as threads:
        answers = list(
            threads.map(
                lambda each: ask(server.http, "POST", "/read_digit", each, png_type), pictures
            )
        )
        text = ask(server.http, "POST", "/read_digit", b"three", {"Content-Type": "text/plain"})
        broken = ask(server.http, "POST", "/read_digit", pictures[0][:40], png_type)
        body, answer = described(server, "/read_digit")

    assert [each.status for each in answers] == [200] * 20
    odds = model.predict_proba(seen)
    assert [each.json["digit"] for each in answers] == odds.argmax(axis=1).tolist()
    np.testing.assert_allclose([each.json["odds"] for each in answers], odds, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose([each.json["ink"] for each in answers], seen.mean(axis=1))
    assert (text.status, broken.status) == (415, 400)
    assert "image/png" in body
    assert "application/json" in answer


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
