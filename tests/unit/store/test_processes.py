"""Several processes at one store, and processes that are killed at any moment."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace import models
from headrace.store.remote import Remote
from support.processes import go, killed, outputs, started
from support.rounds import ROUNDS
from support.stored import left_behind, require_sound, store

PROCESSES = 8
# The moments of a kill are spread over this many seconds, which the work below takes.
SPAN = 0.25
pytestmark = pytest.mark.timeout(ROUNDS * 20 + 300)

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
for model in [each for each in models.list() if each.tag.name == "rose"]:
    models.delete(model)
while True:
    for n in range(3):
        store(f"rose:v{n}")
    models.delete("rose:latest")
    models.delete("rose")
""",
    "push": """
import os, shutil, time
place = sys.argv[2].removeprefix("file://")
while True:
    models.push("iris:whole", sys.argv[2])
    # At once: what is half removed must not be seen.
    gone = f"{place}-{time.monotonic_ns()}"
    os.rename(place, gone)
    shutil.rmtree(gone)
""",
    "push an archive": """
while True:
    models.export_model("iris:whole", sys.argv[2] + "/whole.tar.gz", overwrite=True)
""",
    "pull": """
while True:
    models.delete(models.pull("rose:whole", sys.argv[3]))
""",
}  # fmt: skip


def test_eight_processes_at_once_make_eight_versions_and_latest_is_right(home: Path) -> None:
    for _ in range(ROUNDS):
        before = {str(model.tag) for model in models.list()}
        processes = [started(CREATE) for _ in range(PROCESSES)]
        go(*processes)
        made = set(outputs(*processes))

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

    assert set(outputs(*processes)) == {"iris:v1"}
    assert len(require_sound(home)) == 1
    assert left_behind(home) == []


def test_eight_processes_that_push_and_pull_the_same_model_all_succeed(home: Path) -> None:
    url = f"file://{home.parent}/team"
    store("iris:v1", "x" * 300_000)
    pushing = [started("print(models.push('iris', sys.argv[1]))", url) for _ in range(PROCESSES)]
    go(*pushing)
    assert sorted(outputs(*pushing), reverse=True)[0] == "True"

    models.delete("iris")
    program = "print(models.pull('iris', sys.argv[1]).tag)"
    pulling = [started(program, url) for _ in range(PROCESSES)]
    go(*pulling)
    assert set(outputs(*pulling)) == {"iris:v1"}
    assert len(require_sound(home)) == 1
    assert left_behind(home) == []


@pytest.mark.parametrize("work", WORK)
def test_a_process_killed_at_any_moment_leaves_a_sound_store(home: Path, work: str) -> None:
    whole = store("iris:whole", "x" * 300_000)
    archive = home.parent / "out" / "whole.tar.gz"
    team, other = f"file://{home.parent}/team", f"file://{home.parent}/other"
    models.export_model(store("rose:whole", "y" * 300_000), archive)
    models.push("rose:whole", other)
    models.delete("rose")
    for _ in killed(WORK[work], ROUNDS * 2, SPAN, archive, team, other):
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


def whole_in_the_object_store(archive: Path) -> None:
    """A model is seen there if all of it is there, and can be pushed and pulled again."""
    url = f"file://{archive.parents[1]}/team"
    models.delete(store("empty"))
    for item in Remote(url).list():
        models.delete("iris")
        assert models.pull(item.tag, url).tag == item.tag
    models.push("iris:whole", url)
    models.delete("iris")
    models.pull("iris:whole", url)


def whole_object(archive: Path) -> None:
    """The object is not there yet, or it is whole, and can be written again."""
    url = f"file://{archive.parents[1]}/team/whole.tar.gz"
    if Path(url.removeprefix("file://")).exists():
        models.import_model(url)
    models.export_model("iris:whole", url, overwrite=True)
    models.import_model(url)


AFTER: dict[str, Callable[[Path], None]] = {
    "export": whole_archive,
    "push": whole_in_the_object_store,
    "push an archive": whole_object,
}


@pytest.mark.parametrize("program", ["load", "export"])
def test_a_model_that_is_deleted_while_it_is_read_is_read_whole_or_not_at_all(
    home: Path, program: str
) -> None:
    work = {
        "load": "models.get('iris:v1').verify()",
        "export": "models.export_model('iris:v1', sys.argv[1], overwrite=True)",
    }[program]
    reader = f"""
from headrace.errors import HeadraceError
while True:
    try:
        {work}
        print("whole", flush=True)
    except HeadraceError as error:
        print(error.kind, flush=True)
    if Path(sys.argv[2]).exists():
        break
"""
    out, done = home.parent / "out.tar", home.parent / "done"
    process = started(reader, out, done)
    go(process)
    for _ in range(ROUNDS * 10):
        store("iris:v1", "x" * 300_000)
        models.delete("iris:v1")
    done.touch()
    [printed] = outputs(process)

    assert set(printed.split()) <= {"whole", "not_found"}
    assert left_behind(home) == []
    if out.exists():
        models.import_model(out)
    assert not list(home.parent.glob(".out*"))
