"""`python -m benchmarks.peers`: Headrace, its limits, and the servers that people use instead.

The results of each group of servers are written as soon as it is measured, and those of groups
that are not measured this time stay as they are.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import environments, h2load, load, machine, render, result_files, servers, session
from benchmarks.peers import alone, goals, models
from benchmarks.peers.contender import Peer
from benchmarks.peers.group import WARM_UP, Group
from benchmarks.peers.scenarios import CONTENDERS, GROUPS, OURS, PEERS, SCENARIOS, digest

NAME = "peers"
TITLE = "Headrace and other servers"
ROUNDS, SECONDS = 5, 2


def main() -> int:
    """Measure, print, write; returns 1 if an environment could not be made for `--prepare`."""
    options = arguments()
    wanted = {name for each in options.only for name in GROUPS[each][0]}
    if options.prepare:
        unprepared = prepare(wanted)[1]
        print(f"the environments are in {environments.ENVIRONMENTS}")
        return 1 if unprepared else 0
    wrk = load.wrk_version()
    if any(SCENARIOS[name].streams for each in options.only for name in GROUPS[each][1]):
        h2load.require()
    path = result_files.place(NAME, result_files.OUT if options.quick else result_files.RESULTS)
    result = result_files.read(path) if path.exists() else {"groups": {}}
    result.update(name=NAME, title=TITLE)
    pythons, unprepared = prepare(wanted)
    measured = 0
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as place:
        saved = models.save(Path(place) / "models")
        if "limits" in options.only or "alone" not in result:
            result["alone"] = alone.measure(saved, *([1] if options.quick else []))
        for name in options.only:
            if name in result["groups"] and all_missing(name, unprepared):
                print(f"{name} is not measured again: its earlier results stay", file=sys.stderr)
                continue
            try:
                found = measure(name, saved, pythons, unprepared, options)
            except Exception:
                # The other groups can still be measured.
                traceback.print_exc()
                continue
            found["machine"]["wrk"] = wrk
            result["groups"][name] = found
            result_files.write(path, result)
            measured += 1
    if not measured:
        raise result_files.NoResult("no group could be measured; the reasons are above")
    for each in goals.reached(result):
        print(describe(each))
    if not options.quick:
        render.main()
    return 0


def arguments() -> argparse.Namespace:
    """What to measure, and for how long."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument(
        "--only", default=",".join(GROUPS), help=f"groups to measure: {', '.join(GROUPS)}"
    )
    parser.add_argument("--rounds", type=session.count)
    parser.add_argument("--seconds", type=session.count, help="of load for each figure of a round")
    parser.add_argument(
        "--quick", action="store_true", help="one round of a second, written to benchmarks/out"
    )
    parser.add_argument(
        "--prepare", action="store_true", help="make the environments of the others, and stop"
    )
    options = parser.parse_args()
    options.only = [name.strip() for name in options.only.split(",")]
    if unknown := [name for name in options.only if name not in GROUPS]:
        parser.error(f"--only: no group {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    options.rounds = options.rounds or (1 if options.quick else ROUNDS)
    options.seconds = options.seconds or (1 if options.quick else SECONDS)
    return options


def prepare(wanted: Iterable[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """The interpreter of each server, and why one has none."""
    wanted = set(wanted)
    pythons: dict[str, Path] = {}
    unprepared: dict[str, str] = {}
    for peer in PEERS:
        names = [each.name for each in peer.contenders if each.name in wanted]
        if not names:
            continue
        try:
            python = interpreter(peer)
        except (servers.NotStarted, OSError) as error:
            print(f"{peer.name} is left out: {error}", file=sys.stderr)
            unprepared.update(dict.fromkeys(names, str(error)))
        else:
            pythons.update(dict.fromkeys(names, python))
    return pythons, unprepared


def all_missing(name: str, unprepared: Mapping[str, str]) -> bool:
    """Whether a group has nothing but our own servers."""
    others = [each for each in GROUPS[name][0] if not each.startswith(OURS)]
    return all(each in unprepared for each in others)


def interpreter(peer: Peer) -> Path:
    """The interpreter of its environment, which is created the first time."""
    if not peer.requirements:
        return Path(sys.executable)
    return environments.prepare(peer.name, peer.requirements)


def measure(
    name: str,
    saved: models.Models,
    pythons: dict[str, Path],
    unprepared: dict[str, str],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """One group, as the results file has it."""
    contenders, scenarios = GROUPS[name]
    before = machine.load_average()
    missing = {each: unprepared[each] for each in contenders if each in unprepared}
    group = Group(scenarios, saved, pythons, missing)
    group.measure([CONTENDERS[each] for each in contenders], options.rounds, options.seconds)
    return {
        "machine": machine.describe(result_files.ROOT, ""),
        "load_average": {"before": before, "after": machine.load_average()},
        "method": {"seconds": options.seconds, "warm_up_seconds": WARM_UP},
        "configuration": digest(name),
        "servers": group.servers,
        "failed": group.failed,
        "rounds": group.rounds,
    }


def describe(each: goals.Reached) -> str:
    """A goal in one line."""
    sign = ">=" if each.goal.at_least else "<="
    value = "" if each.middle is None else f" {each.middle:.2f} ({each.least:.2f}-{each.most:.2f})"
    return f"{each.verdict}: {each.goal.title}:{value}, goal {sign} {each.goal.bound:g}"


if __name__ == "__main__":
    session.run(main)
