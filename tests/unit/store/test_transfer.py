"""Models in and out of the store as archives and folders."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from headrace import models
from headrace.archives import archive
from headrace.errors import Conflict, InvalidInput, InvalidModel, LoadFailed, NotFound
from support.stored import left_behind, require_sound, store

FORMATS = ["tar.zst", "tar.gz", "tar.xz", "tar.bz2", "tar", "zip", "folder"]
RECORD = """\
name: {name}
version: {version}
module: {module}
labels: {{}}
options: {{}}
metadata: {{}}
context:
  framework_name: sklearn
  framework_versions: {{scikit-learn: 1.2.0}}
  bentoml_version: 1.0.10
  python_version: 3.9.15
signatures:
  predict: {{batchable: false}}
api_version: v1
creation_time: '2022-12-01T10:45:15.419719+00:00'
"""


def write(folder: Path, name: str = "iris", version: str = "v1", module: str = "sklearn") -> Path:
    """A model's folder as BentoML 1.0 writes it."""
    folder.mkdir(parents=True)
    record = RECORD.format(name=name, version=version, module=f"bentoml.{module}")
    (folder / "model.yaml").write_text(record)
    (folder / "saved_model.pkl").write_bytes(b"pickled")
    return folder


def packed(file: Path, parts: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w:xz" if file.suffix == ".bentomodel" else "w") as tar:
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


@pytest.mark.parametrize("form", FORMATS)
def test_a_model_comes_back_from_every_format_as_it_was(tmp_path: Path, form: str) -> None:
    with models.create("iris:v1", module="headrace.sklearn", metadata={"a": 1}) as model:
        Path(model.path_of("big.bin")).write_bytes(os.urandom(3_000_000))
        os.makedirs(model.path_of("folder/empty"))
        Path(model.path_of("folder/ä b.txt")).write_text("x")
        Path(model.path_of("nothing")).touch()
    info, path = model.info, tmp_path / f"out.{form}"

    assert models.export_model("iris", path, form) == str(path)
    models.delete("iris")
    back = models.import_model(path)

    assert back.info == info
    back.verify()
    assert Path(back.path_of("folder/empty")).is_dir()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "folder"])
def test_the_same_model_makes_the_same_archive(tmp_path: Path, form: str) -> None:
    model = store()
    first, second = tmp_path / f"a.{form}", tmp_path / f"b.{form}"
    model.export(first)
    os.utime(model.path_of("model.txt"), (0, 0))
    model.export(second)

    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in (first, second)}
    assert len(digests) == 1


def test_where_an_export_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store("iris:v1")
    monkeypatch.chdir(tmp_path)

    assert models.export_model("iris", ".") == "iris-v1.tar.zst"
    assert models.export_model("iris", "new/") == "new/iris-v1.tar.zst"
    assert models.export_model("iris", tmp_path, "zip") == str(tmp_path / "iris-v1.zip")
    assert models.export_model("iris", "folder") == "folder"
    assert Path("folder/model.yaml").is_file()
    assert models.export_model("iris", "a.bentomodel") == "a.bentomodel"
    assert lzma.decompress(Path("a.bentomodel").read_bytes()).startswith(b".manifest.json")
    with pytest.raises(Conflict, match="not an empty folder"):
        models.export_model("iris", "folder", "folder")
    with pytest.raises(InvalidInput, match="no format 'rar'"):
        models.export_model("iris", "a", "rar")


