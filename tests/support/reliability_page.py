"""Renders RELIABILITY.md from the table of faults and from what `make faults-long` has measured."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import result_files
from benchmarks.tables import table

from support.fault_table import FOLDER, ROOT, Fault, every
from support.peer_issues import PEER_ISSUES

PAGE = ROOT / "RELIABILITY.md"
FUZZ = ROOT / "benchmarks" / "results" / "fuzz.json"
FOLLOWED = ROOT / "benchmarks" / "results" / "follow_faults.json"
HOSTILE = ROOT / "benchmarks" / "results" / "hostile_bodies.json"
FOLLOW_TEST = "tests/e2e/test_follow_faults.py"
Result = Mapping[str, Any]

INTRODUCTION = """# Reliability

What the server promises when something breaks, how each promise is tested, and what was counted.
This page is rendered from `benchmarks/results/` by `make docs`; no figure on it is typed by hand.

Each fault is caused again and again while requests arrive at a steady rate over REST and gRPC,
whether or not earlier ones were answered. Every request has a number of its own, and its answer is
checked. Latencies count from the moment at which a request was due. Afterwards, the server must
hold no more than before: descriptors, threads, processes, shared memory, temporary files and series
of metrics.

* `make faults` causes each fault a few times, in minutes; every change runs it.
* `make faults-long` causes each at least fifty times and writes the figures. `ROUNDS=10` is a fifth
  of that, and `ARGS='-k drain'` selects some.

In the tables,

* **promise** links to its test, and the link has the name of the test.
* **bar** is what the promise means in figures. A test fails where it is missed, and the promise is
  marked here; figures stand as they were measured.
* **counted** is the day, how often the fault was caused, the requests beside it, and the time that
  they and the health checks took: `20 / 30 ms` means that 99 % were answered within 20 ms, and all
  within 30 ms. 99 % of the health checks are to be answered within 100 ms during every fault; a
  figure above that is bold. The machine makes the load as well, so these are times of a busy one.
* **left** is what the server still held of the kinds above when all was over.
"""
HEAD = ("promise", "bar", "counted")
UNMEASURED = "not measured"
# Of the 99th percentile of health checks, during every fault.
HEALTH_MS = 100.0


def page(
    faults: Iterable[Fault],
    results: Mapping[str, Result],
    fuzz: Any,
    followed: Any,
    hostile: Any = None,
) -> str:
    """The whole page in Markdown."""
    sections: dict[str, list[list[str]]] = {}
    faults = list(faults)
    for fault in faults:
        sections.setdefault(fault.file, []).append(row(fault, results.get(fault.name)))
    parts = [INTRODUCTION, summary([results.get(fault.name) for fault in faults])]
    for file, rows in sections.items():
        parts += [f"## {title(FOLDER / file)}\n", table(HEAD, rows)]
    parts += [registry_section(followed), hostile_section(hostile)]
    parts += [fuzz_section(fuzz), peers_section()]
    parts.append(machines_section(results.values()))
    return "\n".join(part for part in parts if part)


def summary(results: Sequence[Result | None]) -> str:
    """What of all this was measured, and how it came out."""
    measured = [result for result in results if result is not None]
    held = sum(result["holds"] for result in measured)
    return f"Of {len(results)} promises, {len(measured)} were measured and {held} of those held.\n"


def title(file: Path) -> str:
    """The first line of a file of tests."""
    return file.read_text(encoding="utf-8").split('"""')[1].strip()


def row(fault: Fault, result: Result | None) -> list[str]:
    """What is shown of one fault."""
    promise = f'{fault.promise} ([test](tests/faults/{fault.file} "{fault.test}"))'
    if result is None:
        return [promise, fault.bar, UNMEASURED]
    if not result["holds"]:
        promise = f"**Did not hold.** {promise}"
    return [promise, fault.bar, "<br>".join(counted(result))]


def counted(result: Result) -> Iterable[str]:
    """What was counted, a line for each kind of figure."""
    yield f"{result['machine']['date'][:10]}, {result['times']:,} times"
    if result.get("requests") is not None:
        yield (
            f"{result['requests']:,} requests: {result['failed']:,} failed, "
            f"{result['wrong']:,} wrong"
        )
    for name, value in own_figures(result):
        yield f"{name}: {value}"
    for name, bar in (("request", math.inf), ("health", HEALTH_MS)):
        if milliseconds := pair(result.get(f"{name}_ms"), bar):
            yield f"{name}: {milliseconds} ms"
    if result["left"] is not None:
        yield f"left: {left(result['left'])}"


