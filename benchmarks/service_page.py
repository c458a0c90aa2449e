"""The section of docs/benchmarks.md about services, from results/service.json."""

from __future__ import annotations

from benchmarks.tables import Run, machine_table, table

INTRODUCTION = """Each request holds one flower, a row of four numbers, for a logistic regression of
scikit-learn, over {connections} connections. The service checks the row, asks its runner, and
returns the class. One server of ours answers the first three lines. BentoML serves the same model
from an environment of its own, {bentoml}: a class that calls the model itself, with and
without merging requests, and a legacy service, whose runner has a process of its own and merges
them. {rounds} rounds of {seconds} s for each, interleaved; all servers were up, and only the
measured one had load. Every answer was compared with the model's while the servers warmed up, and
again after the last round.
"""


def section(result: Run) -> str:
    """Goals, rates, latencies and costs of each way to the model."""
    # Earlier results do not say it.
    method = {"bentoml": "with its defaults", **result["method"]}
    text = INTRODUCTION.format(connections=result["connections"], **method)
    parts = [
        f"## {result['title']}\n",
        text,
        _ratios(result),
        _ways(result),
        machine_table(result["machine"], result["load_average"]),
    ]
    return "\n".join(parts)


def _ratios(result: Run) -> str:
    ways = result["ways"]
    rows = [
        [
            ways[row["of"]]["title"],
            ways[row["to"]]["title"],
            f"{row['goal']:g}" if row["goal"] else "-",
            f"{row['reached']:.2f}",
            f"{row['least']:.2f} to {row['most']:.2f}",
            ("pass" if row["reached"] >= row["goal"] else "miss") if row["goal"] else "",
        ]
        for row in result["ratios"]
    ]
    return table(["what", "against", "goal", "reached", "in a round", ""], rows)


def _ways(result: Run) -> str:
    rows = [
        [
            row["title"],
            f"{row['rate']:,.0f}",
            f"{row['p50_ms']:.2f} / {row['p99_ms']:.2f}",
            " + ".join(f"{cost:,}" for cost in row["cpu_us"] if cost),
        ]
        for row in result["ways"].values()
    ]
    head = [
        "way", "requests a second", "p50 / p99 in ms",
        "processor time per request, each process, µs",
    ]  # fmt: skip
    return table(head, rows)
