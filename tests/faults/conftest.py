"""The order and the plan of a run, and the stage of each fault."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fault_table import Fault
from support.rounds import ROUNDS
from support.stage import Stage

# What a slow, busy machine may take, in times of what is planned.
PATIENCE = 10
PASSED = pytest.StashKey[bool]()


def fault_of(item: pytest.Item) -> Fault | None:
    return getattr(getattr(item, "function", None), "fault", None)


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """The stage of the fault that the test declares; its result is written in any case."""
    fault = fault_of(request.node)
    assert fault is not None, "the test declares no fault"
    stage = Stage(fault, tmp_path)
    began = time.monotonic()
    yield stage
    if PASSED in request.node.stash:
        stage.write(time.monotonic() - began, request.node.stash[PASSED])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.when == "call" and not report.skipped:
        item.stash[PASSED] = report.passed
    return report


def pytest_itemcollected(item: pytest.Item) -> None:
    if fault := fault_of(item):
        item.add_marker(pytest.mark.faults)
        item.add_marker(pytest.mark.e2e)
        item.add_marker(pytest.mark.timeout(300 + PATIENCE * fault.seconds(ROUNDS)))
        item.extra_keyword_matches.add(fault.name)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: fault.priority if (fault := fault_of(item)) else 0)


def pytest_report_collectionfinish(items: list[pytest.Item]) -> list[str]:
    faults = [fault for item in items if (fault := fault_of(item))]
    total = sum(fault.seconds(ROUNDS) for fault in faults)
    plan = [
        f"  {fault.name:24} {ROUNDS * fault.per_round:8,} times, {fault.seconds(ROUNDS):5.0f} s"
        for fault in faults
    ]
    return [f"{len(faults)} faults, about {total / 60:.0f} minutes on a quiet machine:", *plan]
