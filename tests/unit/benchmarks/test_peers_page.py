"""The section about other servers says what the results hold."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from benchmarks import peers_page
from benchmarks.peers.scenarios import PEERS, digest

SVG = "{http://www.w3.org/2000/svg}"
FIGURES = {"p50_ms": 1.0, "p99_ms": 2.0, "front_us": 40.0, "workers_us": 10.0}
MEMORY = {"front": 70.0, "workers": 100.0, "pss": 150.0}
START = {"live_after_seconds": 0.5, "ready_after_seconds": 1.5, "memory_mb": MEMORY}
MACHINE = {
    "date": "2026-01-01", "commit": "abc", "cpu": "a processor", "cores": 2, "memory_mb": 1000,
    "system": "Linux", "python": "3.11", "wrk": "wrk 4", "versions": {"headrace": "1"},
}  # fmt: skip
ALONE = {
    "predict_us": 100.0, "predict_batch_us": 120.0, "batch_rows": 64, "parse_ms": 10.0,
    "decode_ms": 12.0, "decode_passes": 1.2, "import_seconds": 1.0, "body_mb": 6.3,
}  # fmt: skip


def result() -> dict[str, Any]:
    """One group, of which Triton did not start."""
    at = {"headrace": {"rate": 9000.0, **FIGURES}, "mosec": {"rate": 3000.0, **FIGURES}}
    group = {
        "machine": MACHINE,
        "load_average": {"before": [0.1, 0.2, 0.3], "after": [1.0, 0.5, 0.4]},
        "method": {"seconds": 2, "warm_up_seconds": 1},
        "servers": {"headrace": START, "mosec": START},
        "failed": {"triton": "NotStarted: no\nlibrary | found"},
        "rounds": [{"row": {"32": at}}],
    }
    return {"title": "Headrace and others", "alone": ALONE, "groups": {"mosec": group}}


def test_a_rate_stands_beside_ours_as_its_multiple():
    page = peers_page.section(result())

    assert "| Headrace | - | - | 9,000 | - |" in page
    assert "| mosec | - | - | 3,000 (3.00) | - |" in page


def test_the_processor_time_of_server_and_children_stands_below_the_rates():
    assert "| mosec | - / - | - / - | 40 / 10 | - / - |" in peers_page.section(result())


def test_a_server_that_did_not_start_is_listed_with_its_reason():
    page = peers_page.section(result())

    assert "| Triton, Python backend, dynamic batching | NotStarted: no library / found |" in page


def test_a_goal_has_what_was_reached_and_its_verdict():
    page = peers_page.goals_table(result())

    title = "processor time of the front for a request, Headrace: One row as JSON, 32 connections"
    assert f"| {title} | ≤ 50 µs | 40.0 |" in page
    assert "| not measured |" in page


def test_every_configuration_is_shown_without_a_port_or_a_folder_of_this_machine():
    page = peers_page.section(result())

    assert all(f"<summary>{peer.name}</summary>" in page for peer in PEERS)
    assert "`mlserver start FOLDER`" in page
    assert "--http-port HTTP_PORT" in page


def test_the_variables_of_a_server_are_shown_but_for_folders_of_this_machine():
    page = peers_page.section(result())

    assert "`MLSERVER_HTTP_PORT=HTTP_PORT`" in page
    assert "LD_LIBRARY_PATH" not in page


def test_the_service_of_bentoml_is_shown():
    assert "@bentoml.api(batchable=True)" in peers_page.section(result())


@pytest.mark.parametrize(
    ("configuration", "shown"),
    [
        pytest.param({"configuration": digest("mosec")}, "as below", id="the same"),
        pytest.param({"configuration": "0123456789ab"}, "an earlier one", id="another"),
        pytest.param({}, "not recorded", id="before it was recorded"),
    ],
)
def test_results_say_whether_their_configuration_is_the_one_that_is_shown(configuration, shown):
    measured = result()
    measured["groups"]["mosec"].update(configuration)

    page = peers_page.section(measured)
    assert f"| 0.1 / 1 | {shown} |" in page
    assert ("the group was measured before" in page) == (shown != "as below")


def test_the_page_needs_no_limits():
    measured = result()
    del measured["alone"]

    assert "### Without a server" not in peers_page.section(measured)


def test_the_chart_has_a_bar_for_each_measured_server_the_fastest_first():
    picture = ElementTree.fromstring(peers_page.picture(result()))
    bars = [each for each in picture.iter(f"{SVG}rect") if each.get("x")]
    labels = [each.text for each in picture.iter(f"{SVG}text") if each.get("text-anchor")]

    assert labels == ["Headrace", "mosec"]
    assert [float(bar.get("width", 0)) for bar in bars] == [420.0, 140.0]
