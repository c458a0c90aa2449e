"""Models in object stores: a folder as one, and a real S3 server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import models
from headrace.errors import (
    Conflict,
    InvalidInput,
    InvalidModel,
    MissingDependency,
    NotFound,
    StoreFailed,
)
from headrace.store import object_store
from headrace.store.manifest import Manifest
from headrace.store.remote import Remote
from support.stored import left_behind, store


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server with the bucket `team`."""
    program = (
        "from moto.server import ThreadedMotoServer as S\n"
        "s = S('127.0.0.1', 0, verbose=False); s.start()\n"
        "print(s.get_host_and_port()[1], flush=True); input()"
    )
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert server.stdout is not None
    assert server.stdin is not None
    address = f"http://127.0.0.1:{int(server.stdout.readline())}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/team", method="PUT")).close()
    yield address
    server.kill()
    server.communicate()


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty place in an object store."""
    if request.param == "file":
        return f"file://{tmp_path}/team/models"
    address = request.getfixturevalue("s3")
    for name, value in {
        "AWS_ENDPOINT": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    return f"s3://team/{os.urandom(4).hex()}/models"


def test_a_model_that_was_pushed_is_pulled_as_it_was(url: str) -> None:
    with models.create("iris:v1", module="headrace.sklearn", labels={"a": "b"}) as model:
        Path(model.path_of("big.bin")).write_bytes(os.urandom(20_000_000))
        Path(model.path_of("empty")).touch()
        os.makedirs(model.path_of("folder/none"))
        Path(model.path_of("folder/ä b+%.txt")).write_text("x")
    info = model.info

    assert models.push("iris", url)
    assert not models.push("iris", url)
    models.delete("iris")
    back = models.pull("iris:v1", url)

    assert back.info == info
    assert Path(back.path_of("folder/none")).is_dir()
    assert models.pull("iris", url) == back


def test_a_pull_finds_the_latest_and_the_beginning_of_a_version(url: str) -> None:
    for version in ("b1", "a1", "a2"):
        models.push(store(f"iris:{version}"), url)
    models.push(store("rose:v1"), url)
    models.delete("iris")

    assert [str(item.tag) for item in Remote(url).list()] == [
        "iris:a1", "iris:a2", "iris:b1", "rose:v1"
    ]  # fmt: skip
    assert str(models.pull("iris", url).tag) == "iris:a2"
    assert str(models.pull("iris:b", url).tag) == "iris:b1"
    with pytest.raises(InvalidInput, match="2 versions"):
        models.pull("iris:a", url)
    for missing in ("iris:c", "lily", "lily:latest"):
        with pytest.raises(NotFound, match=f"has no '{missing}'"):
            models.pull(missing, url)


def test_a_version_is_never_overwritten_on_either_side(url: str) -> None:
    models.push(store("iris:v1", "first"), url)
    models.delete("iris")
    store("iris:v1", "second")

    with pytest.raises(Conflict, match="'iris:v1' with another content"):
        models.push("iris", url)
    with pytest.raises(Conflict, match="'iris:v1' exists"):
        models.pull("iris", url)


def test_one_archive_goes_to_an_object_and_comes_back(url: str) -> None:
    model = store("iris:v1")

    assert models.export_model(model, f"{url}/a.tar.gz") == f"{url}/a.tar.gz"
    assert models.export_model(model, url) == f"{url}/iris-v1.tar.zst"
    with pytest.raises(Conflict, match="a.tar.gz' exists"):
        models.export_model(model, f"{url}/a.tar.gz")
    models.export_model(model, f"{url}/a.tar.gz", overwrite=True)
    models.delete(model)
    assert models.import_model(f"{url}/a.tar.gz") == model
    with pytest.raises(NotFound, match="no such object"):
        models.import_model(f"{url}/b.tar.gz")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("manifest.json", b"{", "manifest is damaged"),
        ("manifest.json", b'{"files": {"../../evil": {"size": 1, "sha256": ""}}, "folders": []}',
         "leads out"),
        ("manifest.json", b'{"files": {}, "folders": ["/etc"]}', "absolute"),
        ("model.txt", b"weightz", "'model.txt' was changed in the object store"),
        ("model.txt", b"longer than before", "has not its 7 bytes"),
    ],
)  # fmt: skip
def test_what_was_tampered_with_is_refused(
    home: Path, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    models.push(store("iris:v1"), f"file://{tmp_path}/team")
    models.delete("iris")
    [file] = (tmp_path / "team").rglob(name)
    file.write_bytes(content)

    with pytest.raises((InvalidModel, StoreFailed), match=reason):
        models.pull("iris:v1", f"file://{tmp_path}/team")
    assert models.list() == []
    assert left_behind(home) == []
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (b"name: iris", b"name: rose", "'iris:v1' in the object store: it holds model 'rose:v1'"),
        (b"labels: {}", b"labels: [a]", "'iris:v1' in the object store: 'model.yaml': labels"),
        (b"version: v1", b"version: ../v", "is not the version of a tag"),
    ],
)
def test_a_record_that_was_wrong_when_it_was_pushed_is_refused_and_nothing_is_left(
    home: Path, tmp_path: Path, before: bytes, after: bytes, reason: str
) -> None:
    models.push(store("iris:v1"), f"file://{tmp_path}/team")
    models.delete("iris")
    [record], [file] = (list((tmp_path / "team").rglob(name)) for name in ("*.yaml", "*.json"))
    content = record.read_bytes().replace(before, after)
    manifest = json.loads(file.read_bytes())
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"]["model.yaml"] = entry
    file.write_text(json.dumps(manifest))
    digest = Manifest.of_bytes(file.read_bytes()).digest[:16]
    record.write_bytes(content)
    record.parent.rename(record.parent.with_name(digest))

    with pytest.raises((InvalidModel, InvalidInput), match=reason):
        models.pull("iris:v1", f"file://{tmp_path}/team")
    assert models.list() == []
    assert left_behind(home) == []


def test_a_push_that_ends_early_is_not_seen_and_can_be_repeated(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/team"
    models.push(store("iris:v1"), url)
    next((tmp_path / "team").rglob("manifest.json")).unlink()

    assert Remote(url).list() == []
    assert models.push("iris:v1", url)


def test_a_push_removes_what_killed_ones_left_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "ABANDONED", -60.0)
    url, model = f"file://{tmp_path}/team", store("iris:v1")
    models.push(model, url)
    [manifest] = (tmp_path / "team").rglob("manifest.json")
    manifest.unlink()
    [file] = (tmp_path / "team").rglob("model.txt")
    kept = [file.with_name("other.txt#1"), file.with_name("model.txt#a")]
    for path in (*kept, file.with_name("model.txt#1"), manifest.with_name("manifest.json#12")):
        path.touch()

    models.push(model, url)

    assert sorted((tmp_path / "team").rglob("*#*")) == sorted(kept)
    (tmp_path / "a.zip#1").touch(), (tmp_path / "b.zip#1").touch()
    models.export_model(model, f"file://{tmp_path}/a.zip")
    assert [path.name for path in tmp_path.glob("*#*")] == ["b.zip#1"]


def test_a_push_leaves_the_upload_of_another_process_alone(tmp_path: Path) -> None:
    url, model = f"file://{tmp_path}/team", store("iris:v1")
    models.push(model, url)
    [manifest] = (tmp_path / "team").rglob("manifest.json")
    manifest.unlink()
    manifest.with_name("manifest.json#1").touch()

    models.push(model, url)

    assert manifest.with_name("manifest.json#1").exists()


@pytest.mark.parametrize("bad", ["team/models", "ssh://host/x", "s3:/team", "nothing://x"])
def test_what_is_not_the_url_of_an_object_store_is_refused(bad: str) -> None:
    store("iris:v1")

    with pytest.raises(InvalidInput, match="s3://bucket/folder"):
        models.push("iris", bad)


def test_a_store_that_cannot_be_reached_is_reported_without_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headrace.store.object_store.RETRIES", {"max_retries": 0})
    store("iris:v1")

    with pytest.raises(StoreFailed, match="'http://127.0.0.1:1/x'") as refusal:
        models.push("iris", "http://user:password@127.0.0.1:1/x?signature=secret")
    assert "secret" not in refusal.value.message
    assert "password" not in refusal.value.message


def test_without_obstore_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    store("iris:v1")

    with pytest.raises(MissingDependency, match=r"pip install 'headrace\[store\]'"):
        models.push("iris", "s3://team/models")
