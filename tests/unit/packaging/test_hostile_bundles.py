"""Bundles that others made or changed: refused whole, in words, and nothing is left of them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from headrace import bundles
from headrace.errors import InvalidInput, InvalidModel, LoadFailed, StoreFailed
from headrace.store.kinds import BUNDLE_VARIABLE, BUNDLES
from headrace.store.manifest import Entry, Manifest
from headrace.store.remote import Remote
from support.stored import left_behind

RECORD = """\
name: iris
version: v1
service: service.py:svc
digest: {digest}
creation_time: '2026-01-02T03:04:05+00:00'
"""
SOURCE = ("src/service.py", b"import os; os.system('touch evil')\n")
# Of the source alone, so that what is wrong is what was changed.
ENTRY = Entry(len(SOURCE[1]), hashlib.sha256(SOURCE[1]).hexdigest())
SOUND = RECORD.format(digest=Manifest({SOURCE[0]: ENTRY}).digest).encode()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(BUNDLE_VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


HOSTILE = {
    "leads out": ([SOURCE, ("../../evil", b"x")], "leads out of the archive"),
    "is absolute": ([SOURCE, ("/tmp/evil", b"x")], "absolute"),
    "appears twice": ([SOURCE, SOURCE], "appears twice"),
    "is below a file": ([SOURCE, ("src/service.py/x", b"x")], "not a folder|damaged"),
    "has no record": (None, "no 'bundle.yaml'"),
    "has a hostile name": (b"name: ../../evil", "is not the name of a tag"),
    "has the name of another folder": (b"name: .staging", "is not the name of a tag"),
    "has a hostile version": (b"version: ../v1", "is not the version of a tag"),
    "has no version of its own": (b"version: latest", "no version of its own"),
    "has a service outside": (b"service: ../../evil.py:svc", "service: leads out of the bundle"),
    "has an absolute service": (b"service: /evil.py:svc", "service: leads out of the bundle"),
    "has code in its record": (b"name: !!python/object/apply:os.system [touch evil]", "not valid"),
    "has a deep record": (b"labels: " + b"[" * 10_000, "not valid|nested"),
    "has a record of too many values": (
        b"a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + b"\n".join(
            b"%c: &%c [%s]" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 10))
            for n in range(8)
        ),
        "more than 1000000 values",
    ),
    "has another file": ([SOURCE, ("more", b"x")], "its files were changed after it was built"),
    "has another digest": (b"digest: abc", "its files were changed after it was built"),
    "has a manifest of other files": (
        [SOURCE, (".manifest.json", b'{"files": {}, "folders": []}')],
        "changed after it was built|not those of its manifest",
    ),
    "has a manifest that leads out": (
        [SOURCE, (".manifest.json", b'{"files": {"../x": {"size": 1, "sha256": ""}}}')],
        "leads out of the archive",
    ),
}


def members(kind):
    """The names and contents of a hostile archive: with other members, or with another line."""
    change, _ = HOSTILE[kind]
    if change is None:
        return [SOURCE]
    if isinstance(change, list):
        return [("bundle.yaml", SOUND), *change]
    key = change.partition(b":")[0]
    lines = [line for line in SOUND.splitlines() if not line.startswith(key + b":")]
    return [("bundle.yaml", b"\n".join([*lines, change])), SOURCE]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("form", ["tar.gz", "zip"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_of_a_bundle_is_refused_whole(home, tmp_path, kind, form):
    file = tmp_path / f"hostile.{form}"
    if form == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members(kind):
                archive.writestr(name, content)
    else:
        with tarfile.open(file, "w:gz") as archive:
            for name, content in members(kind):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

    with pytest.raises((LoadFailed, InvalidInput), match=HOSTILE[kind][1]) as caught:
        bundles.import_bundle(file)

    assert f"{file}'" in caught.value.message
    assert bundles.list() == []
    assert left_behind(home, BUNDLES) == []
    assert not list(tmp_path.rglob("*evil*"))


@pytest.fixture
def pushed(home, tmp_path):
    """A bundle in an object store, and nowhere else."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "model-settings.json").write_text('{"implementation": "m.M", "name": "m"}')
    (project / "headrace.yaml").write_text("name: iris\npython: {lock_packages: false}\n")
    bundle = bundles.build(project, version="v1")
    bundles.push(bundle, f"file://{tmp_path}/team")
    bundles.delete(bundle)
    return tmp_path / "team"


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("manifest.json", b"{", "manifest is damaged"),
        ("manifest.json", b'{"files": {"../../evil": {"size": 1, "sha256": ""}}}', "leads out"),
        ("manifest.json", b'{"files": {}, "folders": []}', "bundle.yaml' cannot be read"),
        ("model-settings.json", b'{"implementation": "x.X", "name": "m"}', "was changed"),
        ("bundle.yaml", b"name: rose", "was changed|has not its"),
    ],
)
def test_a_bundle_that_was_tampered_with_is_not_pulled(home, pushed, name, change, reason):
    [file] = pushed.rglob(name)
    file.write_bytes(change)

    with pytest.raises((InvalidModel, StoreFailed), match=reason):
        bundles.pull("iris:v1", f"file://{pushed}")
    assert bundles.list() == []
    assert left_behind(home, BUNDLES) == []
    assert not list(Path().rglob("*evil*"))


def test_names_that_no_tag_may_have_are_not_listed(home, pushed):
    for bad in ("UPPER/v1", ".hidden/v1", "iris/latest", "a b/v1"):
        place = pushed / bad
        place.mkdir(parents=True)
        (place / "manifest.json").write_text(json.dumps({"files": {}, "folders": []}))

    found = [str(item.tag) for item in Remote(f"file://{pushed}").list()]

    assert found == ["iris:v1"]
