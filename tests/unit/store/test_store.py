"""Items: found by tag, made whole or not at all, removed at once."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest

from headrace import models
from headrace.errors import Conflict, InvalidInput, InvalidModel, NotFound, StoreFailed
from headrace.store.kinds import BUNDLES, MODELS
from headrace.store.store import Store
from support.stored import left_behind, require_sound, store


def test_a_model_is_found_by_name_version_and_latest() -> None:
    first, second = store("iris:v1"), store("iris")

    assert models.get("iris:v1") == first
    assert models.get("iris") == models.get("iris:latest") == models.get(second.tag) == second
    assert [str(model.tag) for model in models.list()] == sorted(
        str(model.tag) for model in (first, second)
    )


def test_the_beginning_of_just_one_version_is_enough() -> None:
    store("iris:other-a"), store("iris:other-b"), store("iris:v1"), store("iris:v10")

    assert str(models.get("iris:v1").tag) == "iris:v1"
    assert str(models.get("iris:other-b").tag) == "iris:other-b"
    with pytest.raises(InvalidInput, match="2 versions begin like.*'other-a', 'other-b'"):
        models.get("iris:oth")


def test_what_is_not_there_is_reported_with_what_is() -> None:
    store("iris:v1")

    with pytest.raises(NotFound, match="its versions are 'v1'.*headrace models list"):
        models.get("iris:x")
    with pytest.raises(NotFound, match="none of that name"):
        models.get("rose")
    with pytest.raises(NotFound):
        models.list("rose")
    with pytest.raises(NotFound):
        models.delete("iris:x")
    assert models.list("iris:x") == []


def test_an_empty_store_is_empty_and_reading_makes_nothing(home: Path) -> None:
    assert models.list() == []
    assert not home.exists()


def test_latest_is_the_one_made_last_and_not_the_one_stored_last(home: Path) -> None:
    old = store("iris:b-old")
    archive = models.export_model(old, home.parent / "old.tar.gz")
    models.delete(old)
    new = store("iris:a-new")
    models.import_model(archive)

    assert models.get("iris") == new
    models.delete(new)
    assert models.get("iris") == old


@pytest.mark.parametrize("content", [None, b"gone", b"", b"\xff\xfe"])
def test_a_latest_that_names_nothing_is_looked_for(home: Path, content: bytes | None) -> None:
    store("iris:b"), store("iris:a")
    file = home / "models/iris/latest"
    file.unlink() if content is None else file.write_bytes(content)

    assert str(models.get("iris").tag) == "iris:a"


def test_other_things_in_the_store_are_not_models(home: Path) -> None:
    store("iris:v1")
    for place in (".DS_Store", "iris/.DS_Store", "iris/notes.txt"):
        (home / "models" / place).write_bytes(b"x")
    for place in ("UPPER/v1", "iris/Upper", "iris/half", "a b/v1"):
        (home / "models" / place).mkdir(parents=True)

    assert [str(model.tag) for model in models.list()] == ["iris:v1"]


def test_a_model_whose_record_is_broken_hides_no_other(home: Path) -> None:
    store("iris:v1"), store("iris:v2")
    (home / "models/iris/v2/model.yaml").write_text("name: [")

    assert [str(model.tag) for model in models.list()] == ["iris:v1"]
    with pytest.raises(InvalidModel, match="model 'iris:v2': 'model.yaml' is not valid YAML"):
        models.get("iris:v2")
    store("iris:v3")
    assert str(models.get("iris").tag) == "iris:v3"


def half_made() -> None:
    with models.create("iris", module="headrace.sklearn") as model:
        Path(model.path_of("half")).write_text("x")
        Path(model.path_of("nowhere/half")).write_text("x")


def test_a_block_that_raises_leaves_nothing(home: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        half_made()

    assert models.list() == []
    assert left_behind(home) == []
    assert not (home / "models/iris").exists()


def test_a_version_is_never_overwritten(home: Path) -> None:
    store("iris:v1", "first")

    with pytest.raises(Conflict, match="'iris:v1' exists"):
        store("iris:v1", "second")
    assert Path(models.get("iris:v1").path_of("model.txt")).read_text() == "first"


def test_two_at_once_do_not_get_the_same_version(home: Path) -> None:
    with pytest.raises(Conflict), models.create("iris:v1", module="headrace.sklearn"):
        store("iris:v1")

    require_sound(home)
    assert left_behind(home) == []


def test_what_a_half_finished_program_left_is_not_overwritten_either(home: Path) -> None:
    (home / "models/iris/v1").mkdir(parents=True)
    (home / "models/iris/v1/precious").write_text("x")

    with pytest.raises(Conflict, match="without a record"):
        store("iris:v1")


def test_latest_is_not_a_version() -> None:
    with pytest.raises(InvalidInput, match="reserved"):
        store("iris:latest")


def test_deleting_removes_one_version_the_latest_or_all_of_a_name(home: Path) -> None:
    for version in ("v1", "v2", "v3", "v4"):
        store(f"iris:{version}")
    store("rose:v1")

    assert [str(tag) for tag in models.delete("iris:v3")] == ["iris:v3"]
    assert [str(tag) for tag in models.delete("iris:latest")] == ["iris:v4"]
    assert str(models.get("iris").tag) == "iris:v2"
    assert [str(tag) for tag in models.delete("iris")] == ["iris:v1", "iris:v2"]
    models.delete("rose:v1")
    assert {path.name for path in (home / "models").iterdir()} == {".lock", ".staging"}
    assert left_behind(home) == []


def test_a_model_that_is_held_knows_where_it_is_and_was(home: Path) -> None:
    with models.create("iris:v1", module="headrace.sklearn") as model:
        Path(model.path, "model.txt").write_text("x")
        before = model.path

    assert model.path == f"{home}/models/iris/v1/" != before
    assert Path(model.path_of("model.txt")).read_text() == "x"
    assert model.info.digests.keys() == {"model.txt", "model.yaml"}


def test_changed_missing_and_added_files_are_found(home: Path) -> None:
    for n, change in enumerate(
        (
            lambda file: file.write_text("weightz"),
            lambda file: file.write_text("longer than it was"),
            lambda file: file.unlink(),
            lambda file: file.with_name("more.txt").write_text("x"),
            lambda file: (file.unlink(), file.mkdir()),
        )
    ):
        model = store(f"iris:v{n}")
        change(Path(model.path_of("model.txt")))
        with pytest.raises(InvalidModel, match=f"'iris:v{n}': file '(model|more).txt'"):
            model.verify()


def test_links_to_files_inside_become_files_and_others_are_refused(
    home: Path, tmp_path: Path
) -> None:
    with models.create("iris:v1", module="headrace.sklearn") as model:
        Path(model.path_of("a")).write_text("x")
        Path(model.path_of("b")).symlink_to("a")
    assert not Path(model.path_of("b")).is_symlink()
    assert Path(model.path_of("b")).read_text() == "x"

    (tmp_path / "secret").write_text("x")
    for target in (tmp_path / "secret", "../../../secret", ".", "nothing", "/dev/zero"):
        with (
            pytest.raises(InvalidInput, match="is a link"),
            models.create("iris", module="headrace.sklearn") as model,
        ):
            Path(model.path_of("b")).symlink_to(target)
    assert len(models.list()) == 1


def test_a_pipe_is_refused_and_not_waited_for() -> None:
    with (
        pytest.raises(InvalidInput, match="neither a file nor a folder"),
        models.create("iris", module="headrace.sklearn") as model,
    ):
        os.mkfifo(model.path_of("pipe"))


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", os.fsdecode(b"\xff"), "\u202egnp.exe"])
def test_names_of_files_that_others_could_not_read_are_refused(name: str) -> None:
    with (
        pytest.raises(InvalidInput, match="its name has characters"),
        models.create("iris", module="headrace.sklearn") as model,
    ):
        Path(model.path_of(name)).write_text("x")


def test_the_record_is_ours_to_write() -> None:
    with (
        pytest.raises(InvalidInput, match="the model's record"),
        models.create("iris", module="headrace.sklearn") as model,
    ):
        Path(model.path_of("model.yaml")).write_text("x")


def test_a_path_does_not_lead_out_of_the_model() -> None:
    model = store()

    for name in ("..", "../v2/model.txt", "/etc/passwd", "a/../../x"):
        with pytest.raises(InvalidInput, match="leads out"):
            model.path_of(name)


def test_an_unwritable_store_is_reported_with_the_variable_that_moves_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write_text("a file where the folder should be")

    with pytest.raises(StoreFailed, match="the store: Not a directory"):
        store()


def test_a_store_that_cannot_be_written_can_be_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store("iris:v1"), store("iris:v2")
    (home / "models/iris/latest").unlink()
    opened = os.open

    def read_only(path: str, flags: int, *rest: int, **more: int) -> int:
        if str(path).startswith(str(home)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(30, "Read-only file system", str(path))
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", read_only)

    model = models.get("iris")
    model.verify()
    assert str(model.tag) == "iris:v2"
    assert len(models.list()) == 2
    with pytest.raises(StoreFailed, match="HEADRACE_HOME names the folder"):
        store("iris:v3")


def test_a_copy_under_another_tag_shares_the_files_and_keeps_the_time() -> None:
    model = store("iris:v1", labels={"a": "b"})
    newer = store("iris:v2")

    copy = models.copy("iris:v1", "iris:prod")

    assert (str(copy.tag), copy.info.labels) == ("iris:prod", {"a": "b"})
    assert copy.info.creation_time == model.info.creation_time
    assert os.path.samefile(copy.path_of("model.txt"), model.path_of("model.txt"))
    copy.verify()
    model.verify()
    assert models.get("iris") == newer
    models.copy("iris:v2", "iris:zzz")
    assert models.get("iris") == newer
    assert str(models.copy("iris:v1", "rose").tag) == "rose:v1"
    with pytest.raises(Conflict):
        models.copy("iris:v2", "iris:prod")


def test_bundles_have_a_store_of_their_own(home: Path) -> None:
    created = datetime.datetime.now(datetime.UTC).isoformat()
    with Store(BUNDLES).create("svc:v1") as draft:
        (draft.path / "bundle.yaml").write_text(
            f"name: svc\nversion: v1\ncreation_time: '{created}'\n"
        )

    assert [str(item.tag) for item in Store(BUNDLES).list()] == ["svc:v1"]
    assert Store(BUNDLES).get("svc").path == home / "bundles/svc/v1"
    assert Store(MODELS).list() == []


def test_a_folder_without_a_record_is_not_stored() -> None:
    with pytest.raises(InvalidModel, match="has no bundle.yaml"), Store(BUNDLES).create("svc"):
        pass


def test_a_model_may_be_called_latest() -> None:
    model = store("latest:v1")

    assert models.list() == models.list("latest") == [model]
    assert models.get("latest:latest") == model
    models.delete("latest")
    assert models.list() == []
