"""Bundles in a store that several processes work on, and that are killed at any moment."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

import headrace
from headrace import bundles, models
from headrace.store.kinds import BUNDLE_VARIABLE, BUNDLES
from support.processes import go, killed, outputs, started
from support.rounds import ROUNDS
from support.stored import left_behind, require_sound

PROCESSES = 8
pytestmark = pytest.mark.timeout(ROUNDS * 60 + 300)

SERVICE = """\
import headrace
from headrace.io import JSON
double = headrace.models.get("double:latest").to_runner()
svc = headrace.Service("doubling", runners=[double])
@svc.api(input=JSON(), output=JSON())
def twice(value):
    return double.run(value)
"""
BUILD = "service: service.py:svc\ninclude: ['*.py']\npython: {lock_packages: false}\n"
# Endless, so that a kill always finds it at work; with the seconds that one round of it takes.
WORK = {
    "build": ("while True: bundles.build(sys.argv[1])", 1.0),
    "import": ("while True: bundles.delete(bundles.import_bundle(sys.argv[2]))", 0.25),
    "export": (
        "while True: bundles.export_bundle('doubling:whole', sys.argv[3], overwrite=True)", 0.15
    ),
    "delete": ("while True: bundles.import_bundle(sys.argv[2]); bundles.delete('doubling:other')",
               0.25),
    "push and pull": ("""
import os, shutil, time
place = sys.argv[4].removeprefix("file://")
while True:
    bundles.push("doubling:whole", sys.argv[4])
    bundles.delete("doubling:whole")
    bundles.pull("doubling:whole", sys.argv[4])
    # At once: what is half removed must not be seen.
    gone = f"{place}-{time.monotonic_ns()}"
    os.rename(place, gone)
    shutil.rmtree(gone)
""", 0.4),
}  # fmt: skip


class Double:
    def __call__(self, x):
        return x * 2


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(BUNDLE_VARIABLE, "")
    return tmp_path / "home"


@pytest.fixture
def project(home):
    """A service over one stored model, with a build file that leaves the lock out."""
    headrace.picklable_model.save_model("double:v1", Double())
    folder = home.parent / "project"
    folder.mkdir()
    (folder / "service.py").write_text(SERVICE)
    (folder / "headrace.yaml").write_text(BUILD)
    return folder


def test_eight_processes_that_build_the_same_bundle_make_eight_versions_of_one_digest(
    home: Path, project: Path
) -> None:
    program = "print(bundles.build(sys.argv[1]).tag)"
    processes = [started(program, project) for _ in range(PROCESSES)]
    go(*processes)
    made = set(outputs(*processes))

    assert len(made) == PROCESSES
    found = require_sound(home, BUNDLES)
    assert {str(bundle.tag) for bundle in found} == made
    assert len({bundle.info.digest for bundle in found}) == 1
    assert left_behind(home, BUNDLES) == []


def test_of_eight_processes_that_build_one_version_one_succeeds(home: Path, project: Path) -> None:
    program = """
from headrace.errors import Conflict
try:
    print(bundles.build(sys.argv[1], version="v1").tag)
except Conflict as error:
    print("conflict")
"""
    processes = [started(program, project) for _ in range(PROCESSES)]
    go(*processes)

    assert sorted(outputs(*processes)) == [*["conflict"] * (PROCESSES - 1), "doubling:v1"]
    assert len(require_sound(home, BUNDLES)) == 1
    assert left_behind(home, BUNDLES) == []


@pytest.mark.parametrize("work", WORK)
def test_a_process_killed_at_any_moment_leaves_sound_bundles(
    home: Path, project: Path, work: str
) -> None:
    program, span = WORK[work]
    team = f"file://{home.parent}/team"
    whole = bundles.build(project, version="whole")
    other = bundles.build(project, version="other")
    archive = bundles.export_bundle(other, home.parent / "other.tar.gz")
    bundles.delete(other)
    out = home.parent / "out" / "whole.tar.gz"
    bundles.export_bundle(whole, out, overwrite=True)
    for _ in killed(program, ROUNDS, span, project, archive, out, team):
        found = require_sound(home, BUNDLES)
        if work != "push and pull":
            assert whole in found
        else:
            # The one in the object store may be incomplete, and then this one is still here.
            bundles.push(whole, team) if whole in found else bundles.pull(whole.tag, team)
        with tarfile.open(out) as tar:
            assert "bundle.yaml" in tar.getnames()

    # Whoever comes next sweeps up.
    bundles.export_bundle(whole, out, overwrite=True)
    bundles.build(project)
    assert left_behind(home, BUNDLES) == []
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    require_sound(home, BUNDLES)
    require_sound(home)
    assert [str(model.tag) for model in models.list()] == ["double:v1"]
