"""How the pages of MLServer's examples become cases."""

from __future__ import annotations

import subprocess
import sys
import urllib.request

import pytest
from compatibility.answers import difference
from compatibility.downloads import offered
from compatibility.suites import mlserver_examples


def answered(answer: object, status: str = "200") -> dict[str, object]:
    return {"request": "POST /v2/models/m/infer", "status": status, "answer": answer}


def cell(*requests: dict[str, object], asks: bool = True, error: str = "") -> dict[str, object]:
    return {"cell": 3, "asks": asks, "error": error, "requests": list(requests)}


def reasons(ours: dict[str, object], theirs: dict[str, object]) -> dict[str, str]:
    found = mlserver_examples._cases("page", [ours], [theirs])
    return {case.id: case.reason for case in found}


def test_answers_are_the_same_but_for_ids_and_last_digits():
    ours = answered({"id": "a", "outputs": [{"name": "y", "data": [0.1, 2]}]})
    theirs = answered({"id": "b", "outputs": [{"name": "y", "data": [0.10000000001, 2]}]})

    assert difference(ours, theirs) == ""


@pytest.mark.parametrize(
    ("ours", "where"),
    [
        ({"outputs": [{"data": [2.0], "shape": [1, 1]}]}, r"answer.outputs[0].data[0]: 2.0 in"),
        ({"outputs": [{"data": [1], "shape": [1]}]}, r"answer.outputs[0].shape: [1] in place"),
        ({"outputs": [{"data": [1]}]}, r"answer.outputs[0].shape: nothing in place of [1, 1]"),
        ({"outputs": []}, r"answer.outputs: [] in place of ["),
    ],
)
def test_a_difference_is_told_by_its_place(ours, where):
    theirs = answered({"outputs": [{"data": [1], "shape": [1, 1]}]})

    assert difference(answered(ours), theirs).startswith(where)


def test_models_of_an_index_are_compared_by_name_and_not_by_place():
    models = [{"name": name, "state": "READY"} for name in ("iris", "wine")]
    ours, theirs = (
        {"request": "POST /v2/repository/index", "status": "200", "answer": each}
        for each in (models, [models[1], models[0] | {"state": "UNAVAILABLE"}])
    )

    assert difference(ours, theirs) == "answer[0].state: 'READY' in place of 'UNAVAILABLE'"


def test_a_refusal_differs_from_an_answer_whatever_it_says():
    assert difference(answered({}, "400"), answered({})) == "400 in place of 200: {}"


def test_each_request_of_a_cell_is_a_case():
    found = reasons(cell(answered(1), answered(2)), cell(answered(1), answered(3)))

    assert found == {"page/cell 3": "", "page/cell 3, request 2": "answer: 2 in place of 3"}


def test_a_request_that_is_not_sent_fails_with_the_error_of_its_cell():
    assert reasons(cell(error="NameError: x"), cell(answered(1))) == {"page/cell 3": "NameError: x"}
    assert reasons(cell(), cell()) == {"page/cell 3": "sends nothing"}
    assert reasons(cell(asks=False, error="NameError: x"), cell(asks=False)) == {}


def test_a_cell_that_cannot_read_the_answer_fails_unless_it_never_could():
    bad = cell(answered(1), error="KeyError: 'parameters'")

    assert reasons(bad, cell(answered(1))) == {"page/cell 3": "KeyError: 'parameters'"}
    assert reasons(bad, bad) == {"page/cell 3": ""}


def test_a_download_is_answered_from_a_file_of_its_name_whatever_its_host():
    code = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read())"
    with offered({"wine.csv": b"7.4;0.7"}) as proxy:
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({"http": proxy["http_proxy"]})
        )
        assert opener.open("http://data.invalid/ml/wine.csv").read() == b"7.4;0.7"
        done = subprocess.run(
            [sys.executable, "-c", code, "http://data.invalid/wine.csv"],
            env=proxy,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.stdout.strip() == "b'7.4;0.7'"
