"""Tables in Markdown, as every section of docs/benchmarks.md has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Run = dict[str, Any]


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def machine_table(machine: Run, load_average: dict[str, list[float]]) -> str:
    """Where and when a run was made."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    loads = "; ".join(
        f"{when} the run {', '.join(f'{value:g}' for value in values)}"
        for when, values in load_average.items()
    )
    rows = [
        ["date", machine["date"]],
        ["commit", machine["commit"]],
        ["processor", f"{machine['cpu']}, {machine['cores']} cores"],
        ["memory", f"{machine['memory_mb']:,} MB"],
        ["system", f"{machine['system']}, Python {machine['python']}"],
        ["versions", ", ".join(filter(None, [versions, machine["wrk"]]))],
        ["load average", loads],
    ]
    return table(["", ""], rows)