def test_an_archive_that_exists_is_replaced_only_if_asked(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("old")
    model = store("iris:v1")

    with pytest.raises(Conflict, match="a.zip' exists"):
        model.export(tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_text() == "old"
    model.export(tmp_path / "a.zip", overwrite=True)
    assert zipfile.is_zipfile(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["a.rar", "a.7z", "iris-v1.2", "a.tar.lz4"])
def test_an_end_that_is_of_no_archive_is_refused_instead_of_made_a_folder(
    tmp_path: Path, name: str
) -> None:
    model = store("iris:v1")

    with pytest.raises(
        InvalidInput, match=r"is no known archive format, expected one of \.tar\.zst"
    ):
        model.export(tmp_path / name)
    assert not list(tmp_path.glob("*.*"))
    assert model.export(tmp_path / name, "folder") == str(tmp_path / name)


@pytest.mark.parametrize(
    ("theirs", "magic"), [("gz", b"\x1f\x8b"), ("xz", b"\xfd7zXZ"), ("bz2", b"BZh")]
)
def test_a_format_may_have_bentomls_name(tmp_path: Path, theirs: str, magic: bytes) -> None:
    model = store("iris:v1")
    path = models.export_model(model, tmp_path / "out", output_format=theirs)

    assert Path(path).read_bytes().startswith(magic)
    models.delete(model)
    assert models.import_model(path, input_format=theirs) == model


def test_a_bento_is_told_apart_from_a_model(tmp_path: Path) -> None:
    write(tmp_path / "bento/models/iris/v1")
    write(tmp_path / "bento/models/rose/v1", "rose")
    (tmp_path / "bento/bento.yaml").write_text("service: service:svc\n")
    parts = {"bento.yaml": b"", "models/iris/v1/model.yaml": b""}

    for place in (tmp_path / "bento", packed(tmp_path / "a.bento", parts)):
        with pytest.raises(InvalidModel, match="a bento, which BentoML built: unpack it"):
            models.import_model(place)


def test_a_changed_model_is_not_exported(tmp_path: Path) -> None:
    model = store()
    Path(model.path_of("model.txt")).write_text("changed")

    with pytest.raises(InvalidModel, match="model.txt"):
        model.export(tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_importing_what_is_there_changes_nothing(tmp_path: Path) -> None:
    model = store("iris:v1")
    path = model.export(tmp_path / "a.zip")

    assert models.import_model(path) == model
    models.delete(model)
    store("iris:v1", "other")
    with pytest.raises(Conflict, match="'iris:v1' exists"):
        models.import_model(path)


@pytest.mark.parametrize("module", ["sklearn", "pytorch", "picklable_model"])
def test_the_folder_of_a_model_of_bentoml_is_read(tmp_path: Path, module: str) -> None:
    model = models.import_model(write(tmp_path / "store/models/iris/v1", module=module))

    assert str(model.tag) == "iris:v1"
    assert model.info.module == f"headrace.{module}"
    assert model.info.context["bentoml_version"] == "1.0.10"
    assert Path(model.path_of("saved_model.pkl")).read_bytes() == b"pickled"
    model.verify()


def test_an_archive_of_bentoml_is_read(tmp_path: Path) -> None:
    record = RECORD.format(name="iris", version="v1", module="vtsserving.keras").encode()
    file = packed(tmp_path / "iris.bentomodel", {"./model.yaml": record, "./saved_model/a": b"x"})

    model = models.import_model(file)

    assert (str(model.tag), model.info.module) == ("iris:v1", "headrace.keras")
    assert model.info.digests.keys() == {"model.yaml", "saved_model/a"}


def test_a_record_may_be_in_a_folder_of_its_name_and_version(tmp_path: Path) -> None:
    write(tmp_path / "a/iris/v1")
    assert str(models.import_model(tmp_path / "a").tag) == "iris:v1"

    write(tmp_path / "b/iris/v2", version="v2"), write(tmp_path / "b/iris/v3", version="v3")
    with pytest.raises(InvalidModel, match="2 times 'model.yaml'"):
        models.import_model(tmp_path / "b")


SOUND = RECORD.format(name="iris", version="v1", module="bentoml.sklearn").encode()
HOSTILE = {
    "a name that leads out": {"model.yaml": SOUND, "../../evil": b"x"},
    "an absolute name": {"model.yaml": SOUND, "/tmp/evil": b"x"},
    "a hostile tag": {"model.yaml": SOUND.replace(b"name: iris", b"name: ../../evil")},
    "a hostile version": {"model.yaml": SOUND.replace(b"version: v1", b"version: ..")},
    "the latest version": {"model.yaml": SOUND.replace(b"version: v1", b"version: latest")},
    "code in the record": {"model.yaml": b"a: !!python/object/apply:os.system ['touch evil']"},
    "no record": {"model.pkl": b"x"},
    "two records": {"a/model.yaml": SOUND, "b/model.yaml": SOUND},
    "a manifest of other files": {
        "model.yaml": SOUND,
        ".manifest.json": b'{"files": {}, "folders": []}',
    },
    "a manifest that leads out": {
        "model.yaml": SOUND,
        ".manifest.json": b'{"files": {"../x": {"size": 1, "sha256": ""}}, "folders": []}',
    },
    "a name for a terminal": {"model.yaml": SOUND, "\x1b[2J": b"x"},
    "a bomb": {"model.yaml": SOUND, "zeros": bytes(3_000_000)},
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("end", [".tar", ".bentomodel", ".zip"])
def test_a_hostile_archive_is_refused_whole(
    home: Path, tmp_path: Path, kind: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "ALWAYS_ALLOWED", 100_000)
    monkeypatch.setattr("headrace.store.transfer.MOST_BYTES", 1_000_000)
    file = tmp_path / f"hostile{end}"
    if end == ".zip":
        with zipfile.ZipFile(file, "w") as made:
            for name, content in HOSTILE[kind].items():
                made.writestr(name, content)
    else:
        packed(file, HOSTILE[kind])

    with pytest.raises((LoadFailed, InvalidInput)):
        models.import_model(file)

    assert models.list() == []
    assert left_behind(home) == []
    assert not list(tmp_path.rglob("*evil*")) + list(Path().glob("evil"))


def test_a_folder_whose_links_lead_out_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    (folder / "secret").symlink_to("/etc/passwd")

    with pytest.raises(InvalidInput, match="link out of the folder"):
        models.import_model(folder)
    require_sound(tmp_path / "home")


def test_links_in_a_circle_are_refused(home: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")

    with pytest.raises(InvalidInput, match="m': '[ab]' is a link to something that is not a file"):
        models.import_model(folder)
    assert left_behind(home) == []


def test_what_is_not_there_or_no_archive_is_reported(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not an archive")

    with pytest.raises(InvalidModel, match=r"nothing': there is no such file"):
        models.import_model(tmp_path / "nothing")
    with pytest.raises(InvalidModel, match="text': it is damaged"):
        models.import_model(tmp_path / "text")
    with pytest.raises(NotFound):
        models.export_model("rose", tmp_path)
