"""Large bodies of the scoring protocol, of which the server makes no Python objects."""

from __future__ import annotations

import codecs
import json
from typing import Any

import pytest

from headrace.errors import MalformedBody
from headrace.protocol.mlflow import scoring, scoring_tables
from headrace.protocol.mlflow.signature import PAYLOAD, Signature
from headrace.protocol.tensor import unpack_bytes

DOUBLES = Signature.parse({"inputs": [{"type": "double", "name": name} for name in "ab"]})
TEXTS = Signature.parse({"inputs": [{"type": "string", "name": name} for name in "ab"]})


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "LARGE", 1)


def split(*rows: list[Any], columns: str = "ab", **more: Any) -> bytes:
    return json.dumps({"dataframe_split": {"columns": [*columns], "data": rows, **more}}).encode()


@pytest.mark.parametrize("columns", ["ab", "ba"])
@pytest.mark.parametrize("cell", [2.5, 3, None])
def test_large_tables_of_doubles_are_read_as_small_ones_are(
    monkeypatch: pytest.MonkeyPatch, columns: str, cell: Any
) -> None:
    body = split([1.5, 2], [cell, 4], [5, 1e300], columns=columns)
    found = []
    for large in (1, 10**9):
        monkeypatch.setattr(scoring, "LARGE", large)
        monkeypatch.setattr(scoring_tables, "_doubles" if large == 1 else "_many_doubles", None)
        inputs = scoring.decode(body, scoring.JSON, DOUBLES).request.inputs
        found.append([(each.name, each.shape, bytes(each.data)) for each in inputs])
        monkeypatch.undo()

    assert found[0] == found[1]
    assert {name for name, _, _ in found[0]} == {"a", "b"}


RECORDS = [{"a": 1, "b": 2}]
FOR_A_WORKER = {
    "records": (json.dumps({"dataframe_records": RECORDS}).encode(), DOUBLES),
    "instances": (json.dumps({"instances": RECORDS}).encode(), DOUBLES),
    "columns": (b'{"inputs":{"a":[1],"b":[2]}}', DOUBLES),
    "text": (split(["", ""]), TEXTS),
    "text among numbers": (split([1, ""]), DOUBLES),
    "ragged rows": (split([1, 2, 3], [4]), DOUBLES),
    "other columns": (split([1, 2], columns="xy"), DOUBLES),
    "labels": (split([1, 2], index=[5]), DOUBLES),
    "params": (b'{"inputs":{"a":[1],"b":[2]},"params":{"p":1}}', DOUBLES),
    "not a number": (b'{"dataframe_split":{"columns":["a","b"],"data":[[NaN,1]]}}', DOUBLES),
    "no JSON": (b'{"dataframe_split":[}', DOUBLES),
    "split of no signature": (split([1, ""]), None),
    "records of no signature": (json.dumps({"dataframe_records": RECORDS}).encode(), None),
}


@pytest.mark.parametrize(("body", "signature"), FOR_A_WORKER.values(), ids=FOR_A_WORKER)
def test_other_large_bodies_are_left_to_a_worker(
    monkeypatch: pytest.MonkeyPatch, body: bytes, signature: Signature | None
) -> None:
    # What makes objects of a value cannot be called.
    monkeypatch.setattr(scoring_tables, "load", None)
    monkeypatch.setattr(scoring, "_check_outline", None)
    monkeypatch.setattr(scoring, "loads", None)

    (sent,) = scoring.decode(body, scoring.JSON, signature).request.inputs

    assert sent.name == PAYLOAD
    assert unpack_bytes(sent.data, 1) == [body]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("body", ["a,b\né,😀\n".encode(), b"a,\xc3\xa9\xff,b", b"a,b\n\xf0\x9f"])
def test_large_text_is_checked_in_slices(
    monkeypatch: pytest.MonkeyPatch, body: bytes, size: int
) -> None:
    given: list[int] = []

    class Decoder(codecs.getincrementaldecoder("utf-8")):  # type: ignore[misc]
        def decode(self, data: Any, final: bool = False) -> str:
            given.append(len(data))
            return str(super().decode(data, final))

    monkeypatch.setattr(scoring, "_DECODER", Decoder)
    outcomes = []
    for large in (size, 10**9):
        monkeypatch.setattr(scoring, "LARGE", large)
        try:
            (sent,) = scoring.decode(body, "text/csv", None).request.inputs
            outcomes.append(unpack_bytes(sent.data, 1))
        except MalformedBody as error:
            outcomes.append(error.message)

    assert outcomes[0] == outcomes[1]
    assert max(given) <= size


@pytest.mark.parametrize("size", range(1, 40))
def test_a_key_is_found_wherever_a_body_is_cut(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(scoring, "LARGE", size)

    assert scoring.wants_stream(b'{"inputs":[1],"stream":true}')
    assert not scoring.wants_stream(b'{"inputs":[1],"strea":true}')
    assert scoring.without_stream(b'{"stream":true,"inputs":[1]}') == b'{"inputs":[1]}'
