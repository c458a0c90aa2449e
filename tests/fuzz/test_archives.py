"""Hostile archives, imported as users import them: taken whole or not at all, and never outside."""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import threading
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path

import pytest

from fuzz.figures import SEED, amount, counted
from fuzz.hostile_archives import archives
from headrace import bundles, models
from headrace.archives import archive, members, zip_archive
from headrace.environments import tarball
from headrace.errors import HeadraceError
from headrace.store import transfer
from headrace.store.kinds import BUNDLE_VARIABLE, BUNDLES, MODELS
from headrace.store.manifest import Entry, Manifest
from support.stored import left_behind, require_sound

pytestmark = pytest.mark.fuzz

SERVICE = b"print('a service')\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of its own, and bounds that bombs reach soon."""
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(BUNDLE_VARIABLE, "")
    monkeypatch.setattr(archive, "ALWAYS_ALLOWED", MOST)
    monkeypatch.setattr(archive, "MOST_BYTES", MOST)
    monkeypatch.setattr(transfer, "MOST_BYTES", MOST)
    monkeypatch.setattr(members, "MOST_MEMBERS", 100)
    assert zip_archive.most_content is archive.most_content
    return tmp_path / "home"


MOST = 2 * 1024 * 1024


def model_base(folder: Path) -> dict[str, bytes]:
    with models.create("iris:v1", module="headrace.sklearn") as model:
        Path(model.path_of("model.txt")).write_bytes(b"weights" * 50)
    found = contents(Path(models.get("iris:v1").path))
    models.delete("iris")
    return found


def bundle_base(folder: Path) -> dict[str, bytes]:
    entry = Entry(len(SERVICE), hashlib.sha256(SERVICE).hexdigest())
    digest = Manifest({"src/service.py": entry}).digest
    record = f"name: iris\nversion: v1\nservice: service.py:svc\ndigest: {digest}\n"
    record += "creation_time: '2026-01-02T03:04:05+00:00'\n"
    return {"bundle.yaml": record.encode(), "src/service.py": SERVICE}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def attack(
    kind: str, base: Mapping[str, bytes], work: Path, take: Callable[[Path], Path | None]
) -> None:
    """Give `take` hostile archives; it returns the folder of what it took."""
    rng = random.Random(SEED)
    work.mkdir(parents=True)
    with counted("hostile archives", kind) as tally:
        for end, content, wrong in islice(archives(rng, base), amount(250, 1700)):
            file = work / f"hostile.{end}"
            file.write_bytes(content)
            taken = None
            with contextlib.suppress(HeadraceError):
                taken = take(file)
            tally.count += 1
            assert taken is None or not wrong.endswith("!"), wrong
            for each in taken.rglob("*") if taken else ():
                assert each.resolve().is_relative_to(taken.resolve()), (wrong, each)
            file.unlink()
            yield_back(taken)
            assert below(work) == set(), wrong


def yield_back(taken: Path | None) -> None:
    """Remove what was taken, so that the next one finds nothing."""
    if taken is not None:
        shutil.rmtree(taken, ignore_errors=True)


def test_a_model_is_imported_whole_or_not_at_all(tmp_path: Path, home: Path) -> None:
    def take(file: Path) -> Path | None:
        before = below(tmp_path)
        try:
            model = models.import_model(file)
        except HeadraceError:
            assert models.list() == []
            assert left_behind(home, MODELS) == []
            assert {
                path for path in below(tmp_path) ^ before if not path.startswith("home")
            } == set()
            raise
        require_sound(home)
        folder = Path(model.path)
        kept = tmp_path / "work" / "kept"
        shutil.copytree(folder, kept, symlinks=True)
        models.delete(model.tag)
        return kept

    attack("models", model_base(tmp_path), tmp_path / "work", take)


def test_a_bundle_is_imported_whole_or_not_at_all(tmp_path: Path, home: Path) -> None:
    def take(file: Path) -> Path | None:
        try:
            bundle = bundles.import_bundle(file)
        except HeadraceError:
            assert bundles.list() == []
            assert left_behind(home, BUNDLES) == []
            raise
        require_sound(home, BUNDLES)
        assert contents(Path(bundle.path)).get("src/service.py") == SERVICE
        bundles.delete(bundle.tag)
        return None

    attack("bundles", bundle_base(tmp_path), tmp_path / "work", take)


def test_an_environment_is_unpacked_inside_of_its_folder(tmp_path: Path) -> None:
    def take(file: Path) -> Path | None:
        folder = tmp_path / "work" / "environment"
        try:
            tarball.unpack_files(file, folder, threading.Event())
        except HeadraceError:
            # Whoever asked removes what is there of it.
            yield_back(folder)
            raise
        # Nothing in a tar file that is not compressed tells of other bits in its content.
        assert (folder / "bin/python").stat().st_size == len(base["bin/python"])
        return folder

    base = {"bin/python": b"#!/bin/sh\n" * 40, "lib/site.py": b"import os\n"}
    attack("environments", base, tmp_path / "work", take)
