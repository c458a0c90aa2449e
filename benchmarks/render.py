"""Renders docs/benchmarks.md from the results; no figure on that page is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import comparison, load_page, peers_page, service_page
from benchmarks.comparison import Run, middle
from benchmarks.tables import machine_table, table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"

INTRODUCTION = """# Benchmarks

This page is rendered from `benchmarks/results/` by `python -m benchmarks.render`; do not edit it.
`make bench` and `make bench-peers` measure again and render it; `benchmarks/README.md` describes
how.

The load comes from wrk on the same machine, so the rates are those of this machine while it also
runs wrk; the ratios carry over to other machines better than the rates.
"""


def page(results: Sequence[Run]) -> str:
    """The whole page in Markdown."""
    parts = [section(result) for result in results if result.get("name") == "wine"]
    parts += [service_page.section(result) for result in results if "ratios" in result]
    parts += [
        load_page.starts_section(result) for result in results if result.get("name") == "starts"
    ]
    parts += [load_page.network_section(result) for result in results if "networks" in result]
    parts += [load_page.curves_section(result) for result in results if "curves" in result]
    parts += [load_page.memory_section(result) for result in results if "memory" in result]
    parts += [load_page.overload_section(result) for result in results if "overload" in result]
    parts += [load_page.large_bodies_section(result) for result in results if "served" in result]
    parts += [peers_page.section(result) for result in results if "groups" in result]
    return "\n".join([INTRODUCTION, *parts])


def section(result: Run) -> str:
    """One scenario set: goals, ratios, rates, latencies, costs, start, machine."""
    parts = [
        f"## {result['title']}\n",
        f"Each request holds one wine, a row of eleven numbers. {_method(result)}\n",
        "### Goals\n",
        _goals(result),
        "### Rates as a multiple of bare uvicorn\n",
        _per_connections(result, lambda name, count: _times(result, name, "uvicorn-echo", count)),
        "### Rates as a multiple of `mlflow models serve`\n",
        _per_connections(
            result, lambda name, count: _times(result, name, "mlflow-invocations", count)
        ),
        "### Requests a second, median of the rounds\n",
        _per_connections(result, lambda name, count: f"{middle(result, name, count, 'rate'):,.0f}"),
        "### Latency in milliseconds, p50 / p99, median of the rounds\n",
        _per_connections(result, lambda name, count: _latency(result, name, count)),
        "### Processor time per request in microseconds, server process / its child processes\n",
        _per_connections(result, lambda name, count: _cost(result, name, count)),
        "### Start and memory\n",
        _servers(result),
        "### The machine and the versions\n",
        machine_table(result["machine"], result["load_average"]),
    ]
    return "\n".join(parts)


def main() -> None:
    """Write the page from every results file."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    # What other programs wrote is not on this page.
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(results))
    for result in results:
        if "groups" in result:
            PAGE.with_name(peers_page.CHART).write_text(peers_page.picture(result))


def _method(result: Run) -> str:
    method = result["method"]
    return (
        f"{method['rounds']} rounds of {method['seconds']} s for each scenario at each number of "
        f"connections, interleaved, after {method['warm_up_seconds']} s of warm-up. All servers "
        "were up, and only the measured one had load."
    )


def _goals(result: Run) -> str:
    titles = _titles(result)
    rows = [
        [
            titles[goal.name],
            titles[goal.base],
            goal.connections,
            f"{goal.factor:g}",
            f"{reached:.2f}",
            f"{least:.2f} to {most:.2f}",
            comparison.verdict(goal, reached),
        ]
        for goal, reached, least, most in comparison.goals(result)
    ]
    head = ["what", "against", "connections", "goal", "reached", "in a round", ""]
    return table(head, rows)


def _per_connections(result: Run, cell: Any) -> str:
    counts = result["method"]["connections"]
    head = ["connections", *counts]
    rows = [
        [title, *(cell(name, count) for count in counts)] for name, title in _titles(result).items()
    ]
    return table(head, rows)


def _times(result: Run, name: str, base: str, connections: int) -> str:
    reached, _, _ = comparison.ratio(result, name, base, connections)
    return f"{reached:.2f}" if reached < 10 else f"{reached:.0f}"


def _latency(result: Run, name: str, connections: int) -> str:
    p50, p99 = (middle(result, name, connections, figure) for figure in ("p50_ms", "p99_ms"))
    return f"{p50:.2f} / {p99:.2f}"


def _cost(result: Run, name: str, connections: int) -> str:
    front, workers = (
        middle(result, name, connections, figure) for figure in ("front_us", "workers_us")
    )
    return f"{front:.0f} / {workers:.0f}"


def _servers(result: Run) -> str:
    rows = [
        [
            name,
            f"{server['live_after_seconds']:.2f}",
            f"{server['ready_after_seconds']:.2f}",
            f"{server['memory_mb']['front']:.0f}",
            f"{server['memory_mb']['workers']:.0f}",
            f"{server['memory_mb']['pss']:.0f}",
        ]
        for name, server in result["servers"].items()
    ]
    head = [
        "server", "live after s", "ready after s", "server process MB", "child processes MB",
        "all, shared pages counted once, MB",
    ]  # fmt: skip
    return table(head, rows)


def _titles(result: Run) -> dict[str, str]:
    return {name: scenario["title"] for name, scenario in result["scenarios"].items()}


if __name__ == "__main__":
    main()
