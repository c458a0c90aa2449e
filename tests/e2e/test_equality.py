"""Answers to the last bit: what is served is what the model returns when called directly."""

from __future__ import annotations

import json
import struct
from functools import cache
from pathlib import Path

import joblib
import numpy as np
import pytest

from support.asking import Client
from support.serving import serving
from support.wine import columns, save_mlflow, trained, wines

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

# The front holds sockets and protocols; a framework in it would double this.
FRONT_LIMIT_MB = 120


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`wine` takes eleven columns by its MLflow signature, `array` one [rows, 11] tensor."""
    root = tmp_path_factory.mktemp("models")
    save_mlflow(root / "wine")
    settings = {"name": "wine", "implementation": "mlserver_mlflow.MLflowRuntime"}
    (root / "wine/model-settings.json").write_text(json.dumps(settings))
    (root / "array").mkdir()
    joblib.dump(trained(named=False), root / "array/model.joblib")
    settings = {"name": "array", "implementation": "mlserver_sklearn.SKLearnModel"}
    (root / "array/model-settings.json").write_text(json.dumps(settings))
    with serving(root) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.http) as client:
        yield client


def binary(inputs):
    """A v2 request with binary inputs and outputs: its body and its headers."""
    head = {
        "inputs": [
            {
                "name": name,
                "datatype": "FP64",
                "shape": list(array.shape),
                "parameters": {"binary_data_size": array.nbytes},
            }
            for name, array in inputs.items()
        ],
        "parameters": {"binary_data_output": True},
    }
    body = json.dumps(head).encode()
    sizes = {"Inference-Header-Content-Length": str(len(body))}
    headers = {"Content-Type": "application/octet-stream", **sizes}
    return body + b"".join(array.tobytes() for array in inputs.values()), headers


def doubles(answer):
    """The only FP64 output of a binary answer."""
    assert answer.status == 200, answer.body
    size = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.body[:size])["outputs"]
    assert output["datatype"] == "FP64"
    return np.frombuffer(answer.body[size:], "<f8")


def numbers(answer):
    """The only FP64 output of a JSON answer."""
    assert answer.status == 200, answer.body
    (output,) = answer.json["outputs"]
    assert output["datatype"] == "FP64"
    return np.array(output["data"], dtype="f8")


def ask_columns(client, table):
    return numbers(client.ask("POST", "/v2/models/wine/infer", {"inputs": columns(table)}))


def ask_columns_binary(client, table):
    body, headers = binary({name: table[name].to_numpy() for name in table})
    return doubles(client.ask("POST", "/v2/models/wine/infer", body, headers))


def ask_scoring(client, table):
    body = {"dataframe_split": table.to_dict(orient="split", index=False)}
    answer = client.ask("POST", "/v2/models/wine/invocations", body)
    assert answer.status == 200, answer.body
    return np.array(answer.json["predictions"], dtype="f8")


def ask_array(client, table):
    array = row_major(table)
    inputs = {"name": "x", "datatype": "FP64", "shape": list(array.shape), "data": array.tolist()}
    return numbers(client.ask("POST", "/v2/models/array/infer", {"inputs": [inputs]}))


def ask_array_binary(client, table):
    body, headers = binary({"x": row_major(table)})
    return doubles(client.ask("POST", "/v2/models/array/infer", body, headers))


def named():
    return trained().predict


def unnamed():
    model = trained(named=False)
    return lambda table: model.predict(row_major(table))


def row_major(table):
    """The array in the protocol's order; in a table's order, sums may round differently."""
    return np.ascontiguousarray(table.to_numpy())


@cache
def single_wines():
    table = wines()
    return [table.iloc[[n]] for n in range(len(table))]


@cache
def one_by_one(load):
    predict = load()
    return np.concatenate([predict(row) for row in single_wines()])


FORMS = [
    pytest.param(ask_columns, named, id="v2 JSON columns"),
    pytest.param(ask_columns_binary, named, id="v2 binary columns"),
    pytest.param(ask_scoring, named, id="dataframe_split"),
    pytest.param(ask_array, unnamed, id="v2 JSON array"),
    pytest.param(ask_array_binary, unnamed, id="v2 binary array"),
]


@pytest.mark.parametrize(("ask", "load"), FORMS)
def test_all_wines_in_one_request_equal_the_model(ask, load, client):
    table = wines()
    assert len(table) == 1599
    assert ask(client, table).tobytes() == load()(table).tobytes()


@pytest.mark.parametrize(("ask", "load"), FORMS)
def test_the_wines_one_by_one_equal_the_model(ask, load, client):
    answers = np.concatenate([ask(client, row) for row in single_wines()])
    assert answers.tobytes() == one_by_one(load).tobytes()


@pytest.mark.parametrize(
    "value",
    [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 2.0**53 + 2, 123456789.123456789],
)
@pytest.mark.parametrize("ask", [ask_array, ask_array_binary], ids=["JSON", "binary"])
def test_any_double_arrives_as_it_was_sent(value, ask, client):
    table = single_wines()[0].assign(alcohol=value)
    (answer,) = ask(client, table)
    assert struct.pack("<d", answer) == unnamed()(table).tobytes()


def test_the_server_process_stays_small(server, client):
    for row in single_wines()[:200]:
        ask_columns(client, row)
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        pytest.skip("memory is read from /proc, which only Linux has")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    assert int(line.split()[1]) / 1024 < FRONT_LIMIT_MB
