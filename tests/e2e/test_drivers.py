"""The same request, answered directly and through ASGI: what a client sees is the same."""

from __future__ import annotations

import json

import pytest

from support import mlserver_sources
from support.asking import ask, send_raw
from support.custom import write_model
from support.plugins import write_plugin
from support.serving import serving
from support.wine import save_mlflow, trained, wines

pytestmark = pytest.mark.e2e

TENSOR = {"name": "x", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]}
LARGE = {"name": "x", "shape": [3000], "datatype": "FP64", "data": [0.5] * 3000}
GOOD = {"inputs": [TENSOR]}
COUNT = {"name": "n", "shape": [1], "datatype": "INT64", "data": [2]}
MOST = 32 * 1024
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
    b"Content-Type: text/plain\r\n\r\nabc\r\n--b--\r\n"
)
TEXT = {"Content-Type": "text/plain"}

# Sends whatever headers the request asks for in `x-wanted`.
HEADERS = """
import json
from mlserver import MLModel
from mlserver.types import InferenceResponse

class Runtime(MLModel):
    async def predict(self, payload):
        headers = json.loads(payload.parameters.headers["x-wanted"])
        return InferenceResponse(
            model_name=self.name, parameters={"headers": headers}, outputs=[]
        )
"""
STREAM = """
import numpy as np
from headrace import Model

class Counter(Model):
    def predict(self, n: int) -> int:
        return n

    def predict_stream(self, n: int):
        for number in range(n):
            if number == 3:
                raise RuntimeError("secret")
            yield np.array([number])
"""

# The status, and the path, body and headers of the request.
CASES = {
    "tensors": (200, "/v2/models/m/infer", GOOD, {}),
    "another name": (200, "/v2/models/m/generate", GOOD, {}),
    "binary answer": (
        200,
        "/v2/models/m/infer",
        {**GOOD, "outputs": [{"name": "output-1", "parameters": {"binary_data": True}}]},
        {},
    ),
    "compressed answer": (
        200,
        "/v2/models/m/infer",
        {"inputs": [LARGE]},
        {"Accept-Encoding": "gzip"},
    ),
    "broken body": (400, "/v2/models/m/infer", b"{", {}),
    "wrong datatype": (400, "/v2/models/m/infer", {"inputs": [{**TENSOR, "datatype": "FP"}]}, {}),
    "wrong media type": (415, "/v2/models/m/infer", GOOD, {"Content-Type": "text/plain"}),
    "no such model": (404, "/v2/models/nobody/infer", GOOD, {}),
    "model that raises": (500, "/v2/models/raises/infer", GOOD, {}),
    "bad deadline": (400, "/v2/models/m/infer", GOOD, {"X-Request-Timeout": "soon"}),
    "scoring": (200, "/v2/models/wine/invocations", {"dataframe_split": "TABLE"}, {}),
    "the only MLflow model": (200, "/invocations", {"dataframe_split": "TABLE"}, {}),
    "broken scoring": (400, "/v2/models/wine/invocations", {"dataframe_split": 3}, {}),
    "stream that is refused": (
        501,
        "/v2/models/wine/invocations",
        {"inputs": [], "stream": True},
        {},
    ),
    "predict": (200, "/v1/models/m:predict", {"instances": [1.0]}, {}),
    "broken predict": (400, "/v1/models/m:predict", {}, {}),
    "raw of no plugin": (400, "/v2/models/m/raw", b"x", {}),
    "raw": (200, "/v2/models/p/raw", b"abc", TEXT),
    "the only plugin": (200, "/api/predict", b"abc", TEXT),
    "raw of another media type": (415, "/v2/models/p/raw", b"abc", {}),
    "raw in a form": (
        200,
        "/v2/models/p/raw",
        FORM,
        {"Content-Type": "multipart/form-data; boundary=b"},
    ),
    "headers of the model": (
        200,
        "/v2/models/headers/infer",
        GOOD,
        {"X-Wanted": '{"X-Seen": "yes"}'},
    ),
    "headers that HTTP cannot carry": (
        500,
        "/v2/models/headers/infer",
        GOOD,
        {"X-Wanted": '{"x-a": "1\\r\\nx-b: 2"}'},
    ),
    "events": (200, "/v2/models/counter/infer_stream", {"inputs": [COUNT]}, {}),
    "events that end in an error": (
        200,
        "/v2/models/counter/infer_stream",
        {"inputs": [{**COUNT, "data": [9]}]},
        {},
    ),
    "MLflow's events": (
        200,
        "/v2/models/counter/invocations",
        {"inputs": {"n": 2}, "stream": True},
        {},
    ),
    "body over the cap": (413, "/v2/models/m/infer", b" " * (MOST + 1), {}),
    "model that is not loaded": (503, "/v2/models/idle/infer", GOOD, {}),
    "deadline": (504, "/v2/models/slow/infer", GOOD, {"X-Request-Timeout": "0.05"}),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    root = tmp_path_factory.mktemp("drivers")
    write_model(root)
    write_model(root, "raise RuntimeError('secret')", name="raises")
    save_mlflow(root / "wine" / "model", trained(), True)
    settings = {"implementation": "mlflow", "parameters": {"uri": "./model"}}
    (root / "wine" / "model-settings.json").write_text(json.dumps(settings))
    write_model(root, "time.sleep(1); return x", name="slow")
    write_model(root, name="idle")
    write_plugin(root)
    mlserver_sources.write(root / "headers", HEADERS)
    (root / "counter").mkdir()
    (root / "counter/counting.py").write_text(STREAM)
    settings = {"name": "counter", "implementation": "counting.Counter"}
    (root / "counter/model-settings.json").write_text(json.dumps(settings))
    with serving(root, "--max-body-size", MOST) as server:
        assert ask(server.http, "POST", "/v2/repository/models/idle/unload").status == 200
        yield server.http


def encoded(body):
    if isinstance(body, bytes):
        return body
    if body.get("dataframe_split") == "TABLE":
        body = {"dataframe_split": wines().head(2).to_dict(orient="split", index=False)}
    return json.dumps(body).encode()


@pytest.mark.parametrize("case", CASES)
def test_both_drivers_give_the_same_status_headers_and_body(url, case):
    status, path, body, headers = CASES[case]
    body = encoded(body)
    fields = {"Host": "x", "Content-Type": "application/json", "X-Request-Id": "same", **headers}
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
    # A chunked body goes through ASGI; a small one of known length is answered directly.
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    known = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    close = b"Connection: close\r\n"

    direct = send_raw(url, head.encode() + close + known)
    asgi = send_raw(url, head.encode() + close + chunked)

    assert direct is not None
    assert asgi is not None
    for answer in (direct, asgi):
        answer.headers.pop("date")
    assert (direct.status, asgi.status) == (status, status), direct.body
    assert direct.headers == asgi.headers
    assert direct.body == asgi.body
