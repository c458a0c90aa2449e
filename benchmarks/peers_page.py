"""The section of docs/benchmarks.md about other servers, from results/peers.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

from benchmarks import chart
from benchmarks.peers import figures, goals
from benchmarks.peers.contender import Contender, Peer
from benchmarks.peers.figures import Point
from benchmarks.peers.scenarios import CONTENDERS, OURS, PEERS, SCENARIOS, Scenario, digest
from benchmarks.tables import Run, machine_table, table

INTRODUCTION = """Every server has the same models: an elastic net of scikit-learn for rows of
eleven FP64 numbers and, where a scenario says 1000 × 784, a linear regression for FP32 pixels. The
others run in environments of their own, with our versions of scikit-learn, numpy, joblib and pandas
(Triton's backend needs numpy 1), and with the configurations at the end of this section.
scikit-learn imports pandas wherever it is installed, so every server does. Nobody writes a line for
each request.

Before the load, each server gets {distinct} different rows, {at_once} at a time, and each answer is
compared with the model's own prediction. wrk compares answers again before the first round and
after the last, and those of the large requests in every round.

The servers of a group are up together, and only one of them has load; each group has Headrace in
it. Rounds are interleaved in random order. A figure is the median of its rounds, and a ratio the
median of the ratios within each round. The load runs on the same processors as the servers, so it
takes most from the fastest. Bare uvicorn and grpc.aio read the request and answer with fixed bytes:
they are the limits.
"""
# Beside the page: the rates of this scenario over so many connections.
CHART, CHARTED, CONNECTIONS = "benchmarks.svg", "row", 32
MISSING = "-"


def section(result: Run) -> str:
    """Goals, rates, latencies, costs, start and memory, and the configurations."""
    from benchmarks.peers.answers import AT_ONCE
    from benchmarks.peers.models import DISTINCT

    parts = [
        f"## {result['title']}\n",
        INTRODUCTION.format(distinct=DISTINCT, at_once=AT_ONCE),
        f"![Requests a second of each server]({CHART})\n",
        "### Goals against other servers\n",
        goals_table(result),
    ]
    for scenario in SCENARIOS.values():
        parts += _scenario(result, scenario)
    if "alone" in result:
        parts += ["### Without a server\n", _alone(result["alone"])]
    parts += ["### First answer and memory\n", starts_table(result)]
    if failed := figures.failures(result):
        rows = [[CONTENDERS[name].title, _short(reason)] for name, reason in failed.items()]
        parts += ["### Not measured, or not to the end\n", table(["server", "why"], rows)]
    parts += ["### When each group was measured\n", _groups(result)]
    parts += ["### Configurations\n", *(_configuration(peer) for peer in PEERS)]
    return "\n".join(parts)


def picture(result: Run) -> str:
    """The chart of the page: the rate of every server, the highest first."""
    rows = []
    for name, contender in CONTENDERS.items():
        rate = figures.middle(result, Point(name, CHARTED, CONNECTIONS), "rate")
        if rate is not None:
            rows.append((contender.title.replace("`", ""), rate, name.startswith(OURS)))
    title = f"{SCENARIOS[CHARTED].title}, {CONNECTIONS} connections: requests a second"
    return chart.bars(title, sorted(rows, key=lambda row: -row[1]))


def goals_table(result: Run) -> str:
    """What was reached of each goal."""
    rows = []
    for each in goals.reached(result):
        sign, unit = "≥" if each.goal.at_least else "≤", each.goal.unit and f" {each.goal.unit}"
        rows.append(
            [
                each.goal.title,
                f"{sign} {each.goal.bound:g}{unit}",
                _number(each.middle),
                f"{_number(each.least)} to {_number(each.most)}",
                each.verdict,
            ]
        )
    return table(["what", "goal", "reached", "in a round", ""], rows)


def starts_table(result: Run) -> str:
    """Seconds to the first answer, and memory; medians over the groups that a server is in."""
    rows = []
    for name, contender in CONTENDERS.items():
        memory = figures.memory(result, name)
        if memory:
            live, ready = (figures.starts(result, name, each) for each in (goals.LIVE, goals.READY))
            row = [f"{median(live):.2f}", f"{median(ready):.2f}", f"{median(memory):.0f}"]
            rows.append([contender.title, *row])
    head = ["server", "live after s", "first answer after s", "memory after the load, PSS, MB"]
    return table(head, rows)


def _scenario(result: Run, scenario: Scenario) -> list[str]:
    """Rates, latencies and costs, if anything was measured."""
    names = [
        name
        for name, contender in CONTENDERS.items()
        if scenario.name in contender.forms and _any(result, name, scenario)
    ]
    if not names:
        return []

    def rows(cell: Callable[[Point], str]) -> str:
        body = [
            [
                CONTENDERS[name].title,
                *(cell(Point(name, scenario.name, count)) for count in scenario.connections),
            ]
            for name in names
        ]
        return table(["connections", *scenario.connections], body)

    parts = [
        f"### {scenario.title}\n",
        "Requests a second, and in brackets Headrace's rate as a multiple in the same rounds:\n",
        rows(lambda point: _rate(result, point)),
    ]
    if not scenario.streams:
        parts += [
            "p50 / p99 in milliseconds:\n",
            rows(lambda point: _pair(result, point, ("p50_ms", "p99_ms"), "{:.2f}")),
        ]
    parts += [
        "Processor time per request in microseconds, server process / its child processes:\n",
        rows(lambda point: _pair(result, point, ("front_us", "workers_us"), "{:,.0f}")),
    ]
    return parts


def _any(result: Run, name: str, scenario: Scenario) -> bool:
    points = (Point(name, scenario.name, count) for count in scenario.connections)
    return any(figures.values(result, point, "rate") for point in points)


def _rate(result: Run, point: Point) -> str:
    rate = figures.middle(result, point, "rate")
    if rate is None:
        return MISSING
    ours = "headrace-mlflow" if point.scenario in CONTENDERS["headrace-mlflow"].forms else OURS
    times = figures.ratios(result, point._replace(contender=ours), point)
    shown = f" ({_number(median(times))})" if times and point.contender != ours else ""
    return f"{rate:,.0f}{shown}"


def _pair(result: Run, point: Point, names: tuple[str, str], form: str) -> str:
    found = [figures.middle(result, point, name) for name in names]
    return " / ".join(MISSING if each is None else form.format(each) for each in found)


def _alone(found: Mapping[str, float]) -> str:
    rows = [
        ["the model's predict of one row, in a loop", f"{found['predict_us']:.0f} µs"],
        [
            f"the model's predict of {found['batch_rows']:.0f} rows",
            f"{found['predict_batch_us']:.0f} µs",
        ],
        ["import of scikit-learn in a new process", f"{found['import_seconds']:.2f} s"],
        [
            f"one pass of simdjson over the {found['body_mb']:g} MB of JSON",
            f"{found['parse_ms']:.1f} ms",
        ],
        ["Headrace's decoding of the same", f"{found['decode_ms']:.1f} ms"],
    ]
    return table(["what", "time"], rows)


def _groups(result: Run) -> str:
    rows = []
    for name, group in result["groups"].items():
        machine, loads = group["machine"], group["load_average"]
        when = [machine["date"], machine["commit"], f"{machine['cpu']}, {machine['cores']} cores"]
        average = " / ".join(f"{loads[moment][0]:g}" for moment in ("before", "after"))
        count = f"{len(group['rounds'])} × {group['method']['seconds']} s"
        known = {None: "not recorded", digest(name): "as below"}
        shown = known.get(group.get("configuration"), "an earlier one")
        rows.append([name, *when, count, average, shown])
    head = [
        "group", "date", "commit", "processor", "rounds", "load average before / after",
        "configuration",
    ]  # fmt: skip
    earlier = ""
    if any(row[-1] != "as below" for row in rows):
        earlier = (
            "\nWhere the configuration is not `as below`, the group was measured before servers "
            "were configured as this section says.\n"
        )
    newest = max(result["groups"].values(), key=lambda group: str(group["machine"]["date"]))
    return (
        table(head, rows)
        + earlier
        + "\n"
        + machine_table(newest["machine"], newest["load_average"])
    )


def _configuration(peer: Peer) -> str:
    """What is installed for a peer, and the files and the command of each of its servers."""
    parts = [f"<details><summary>{peer.name}</summary>\n"]
    if peer.requirements:
        parts.append(f"Installed: {', '.join(f'`{each}`' for each in peer.requirements)}.\n")
    if peer.note:
        parts.append(f"{peer.note}\n")
    shown: set[str] = set()
    for contender in peer.contenders:
        parts += _files(contender, shown)
    parts.append("</details>\n")
    return "\n".join(parts)


def _files(contender: Contender, shown: set[str]) -> list[str]:
    variables = [f"`{key}={value}`" for key, value in contender.shown_environ().items()]
    line = f"{contender.title}: `{contender.shown_command()}`"
    parts = [f"{line}{', with ' if variables else ''}{' '.join(variables)}\n"]
    for name, text in contender.files.items():
        if text not in shown:
            shown.add(text)
            kind = {"py": "python", "json": "json"}.get(name.rpartition(".")[2], "")
            parts.append(f"`{name}`:\n\n```{kind}\n{text.strip()}\n```\n")
    return parts


def _number(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _short(reason: str) -> str:
    """A reason in one line, as a table holds it: the end of what a server wrote says the most."""
    line = " ".join(reason.split()).replace("|", "/")
    return line if len(line) <= 200 else f"{line[:40]} … {line[-160:]}"
