"""Real disks that are full or may not be written: a clear error, nothing left, a sound store."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import headrace
from headrace import bundles, models
from headrace.errors import NotFound, StoreFailed
from headrace.store.kinds import BUNDLE_VARIABLE, BUNDLES
from support.stored import left_behind, require_sound, store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")

BUILD = "name: big\nmodels: [small]\npython: {lock_packages: false}\n"
# More than the disk has; archives of it are as large.
LARGE = os.urandom(3_000_000)


@contextmanager
def disk(folder: Path, *options: str) -> Iterator[None]:
    """A disk of 2 MB at a folder."""
    given = ",".join(["size=2m", *options])
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", given, "tmpfs", folder])
    if done.returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


class Sources:
    """What does not fit on the small disk, on another one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with models.create("big:v1", module="headrace.sklearn") as model:
            Path(model.path_of("big.bin")).write_bytes(LARGE)
        headrace.picklable_model.save_model("small", str.upper)
        self.project = root / "project"
        self.project.mkdir()
        (self.project / "headrace.yaml").write_text(BUILD)
        (self.project / "big.bin").write_bytes(LARGE)
        bundle = bundles.build(self.project, version="v1")
        for form in ("tar.gz", "zip"):
            models.export_model("big", root / f"model.{form}")
            bundles.export_bundle(bundle, root / f"bundle.{form}")
        self.url = f"file://{root}/team"
        models.push("big", f"{self.url}/models")
        bundles.push("big", f"{self.url}/bundles")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv(BUNDLE_VARIABLE, "")
    return Sources(tmp_path)


INTO_THE_STORE: dict[str, Callable[[Sources], object]] = {
    "save": lambda given: store("big:v2", "x" * len(LARGE)),
    "import tar": lambda given: models.import_model(given.root / "model.tar.gz"),
    "import zip": lambda given: models.import_model(given.root / "model.zip"),
    "import url": lambda given: models.import_model(f"file://{given.root}/model.zip"),
    "import folder": lambda given: models.import_model(given.root / "home/models/big/v1"),
    "pull": lambda given: models.pull("big", f"{given.url}/models"),
    "build": lambda given: bundles.build(given.project),
    "bundle tar": lambda given: bundles.import_bundle(given.root / "bundle.tar.gz"),
    "bundle zip": lambda given: bundles.import_bundle(given.root / "bundle.zip"),
    "bundle pull": lambda given: bundles.pull("big", f"{given.url}/bundles"),
}


@pytest.mark.parametrize("work", INTO_THE_STORE)
def test_what_does_not_fit_into_the_store_is_refused_and_leaves_nothing(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    home = sources.root / "small"
    home.mkdir()
    with disk(home):
        monkeypatch.setenv("HEADRACE_HOME", str(home))
        kept = headrace.picklable_model.save_model("small", str.upper)

        with pytest.raises(StoreFailed, match=r"the disk is full, and nothing was kept"):
            INTO_THE_STORE[work](sources)

        assert require_sound(home) == [kept]
        assert require_sound(home, BUNDLES) == []
        assert left_behind(home) == left_behind(home, BUNDLES) == []
        assert sorted(path.name for path in home.iterdir()) in (["models"], ["bundles", "models"])
        store("another")


OUT_OF_THE_STORE: dict[str, Callable[[Path], object]] = {
    "tar": lambda out: models.export_model("big", out / "a.tar", overwrite=True),
    "tar.zst": lambda out: models.export_model("big", out / "a.tar.zst", overwrite=True),
    "zip": lambda out: models.export_model("big", out / "a.zip", overwrite=True),
    "folder": lambda out: models.export_model("big", out / "a", "folder"),
    "object": lambda out: models.export_model("big", f"file://{out}/a.zip", overwrite=True),
    "bundle": lambda out: bundles.export_bundle("big", out / "a.tar.gz", overwrite=True),
}


@pytest.mark.parametrize("work", OUT_OF_THE_STORE)
def test_an_export_that_does_not_fit_leaves_what_was_there(sources: Sources, work: str) -> None:
    out = sources.root / "out"
    out.mkdir()
    with disk(out):
        for name in ("a.tar", "a.tar.zst", "a.zip", "a.tar.gz"):
            (out / name).write_text("old")
        before = {path.name: path.read_text() for path in out.iterdir()}

        with pytest.raises(StoreFailed, match="disk is full|No space left on device"):
            OUT_OF_THE_STORE[work](out)

        assert {path.name: path.read_text() for path in out.iterdir()} == before


def test_a_push_that_does_not_fit_is_not_seen(sources: Sources) -> None:
    out = sources.root / "out"
    out.mkdir()
    with disk(out):
        with pytest.raises(StoreFailed, match="No space left on device"):
            models.push("big", f"file://{out}")
        with pytest.raises(NotFound):
            models.pull("big", f"file://{out}")
        assert models.push("small", f"file://{out}")


def test_a_home_that_cannot_be_written_is_read_and_says_so(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = sources.root / "small"
    home.mkdir()
    with disk(home):
        monkeypatch.setenv("HEADRACE_HOME", str(home))
        kept = headrace.picklable_model.save_model("small", str.upper)
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)

        assert models.get("small").load_model()("a") == "A"
        models.export_model("small", sources.root / "small.zip")
        models.push("small", f"{sources.url}/others")
        changes: list[Callable[[], object]] = [
            lambda: store("other"),
            lambda: models.delete("small"),
            lambda: models.import_model(sources.root / "model.zip"),
            lambda: models.pull("big", f"{sources.url}/models"),
            lambda: models.copy("small", "small:v2"),
            lambda: bundles.build(sources.project),
            lambda: bundles.import_bundle(sources.root / "bundle.zip"),
        ]
        for change in changes:
            with pytest.raises(StoreFailed, match=r"Read-only file system.*HEADRACE_HOME"):
                change()
        assert models.list() == [kept]


ANOTHER_USER = """
import os
from headrace import models
from headrace.errors import StoreFailed
def loads():
    return models.get("small").load_model()("a") == "A"
# Everything is imported first, since another user may not read where Python is.
assert loads()
os.setgroups([]), os.setgid(12345), os.setuid(12345)
assert loads()
for change in (lambda: models.delete("small"), lambda: models.copy("small", "small:v2")):
    try:
        change()
    except StoreFailed as error:
        print(error.message)
"""


def test_the_home_of_another_user_is_read_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not pytest's own folder, which only its user may enter.
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)
        monkeypatch.setenv("HEADRACE_HOME", home)
        headrace.picklable_model.save_model("small", str.upper)
        done = subprocess.run([sys.executable, "-c", ANOTHER_USER], capture_output=True, text=True)

        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Permission denied") == 2
        assert done.stdout.count("HEADRACE_HOME names the folder of the store") == 2
        require_sound(Path(home))
