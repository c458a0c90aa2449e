"""Wrong requests: each is refused by name, gives nothing away, and harms no other request."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import pytest

from support import wine
from support.asking import Answer, ask, request, tensor
from support.serving import Server, serving

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

CAP = 300_000
ARRAY = "/v2/models/array/infer"
TABLE = "/v2/models/table/infer"
TABLE_SCORING = "/v2/models/table/invocations"
# In every payload that can hold one; no answer may repeat it.
CANARY = "canary-7731"
NUMBER = 77317731.0

ROW = wine.wines().head(1)
COLUMNS = list(ROW)
GOOD_ARRAY = request(tensor("x", "FP64", [1, 11], ROW.to_numpy().tolist()))
GOOD_TABLE = request(*wine.columns(ROW))
GOOD_SPLIT = {"dataframe_split": {"columns": COLUMNS, "data": ROW.to_numpy().tolist()}}
EXPECTED = float(wine.trained().predict(ROW)[0])


class Case(NamedTuple):
    """A request, the status it must get, and what the message must name."""

    id: str
    path: str
    body: Any
    status: int
    names: tuple[str, ...] = ()
    headers: dict[str, str] = {}
    method: str = "POST"


def of(shape: Any, data: Any = (NUMBER,), datatype: str = "FP64", name: str = "x") -> Any:
    return request({"name": name, "datatype": datatype, "shape": shape, "data": list(data)})


def without(column: str) -> list[dict[str, Any]]:
    return [entry for entry in wine.columns(ROW) if entry["name"] != column]


def split(columns: list[str], *row: Any) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": [list(row)]}}


NUMBERS = [NUMBER] * 11
SIZE = "Inference-Header-Content-Length"
JSON = {"Content-Type": "application/json"}
BINARY = json.dumps(
    request(
        {"name": "x", "datatype": "FP64", "shape": [1, 11], "parameters": {"binary_data_size": 88}}
    )
).encode()


def binary(length: object) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", SIZE: str(length)}


V2 = [
    Case("not JSON", ARRAY, f"{{not {CANARY}".encode(), 400, ("JSON",)),
    Case("empty body", ARRAY, b"", 400),
    Case("no object", ARRAY, [CANARY], 400),
    Case("no inputs", ARRAY, {"id": "1"}, 400, ("inputs",)),
    Case("inputs empty", ARRAY, {"inputs": []}, 400, ("input",)),
    Case("deep nesting", ARRAY, b"[" * 100_000, 400),
    Case("deep nesting of objects", ARRAY, b'{"a":' * 50_000, 400),
    Case(
        "deep data",
        ARRAY,
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1],"data":'
        + b"[" * 100_000
        + b"1"
        + b"]" * 100_000
        + b"}]}",
        400,
    ),
    Case("not UTF-8", ARRAY, b'{"inputs": "\xff\xfe"}', 400),
    Case("cut short", ARRAY, json.dumps(GOOD_ARRAY).encode()[:-7], 400),
    Case("two documents", ARRAY, json.dumps(GOOD_ARRAY).encode() * 2, 400),
    Case("wrong count", ARRAY, of([1, 11], [NUMBER] * 10), 400, ("'x'", "11", "10")),
    Case("surplus count", ARRAY, of([1, 11], [NUMBER] * 12), 400, ("'x'", "11", "12")),
    Case("wrong shape for the model", ARRAY, of([1, 3], [NUMBER] * 3), 400, ("3", "11")),
    Case("negative dimension", ARRAY, of([-1, 11], NUMBERS), 400, ("'x'", "-1")),
    Case("huge dimension", ARRAY, of([2**62, 11], NUMBERS), 400, ("'x'",)),
    Case("dimension beyond 64 bits", ARRAY, of([10**30], NUMBERS), 400),
    Case("overflowing product", ARRAY, of([2**31 - 1] * 4, NUMBERS), 400, ("'x'",)),
    Case("text as dimension", ARRAY, of([CANARY]), 400, ("shape",)),
    Case(
        "shape missing",
        ARRAY,
        request({"name": "x", "datatype": "FP64", "data": [1]}),
        400,
        ("shape",),
    ),
    Case("too many dimensions", ARRAY, of([1] * 200, [NUMBER]), 400, ("'x'",)),
    Case("ragged data", ARRAY, of([2, 2], [[1, 2], [NUMBER]]), 400, ("'x'",)),
    Case("unknown datatype", ARRAY, of([1, 11], NUMBERS, "FP128"), 400, ("'x'", "FP128")),
    Case("text for numbers", ARRAY, of([1], [CANARY]), 400, ("'x'", "FP64")),
    Case("null for a number", ARRAY, of([1], [None], "INT64"), 400, ("'x'", "INT64")),
    Case("300 in UINT8", ARRAY, of([1], [300], "UINT8"), 400, ("'x'", "UINT8")),
    Case("fraction in INT64", ARRAY, of([1], [7731.5], "INT64"), 400, ("'x'", "INT64")),
    Case(
        "the same input twice",
        TABLE,
        request(*wine.columns(ROW), *wine.columns(ROW)),
        400,
        ("fixed acidity",),
    ),
    Case("missing column", TABLE, request(*without("pH")), 400, ("pH",)),
    Case(
        "text in a double column",
        TABLE,
        request(*without("pH"), tensor("pH", "BYTES", [1], [CANARY])),
        400,
        ("pH", "FP64"),
    ),
    Case(
        "surplus column",
        TABLE,
        request(*wine.columns(ROW), tensor("cork", "FP64", [1], [NUMBER])),
        400,
        ("cork", "fixed acidity"),
    ),
    Case(
        "columns of different length",
        TABLE,
        request(*without("pH"), tensor("pH", "FP64", [2], [3.0, NUMBER])),
        400,
        ("pH",),
    ),
    Case(
        "unknown output",
        ARRAY,
        {**GOOD_ARRAY, "outputs": [{"name": "verdict"}]},
        400,
        ("verdict", "predict"),
    ),
    Case("unknown model", "/v2/models/nobody/infer", GOOD_ARRAY, 404, ("nobody",)),
    Case("unknown version", "/v2/models/array/versions/7/infer", GOOD_ARRAY, 404, ("array", "7")),
    Case("traversal", "/v2/models/..%2f..%2fetc/infer", GOOD_ARRAY, 404),
    Case(
        "unknown content type",
        ARRAY,
        CANARY.encode(),
        415,
        ("application/json",),
        {"Content-Type": "text/plain"},
    ),
    Case("JSON part longer than the body", ARRAY, BINARY + bytes(88), 400, (SIZE,), binary(10_000)),
    Case("JSON part too short", ARRAY, BINARY + bytes(88), 400, (), binary(len(BINARY) - 5)),
    Case("JSON part negative", ARRAY, BINARY + bytes(88), 400, (SIZE,), binary(-1)),
    Case("JSON part as text", ARRAY, BINARY + bytes(88), 400, (SIZE,), binary("many")),
    Case("JSON part beyond 64 bits", ARRAY, BINARY + bytes(88), 400, (SIZE,), binary("9" * 40)),
    Case("binary part cut", ARRAY, BINARY + bytes(80), 400, ("'x'", "88"), binary(len(BINARY))),
    Case("binary part surplus", ARRAY, BINARY + bytes(99), 400, (), binary(len(BINARY))),
    Case("too large", ARRAY, b" " * (CAP + 1), 413, ("--max-body-size",)),
    Case("bad gzip", ARRAY, CANARY.encode(), 400, ("gzip",), {"Content-Encoding": "gzip"}),
    Case(
        "gzip cut short",
        ARRAY,
        gzip.compress(b" " * 999)[:-9],
        400,
        ("gzip",),
        {"Content-Encoding": "gzip"},
    ),
    Case(
        "gzip bomb",
        ARRAY,
        gzip.compress(bytes(100 * CAP)),
        413,
        ("--max-body-size",),
        {"Content-Encoding": "gzip"},
    ),
    Case(
        "deflate bomb",
        ARRAY,
        zlib.compress(bytes(100 * CAP)),
        413,
        ("--max-body-size",),
        {"Content-Encoding": "deflate"},
    ),
    Case("unknown encoding", ARRAY, GOOD_ARRAY, 415, ("br",), {"Content-Encoding": "br"}),
    Case("two encodings", ARRAY, GOOD_ARRAY, 415, (), {"Content-Encoding": "gzip, gzip"}),
    Case("unknown route", "/v3/models", None, 404, ("/v3/models",), method="GET"),
    Case("unknown route with a body", "/v2/models/array/guess", GOOD_ARRAY, 404),
]

SCORING = [
    Case("not JSON", TABLE_SCORING, f"{{not {CANARY}".encode(), 400, ("JSON",), JSON),
    Case("empty body", TABLE_SCORING, b"", 400, (), JSON),
    Case("no object", TABLE_SCORING, [CANARY], 400),
    Case("no known key", TABLE_SCORING, {"rows": [CANARY]}, 400, ("dataframe_split", "inputs")),
    Case("two forms at once", TABLE_SCORING, {**GOOD_SPLIT, "instances": [1]}, 400),
    Case("deep nesting", TABLE_SCORING, b"[" * 100_000, 400, (), JSON),
    Case("missing column", TABLE_SCORING, split(COLUMNS[:-1], *NUMBERS[:-1]), 400, ("alcohol",)),
    Case(
        "text in a double column",
        TABLE_SCORING,
        split(COLUMNS, *NUMBERS[:-1], CANARY),
        400,
        ("alcohol", "double"),
    ),
    Case("short row", TABLE_SCORING, split(COLUMNS, *NUMBERS[:-1]), 400, ("11", "10")),
    Case("column twice", TABLE_SCORING, split([*COLUMNS[:-1], "pH"], *NUMBERS), 400, ("pH",)),
    Case(
        "split without data",
        TABLE_SCORING,
        {"dataframe_split": {"columns": COLUMNS}},
        400,
        ("data",),
    ),
    Case(
        "records that are not objects",
        TABLE_SCORING,
        {"dataframe_records": [CANARY]},
        400,
        ("dataframe_records",),
    ),
    Case(
        "unknown content type",
        TABLE_SCORING,
        CANARY.encode(),
        415,
        ("application/json",),
        {"Content-Type": "text/plain"},
    ),
    Case("no content type", TABLE_SCORING, CANARY.encode(), 415),
    Case(
        "CSV cut in a quote",
        TABLE_SCORING,
        b'a,b\n"' + CANARY.encode(),
        400,
        (),
        {"Content-Type": "text/csv"},
    ),
    Case("empty CSV", TABLE_SCORING, b"", 400, (), {"Content-Type": "text/csv"}),
    Case("too large", TABLE_SCORING, b" " * (CAP + 1), 413, ("--max-body-size",), JSON),
    Case(
        "bad gzip",
        TABLE_SCORING,
        CANARY.encode(),
        400,
        ("gzip",),
        {**JSON, "Content-Encoding": "gzip"},
    ),
    Case("unknown model", "/v2/models/nobody/invocations", GOOD_SPLIT, 404, ("nobody",)),
]

VERBS = [
    Case("GET infer", ARRAY, None, 405, (ARRAY,), method="GET"),
    Case("PUT infer", ARRAY, GOOD_ARRAY, 405, (ARRAY,), method="PUT"),
    Case("DELETE model", "/v2/models/array", None, 405, (), method="DELETE"),
    Case("POST live", "/v2/health/live", b"", 405),
    Case("POST metadata", "/v2", b"{}", 405),
    Case("GET invocations", "/invocations", None, 405, (), method="GET"),
    Case("POST ping", "/ping", b"", 405),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name in ("array", "table"):
        (root / name).mkdir()
    joblib.dump(wine.trained(named=False), root / "array/model.joblib")
    wine.save_mlflow(root / "table/mlflow")
    settings = {
        "array": {"implementation": "sklearn", "parameters": {"uri": "model.joblib"}},
        "table": {"implementation": "mlflow", "parameters": {"uri": "mlflow"}},
    }
    for name, parts in settings.items():
        (root / name / "model-settings.json").write_text(json.dumps({"name": name, **parts}))
    return root


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(models, "--max-body-size", CAP) as running:
        yield running


def require_well(server: Server) -> None:
    """The server is alive, and both models answer correctly."""
    assert ask(server.http, "GET", "/v2/health/live").status == 200
    for path, body in ((ARRAY, GOOD_ARRAY), (TABLE, GOOD_TABLE)):
        answer = ask(server.http, "POST", path, body)
        assert answer.status == 200, answer
        assert answer.json["outputs"][0]["data"] == [EXPECTED]
    scored = ask(server.http, "POST", TABLE_SCORING, GOOD_SPLIT)
    assert scored.json == {"predictions": [EXPECTED]}


def require_discreet(answer: Answer, models: Path) -> None:
    """The answer shows nothing of the server's internals and nothing of the payload."""
    text = (answer.body.decode() + str(answer.headers)).lower()
    inside = (str(models), "traceback", ".py", "site-packages", "<class", "object at 0x", "error(")
    for word in (*inside, CANARY, "7731"):
        assert word not in text, text


