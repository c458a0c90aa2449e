"""Runs somebody else's tests with pytest in their own environment, and reads what came out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from compatibility.suite import Case, Outcome, Setting, SuiteFailed

PLUGINS = Path(__file__).parent / "plugins"
# All passed, some failed, interrupted by an error of collection. Anything else is no result.
RAN = (0, 1, 2)
LONGEST_REASON = 200


def by_file(id: str) -> str:
    """The usual area of a test: its file."""
    return id.partition("::")[0]


def run_pytest(
    setting: Setting,
    files: Sequence[str],
    *,
    area: Callable[[str], str] = by_file,
    plugin: str | None = None,
    environ: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    timeout: float = 3600,
) -> Iterator[Case]:
    """The cases of `files`, which are paths below the source.

    `plugin` names a module in `compatibility/plugins/`, which pytest loads before the suite's own
    conftest files. `environ` is added to this process's variables. The ids are those of pytest. A
    file that cannot be collected is one failed case. Raises `SuiteFailed` if pytest did not get to
    the end within `timeout` seconds.
    """
    report = setting.folder / "junit.xml"
    report.unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")]))
    given = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **(environ or {})}
    command = [setting.python, "-m", "pytest", "-q", "--continue-on-collection-errors"]
    # The first form of the report names files; the second does not.
    command += [f"--junitxml={report}", "-o", "junit_family=xunit1", "-p", "no:cacheprovider"]
    command += ["-p", plugin] if plugin else []
    command += [*arguments, *setting.options, *files]
    try:
        done = subprocess.run(
            command, cwd=setting.source, env=given, capture_output=True, text=True, timeout=timeout
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SuiteFailed(f"pytest in {setting.source}: {error}") from None
    if done.returncode not in RAN or not report.exists():
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise SuiteFailed(f"pytest in {setting.source} ended with {done.returncode}:\n{tail}")
    yield from read(report, area)


def read(report: Path, area: Callable[[str], str] = by_file) -> Iterator[Case]:
    """The cases of a JUnit report, each once: one that fails at its teardown failed."""
    found: dict[str, Case] = {}
    for element in ElementTree.parse(report).iter("testcase"):
        id = _id(element)
        outcome, reason = _outcome(element)
        if id not in found or outcome == "failed":
            found[id] = Case(area(id), id, outcome, reason)
    yield from found.values()


def _id(element: ElementTree.Element) -> str:
    name, classname = element.get("name", ""), element.get("classname", "")
    file = element.get("file") or classname.replace(".", "/") + ".py"
    module = file.removesuffix(".py").replace("/", ".")
    if name == module:
        # A file that was not collected.
        return file
    inner = classname.removeprefix(module).strip(".")
    return "::".join([file, *filter(None, inner.split(".")), name])


def _outcome(element: ElementTree.Element) -> tuple[Outcome, str]:
    for tag in ("failure", "error"):
        for found in element.findall(tag):
            return "failed", _one_line(found)
    for found in element.findall("skipped"):
        return "skipped", _one_line(found)
    return "passed", ""


def _one_line(element: ElementTree.Element) -> str:
    message = element.get("message", "")
    if message == "collection failure":
        # The message does not say what happened; the last line of the traceback does.
        message = next((line[1:] for line in (element.text or "").splitlines()[::-1]
                        if line.startswith("E ")), message)  # fmt: skip
    line = next(filter(None, (line.strip() for line in message.splitlines())), "")
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"
