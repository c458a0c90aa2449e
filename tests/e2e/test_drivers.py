"""The same request, answered directly and through ASGI: what a client sees is the same."""

from __future__ import annotations

import json

import pytest

from support.asking import send_raw
from support.custom import write_model
from support.serving import serving
from support.wine import save_mlflow, trained, wines

pytestmark = pytest.mark.e2e

TENSOR = {"name": "x", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]}
LARGE = {"name": "x", "shape": [3000], "datatype": "FP64", "data": [0.5] * 3000}
GOOD = {"inputs": [TENSOR]}
CASES = {
    "tensors": ("/v2/models/m/infer", GOOD, {}),
    "another name": ("/v2/models/m/generate", GOOD, {}),
    "binary answer": (
        "/v2/models/m/infer",
        {**GOOD, "outputs": [{"name": "output-1", "parameters": {"binary_data": True}}]},
        {},
    ),
    "compressed answer": ("/v2/models/m/infer", {"inputs": [LARGE]}, {"Accept-Encoding": "gzip"}),
    "broken body": ("/v2/models/m/infer", b"{", {}),
    "wrong datatype": ("/v2/models/m/infer", {"inputs": [{**TENSOR, "datatype": "FP"}]}, {}),
    "wrong media type": ("/v2/models/m/infer", GOOD, {"Content-Type": "text/plain"}),
    "no such model": ("/v2/models/nobody/infer", GOOD, {}),
    "model that raises": ("/v2/models/raises/infer", GOOD, {}),
    "bad deadline": ("/v2/models/m/infer", GOOD, {"X-Request-Timeout": "soon"}),
    "scoring": ("/v2/models/wine/invocations", {"dataframe_split": "TABLE"}, {}),
    "the only MLflow model": ("/invocations", {"dataframe_split": "TABLE"}, {}),
    "broken scoring": ("/v2/models/wine/invocations", {"dataframe_split": 3}, {}),
    "stream that is refused": ("/v2/models/wine/invocations", {"inputs": [], "stream": True}, {}),
    "predict": ("/v1/models/m:predict", {"instances": [1.0]}, {}),
    "broken predict": ("/v1/models/m:predict", {}, {}),
    "no plugin": ("/api/predict", b"x", {}),
    "raw of no plugin": ("/v2/models/m/raw", b"x", {}),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    root = tmp_path_factory.mktemp("drivers")
    write_model(root)
    write_model(root, "raise RuntimeError('secret')", name="raises")
    save_mlflow(root / "wine" / "model", trained(), True)
    settings = {"implementation": "mlflow", "parameters": {"uri": "./model"}}
    (root / "wine" / "model-settings.json").write_text(json.dumps(settings))
    with serving(root) as server:
        yield server.http


def encoded(body):
    if isinstance(body, bytes):
        return body
    if body.get("dataframe_split") == "TABLE":
        body = {"dataframe_split": wines().head(2).to_dict(orient="split", index=False)}
    return json.dumps(body).encode()


@pytest.mark.parametrize("case", CASES)
def test_both_drivers_give_the_same_status_headers_and_body(url, case):
    path, body, headers = CASES[case]
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
    assert direct.status == asgi.status
    assert direct.headers == asgi.headers
    assert direct.body == asgi.body