def own_figures(result: Result) -> list[tuple[str, Any]]:
    """The figures that only this fault has."""
    found = list(result["figures"].items())
    if result.get("refused"):
        found.append(("refused", f"{result['refused']:,}"))
        found.append(("refusal", f"{pair(result['refusal_ms'])} ms"))
    return found


def number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def pair(milliseconds: Mapping[str, float] | None, bar: float = math.inf) -> str:
    """The 99th percentile and the longest; bold where it is beyond the bar."""
    if not milliseconds:
        return ""
    text = f"{milliseconds['p99']:.0f} / {milliseconds['max']:.0f}"
    return text if milliseconds["p99"] <= bar else f"**{text}**"


def left(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in found.items()) or "nothing"


def registry_section(followed: Any) -> str:
    """What following a registry that is killed has cost its callers."""
    if not followed:
        return ""
    times = followed["milliseconds"]
    return (
        "## A registry that is killed, and versions that fail\n\n"
        f"An alias moved {sum(followed['moves'].values())} times, to versions of which most do not "
        f"load, raise, crash or answer wrong, and the registry was killed "
        f"{followed['registry_killed']} times, under {sum(followed['clients'].values())} clients: "
        f"{followed['failed']} of {followed['requests']:,} requests failed "
        f"({times['p50']:.0f} ms at the median, {times['longest']:.0f} ms at most). "
        f"`make faults-registry` ([test]({FOLLOW_TEST})).\n"
    )


def hostile_section(hostile: Any) -> str:
    """For how long one body, or one answer, keeps everybody else waiting."""
    if not hostile:
        return ""
    rows = []
    for name, each in hostile["cases"].items():
        is_request = name.startswith("request: ")
        memory = f"{each['peak']:.1f} times" if is_request else f"{each['peak_mb']:.0f} MB"
        if is_request and each["peak"] > hostile["method"]["memory_goal"]:
            memory = f"**{memory}**"
        health = f"{each['health_most_ms']:.0f} ms"
        if each["health_most_ms"] > HEALTH_MS:
            health = f"**{health}**"
        size = f"{each['body_bytes'] / 1e6:.0f} MB" if is_request else ""
        rows.append([name, size, str(each["status"]), health, memory])
    text = (
        "## Bodies and answers that cost more than their bytes\n\n"
        "One at a time: for how long the server's health went unanswered at most, and what the "
        "server and the process that decodes for it held more, in times the body. Within 100 ms "
        "and 6 times is the bar, and what is beyond it is bold. "
        f"`python -m benchmarks.hostile_bodies` on {hostile['machine']['date'][:10]}.\n"
    )
    head = ["what was sent, or asked for", "size", "status", "health", "memory"]
    return "\n".join([text, table(head, rows)])


def fuzz_section(fuzz: Any) -> str:
    """How many inputs were tried, and how many of them failed."""
    if not fuzz:
        return ""
    rows = [
        [each["what"], each["target"], f"{each['count']:,}", f"{each['failures']:,}"]
        for each in fuzz["figures"]
    ]
    text = (
        "## Inputs tried\n\nGenerated and mutated input, and how much of it did harm: "
        f"`make fuzz-long` on {fuzz['date'][:10]}.\n"
    )
    return "\n".join([text, table(["what", "target", "tried", "failures"], rows)])


def peers_section() -> str:
    """What is known of other servers, and our test of it."""
    rows = [
        [issue.links, issue.what, f"`{issue.test}` ([test]({issue.file}))"] for issue in PEER_ISSUES
    ]
    text = (
        "## What users of other servers have reported\n\n"
        "Public reports about other model servers, some long since fixed, and the test that keeps "
        "the same from happening here.\n"
    )
    return "\n".join([text, table(["report", "what", "our test"], rows)])


def machines_section(results: Iterable[Result]) -> str:
    """Where the figures come from."""
    found = sorted(
        {
            (each["cpu"], each["cores"], each["memory_mb"], each["system"], each["python"])
            for each in (result["machine"] for result in results)
        }
    )
    if not found:
        return ""
    rows = [
        [cpu, cores, f"{mb // 1024} GB", system, python] for cpu, cores, mb, system, python in found
    ]
    head = ["processor", "cores", "memory", "system", "Python"]
    return "\n".join(["## Where it was measured\n", table(head, rows)])


def rendered() -> str:
    """The page of what is in the repository."""
    faults = every()
    results = {
        name: result_files.read(fault.result)
        for name, fault in faults.items()
        if fault.result.exists()
    }
    optional = [
        json.loads(path.read_text()) if path.exists() else None
        for path in (FUZZ, FOLLOWED, HOSTILE)
    ]
    return page(faults.values(), results, *optional)


if __name__ == "__main__":
    PAGE.write_text(rendered())
