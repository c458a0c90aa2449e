"""`python -m compatibility SUITE --source PATH`: run a suite of others; `render`: the page."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import commit
from compatibility import render, triage
from compatibility.suite import Case, Setting, Suite, SuiteFailed

import headrace

ROOT = Path(__file__).parent.parent
SUITES = ROOT / "compatibility" / "suites"


def main(words: list[str] | None = None) -> int:
    """Run one suite and write its result, or render the page. 1 if there is no result."""
    names = sorted(path.stem for path in SUITES.glob("*.py"))
    parser = argparse.ArgumentParser(prog="python -m compatibility", description=__doc__)
    parser.add_argument("suite", choices=[*names, "render"])
    parser.add_argument("--source", type=Path, default=Path(), help="the folder of the suite")
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter of the suite's environment"
    )
    parser.add_argument(
        "--original", default="", help="the interpreter of the other program's environment"
    )
    parser.add_argument("options", nargs="*", help="for the suite itself, after `--`")
    # Not `parse_args`, which takes no options between the suite's name and these.
    options = parser.parse_intermixed_args(words)
    if options.suite == "render":
        render.main()
        return 0
    # Suites start servers as the tests do.
    sys.path.insert(0, str(ROOT / "tests"))
    suite: Suite = importlib.import_module(f"compatibility.suites.{options.suite}").SUITE
    with tempfile.TemporaryDirectory(prefix="headrace-compatibility-") as folder:
        setting = Setting(
            options.source.resolve(),
            Path(folder),
            options.python,
            options.options,
            options.original,
        )
        try:
            result = described(suite, suite.run(setting))
            result = json.loads(without_paths(json.dumps(result, ensure_ascii=False), setting))
        except SuiteFailed as error:
            print(f"compatibility: {error}", file=sys.stderr)
            return 1
    if options.options:
        # A part of a suite must not replace the result of the whole.
        print("not written, because options were given to the suite")
    else:
        render.RESULTS.mkdir(exist_ok=True)
        path = render.RESULTS / f"{options.suite}.json"
        path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"written to {path.relative_to(ROOT)}")
    print(told(result, triage.read(options.suite)))
    return 0


def described(suite: Suite, cases: Iterable[Case]) -> dict[str, Any]:
    """What is stored of a run. Raises `SuiteFailed` if it had no case."""
    areas: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise SuiteFailed(f"two cases have the id {case.id}")
        seen.add(case.id)
        area = areas.setdefault(case.area, {"passed": [], "failed": {}, "skipped": {}})
        if case.outcome == "passed":
            area["passed"].append(case.id)
        else:
            area[case.outcome][case.id] = case.reason
    if not areas:
        raise SuiteFailed("the suite ran no case")
    return {
        "title": suite.title,
        "version": suite.version,
        "url": suite.url,
        "get": suite.get,
        "arguments": suite.arguments,
        "headrace": headrace.__version__,
        "commit": commit(ROOT),
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "areas": areas,
    }


def without_paths(text: str, setting: Setting) -> str:
    """Reasons quote paths of the machine that ran the suite, which mean nothing elsewhere."""
    prefixes = [Path(python).parent.parent for python in (setting.python, setting.original)]
    for path in (setting.source, setting.folder, ROOT, *prefixes, Path.home()):
        if path.is_absolute() and path != Path(path.root):
            text = text.replace(str(path), "…")
    return text


def told(result: dict[str, Any], entries: list[triage.Entry]) -> str:
    """A summary for the terminal: the counts, failures without triage, and stale triage."""
    found = render.sorted_failures(result, entries)
    why = {id: line for area in result["areas"].values() for id, line in area["failed"].items()}
    passed, skipped = (
        sum(len(area[key]) for area in result["areas"].values()) for key in ("passed", "skipped")
    )
    lines = [f"failed: {id}: {why[id]}" for id in found.failed]
    lines += [f"stale triage, matches nothing that failed: {pattern}" for pattern in found.stale]
    lines.append(
        f"{passed} passed, {len(why) - len(found.failed)} triaged, {skipped} skipped, "
        f"{len(found.failed)} failed"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
