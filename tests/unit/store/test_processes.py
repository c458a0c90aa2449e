"""Several processes at one store, and processes that are killed at any moment."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace import models
from support.rounds import ROUNDS
from support.stored import left_behind, require_sound, store

PROCESSES = 8
# The moments of a kill are spread over this many seconds, which the work below takes.
SPAN = 0.25
pytestmark = pytest.mark.timeout(ROUNDS * 20 + 120)

START = """
import sys
from pathlib import Path
from headrace import models
print("ready", flush=True)
sys.stdin.readline()
"""
CREATE = """
with models.create("iris", module="headrace.sklearn") as model:
    for n in range(20):
        Path(model.path_of(f"{n}.bin")).write_bytes(b"x" * 100_000)
print(model.tag, flush=True)
"""
# Endless, so that a kill always finds it at work.
WORK = {
    "create": "while True:\n" + "".join(f"    {line}\n" for line in CREATE.strip().split("\n")),
    "import": """
while True:
    models.delete(models.import_model(sys.argv[1]))
""",
    "export": """
import shutil
while True:
    models.export_model("iris:whole", sys.argv[1], overwrite=True)
    shutil.rmtree(sys.argv[1] + "-folder", ignore_errors=True)
    models.export_model("iris:whole", sys.argv[1] + "-folder", "folder")
""",
    "delete": """
from support.stored import store
while True:
    for n in range(3):
        store(f"rose:v{n}")
    models.delete("rose:latest")
    models.delete("rose")
""",
}  # fmt: skip


def started(program: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A process that imports everything and waits for a line."""
    return subprocess.Popen(
        [sys.executable, "-c", START + program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def go(*processes: subprocess.Popen[bytes]) -> None:
    """Let all of them go once the last one is ready."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()


def test_eight_processes_at_once_make_eight_versions_and_latest_is_right(home: Path) -> None:
    for _ in range(ROUNDS):
        before = {str(model.tag) for model in models.list()}
        processes = [started(CREATE) for _ in range(PROCESSES)]
        go(*processes)
        made = {process.communicate(timeout=60)[0].decode().strip() for process in processes}

        assert [process.returncode for process in processes] == [0] * PROCESSES
        assert len(made) == PROCESSES
        assert {str(model.tag) for model in require_sound(home)} == before | made
        assert left_behind(home) == []


def test_eight_processes_that_import_the_same_archive_all_succeed(home: Path) -> None:
    archive = models.export_model(store("iris:v1"), home.parent / "a.tar.gz")
    models.delete("iris")
    processes = [
        started("print(models.import_model(sys.argv[1]).tag)", archive) for _ in range(PROCESSES)
    ]
    go(*processes)

    assert {process.communicate(timeout=60)[0] for process in processes} == {b"iris:v1\n"}
    assert len(require_sound(home)) == 1
    assert left_behind(home) == []


@pytest.mark.parametrize("work", WORK)
def test_a_process_killed_at_any_moment_leaves_a_sound_store(home: Path, work: str) -> None:
    dice = random.Random(work)
    whole = store("iris:whole", "x" * 300_000)
    archive = home.parent / "out" / "whole.tar.gz"
    models.export_model(store("rose:whole", "y" * 300_000), archive)
    models.delete("rose")
    for _ in range(ROUNDS * 2):
        process = started(WORK[work], archive)
        go(process)
        # The test is about this moment, so there is nothing else to wait for.
        time.sleep(dice.uniform(0, SPAN))
        process.send_signal(signal.SIGKILL)
        process.communicate()

        found = require_sound(home)
        assert whole in found
        AFTER.get(work, nothing)(archive)

    # Whoever comes next sweeps up.
    models.delete(store("next:v1"))
    assert left_behind(home) == []
    require_sound(home)


def nothing(archive: Path) -> None:
    pass


def whole_archive(archive: Path) -> None:
    """The old or the new archive is there and whole, and drafts go with the next export."""
    with tarfile.open(archive) as tar:
        contents = {member.name: tar.extractfile(member) for member in tar}
    assert contents.keys() == {".manifest.json", "model.txt", "model.yaml"}
    models.export_model("iris:whole", archive, overwrite=True)
    folder = archive.with_name(archive.name + "-folder")
    shutil.rmtree(folder, ignore_errors=True)
    models.export_model("iris:whole", folder, "folder")
    assert {path.name for path in archive.parent.iterdir()} == {archive.name, folder.name}


AFTER: dict[str, Callable[[Path], None]] = {"export": whole_archive}
