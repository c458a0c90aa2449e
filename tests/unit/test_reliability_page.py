"""RELIABILITY.md: what it says is what was declared and measured."""

from __future__ import annotations

import ast
import json
from dataclasses import replace

import pytest

from support import reliability_page
from support.fault_table import FOLDER, RESULTS, ROOT, every
from support.growth import growth
from support.peer_issues import PEER_ISSUES, PeerIssue
from support.reliability_page import PAGE, UNMEASURED, page, rendered

RESULT = {
    "name": "drain", "times": 50, "holds": True, "seconds": 1.0, "requests": 1234, "failed": 0,
    "wrong": 0, "refused": 7, "request_ms": {"p50": 1.0, "p99": 20.0, "max": 30.0},
    "refusal_ms": {"p50": 1.0, "p99": 2.0, "max": 3.0},
    "health_ms": {"p50": 1.0, "p99": 2.0, "max": 4.0}, "left": {}, "figures": {"exit after": "1 s"},
    "machine": {
        "date": "2026-01-02T03:04:05+00:00", "commit": "c", "cpu": "a processor", "cores": 2,
        "memory_mb": 4096, "system": "Linux", "python": "3.11.1",
    },
}  # fmt: skip


def test_the_page_is_what_the_results_say() -> None:
    assert PAGE.read_text() == rendered()


def test_every_test_of_a_fault_declares_it() -> None:
    tests = {
        (path.name, node.name)
        for path in FOLDER.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }

    assert {(fault.file, fault.test) for fault in every().values()} == tests


def test_every_result_is_that_of_a_fault() -> None:
    names = {path.stem for path in RESULTS.glob("*.json")}

    assert names - set(every()) == set()
    for path in RESULTS.glob("*.json"):
        assert json.loads(path.read_text())["name"] == path.stem


@pytest.mark.parametrize("issue", PEER_ISSUES, ids=lambda issue: issue.test)
def test_what_others_reported_has_a_test_of_ours(issue: PeerIssue) -> None:
    tree = ast.parse((ROOT / issue.file).read_text())

    assert issue.test in {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_a_fault_that_was_not_measured_says_so() -> None:
    fault = every()["drain"]

    assert f"{fault.bar} | {UNMEASURED} |" in page([fault], {}, None, None)


def test_a_row_has_the_figures_of_its_fault() -> None:
    fault = every()["drain"]
    text = page([fault], {"drain": RESULT}, None, None)

    lines = [
        "2026-01-02, 50 times", "1,234 requests: 0 failed, 0 wrong", "exit after: 1 s",
        "refused: 7", "refusal: 2 / 3 ms", "request: 20 / 30 ms", "health: 2 / 4 ms",
        "left: nothing",
    ]  # fmt: skip
    assert f"| {'<br>'.join(lines)} |" in text
    assert "Of 1 promises, 1 were measured and 1 of those held." in text
    assert "Did not hold" not in text


def test_slow_health_checks_are_bold() -> None:
    slow = {**RESULT, "health_ms": {"p50": 1.0, "p99": 101.0, "max": 400.0}}
    text = page([every()["drain"]], {"drain": slow}, None, None)

    assert "health: **101 / 400** ms" in text


def test_a_promise_that_did_not_hold_is_marked() -> None:
    fault = replace(every()["drain"], promise="It holds.")
    broken = {**RESULT, "holds": False, "left": {"descriptors": 3}}
    text = page([fault], {"drain": broken}, None, None)

    assert "**Did not hold.** It holds." in text
    assert "1 were measured and 0 of those held" in text
    assert "left: 3 descriptors |" in text


def test_fuzzed_inputs_are_counted() -> None:
    rows = [{"what": "tar", "target": "archives", "count": 12000, "failures": 0}]
    text = reliability_page.fuzz_section({"date": "2026-01-02T03:04:05", "figures": rows})

    assert "| tar | archives | 12,000 | 0 |" in text


def test_growth_is_a_slope_that_one_peak_does_not_change() -> None:
    flat = [(count, 50.0 + (40.0 if count == 5 else 0.0)) for count in range(20)]
    leaking = [(count, 50.0 + 0.5 * count) for count in range(20)]

    assert growth(flat) == 0.0
    assert growth(leaking) == pytest.approx(0.5 * 19)


def test_a_body_that_costs_too_much_is_bold() -> None:
    case = {"body_bytes": 60_000_000, "status": 400, "health_most_ms": 20.0, "peak": 2.1}
    cases = {"request: spaces": case, "request: texts": {**case, "health_most_ms": 101, "peak": 7}}
    hostile = {"cases": cases, "method": {"memory_goal": 6.0}, "machine": RESULT["machine"]}
    text = page([], {}, None, None, hostile)

    assert "| request: spaces | 60 MB | 400 | 20 ms | 2.1 times |" in text
    assert "| request: texts | 60 MB | 400 | **101 ms** | **7.0 times** |" in text
