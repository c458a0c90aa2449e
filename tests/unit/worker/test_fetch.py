"""The digest of a model that was fetched."""

from __future__ import annotations

import hashlib
from pathlib import Path

from headrace.worker.fetch import digest


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_digest_is_that_of_the_lines_of_all_files(tmp_path: Path) -> None:
    write(tmp_path, MLmodel="flavors", data__weights="abc")
    lines = sorted(
        f"{hashlib.sha256(text.encode()).hexdigest()} {len(text)} {path}"
        for path, text in (("MLmodel", "flavors"), ("data/weights", "abc"))
    )

    assert digest(str(tmp_path)) == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_the_same_files_elsewhere_have_the_same_digest_and_others_do_not(tmp_path: Path) -> None:
    one = digest(str(write(tmp_path / "one", MLmodel="flavors", data__weights="abc")))

    assert digest(str(write(tmp_path / "two", MLmodel="flavors", data__weights="abc"))) == one
    assert digest(str(write(tmp_path / "three", MLmodel="flavors", data__weights="abd"))) != one
    assert digest(str(write(tmp_path / "four", MLmodel="flavors", weights="abc"))) != one


def test_what_the_client_adds_for_a_version_is_not_part_of_the_model(tmp_path: Path) -> None:
    before = digest(str(write(tmp_path, MLmodel="flavors")))
    write(tmp_path, registered_model_meta="model_version: 7")

    assert digest(str(tmp_path)) == before