def refused(server: Server, models: Path, case: Case) -> Answer:
    answer = ask(server.http, case.method, case.path, case.body, case.headers)
    assert answer.status == case.status, answer
    assert answer.headers["content-type"] == "application/json"
    require_discreet(answer, models)
    require_well(server)
    return answer


@pytest.mark.parametrize("case", V2, ids=[case.id for case in V2])
def test_the_open_inference_routes_refuse(server: Server, models: Path, case: Case) -> None:
    answer = refused(server, models, case)

    assert isinstance(answer.json["error"], str)
    assert answer.json["code"]
    assert all(name in answer.json["error"] for name in case.names), answer.json


@pytest.mark.parametrize("case", SCORING, ids=[case.id for case in SCORING])
def test_the_scoring_route_refuses(server: Server, models: Path, case: Case) -> None:
    answer = refused(server, models, case)

    assert answer.json["error_code"]
    assert all(name in answer.json["message"] for name in case.names), answer.json


@pytest.mark.parametrize("case", VERBS, ids=[case.id for case in VERBS])
def test_a_wrong_verb_is_answered_with_the_right_ones(
    server: Server, models: Path, case: Case
) -> None:
    answer = refused(server, models, case)

    allowed = {verb.strip() for verb in answer.headers["allow"].split(",")}
    assert case.method not in allowed
    assert allowed & {"GET", "POST"}


def test_none_of_this_is_logged_as_a_bug(server: Server) -> None:
    ask(server.http, "POST", ARRAY, of([1, 3], [NUMBER] * 3))

    assert "this is a bug" not in server.log()
    assert CANARY not in server.log()
