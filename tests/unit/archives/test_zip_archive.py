"""Zip files: sound ones come out as they went in, hostile ones not at all."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.archives import archive, members, zip_archive
from headrace.archives.zip_archive import extract_zip
from headrace.errors import InvalidModel

MOST = 10**9


def zipped(*parts: tuple[str, bytes, int], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file of names, contents and modes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content, mode in parts:
            info = zipfile.ZipInfo("x")
            # Set later, or Python would mend it.
            info.filename, info.external_attr, info.compress_type = name, mode << 16, method
            made.writestr(info, content)
    return file.getvalue()


def plain(name: str, content: bytes = b"x") -> tuple[str, bytes, int]:
    return name, content, stat.S_IFREG | 0o644


def link(name: str, target: str) -> tuple[str, bytes, int]:
    return name, target.encode(), stat.S_IFLNK | 0o777


def extract(tmp_path: Path, data: bytes, most: int = MOST) -> Path:
    (tmp_path / "a.zip").write_bytes(data)
    (tmp_path / "deep/out").mkdir(parents=True)
    with (tmp_path / "a.zip").open("rb") as file:
        extract_zip(file, tmp_path / "deep/out", most)
    return tmp_path / "deep/out"


def false_size() -> bytes:
    data = bytearray(zipped(plain("a", b"x" * 10**6)))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(signature) + offset
        data[place : place + 4] = (5).to_bytes(4, "little")
    return bytes(data)


def huge_directory() -> bytes:
    data = bytearray(zipped(plain("a")))
    place = data.index(b"PK\x05\x06")
    data[place + 12 : place + 16] = (2**31).to_bytes(4, "little")
    return bytes(data)


def encrypted() -> bytes:
    data = bytearray(zipped(plain("a")))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "leads out": lambda: zipped(plain("../../evil")),
    "absolute": lambda: zipped(plain("/tmp/evil")),
    "in the middle": lambda: zipped(plain("a/../../../evil")),
    "link out": lambda: zipped(link("a", "../../..")),
    "absolute link": lambda: zipped(link("a", "/etc")),
    "through a link": lambda: zipped(link("a", "."), plain("a/evil")),
    "twice": lambda: zipped(plain("a"), link("a", "b")),
    "a device": lambda: zipped(("dev", b"", stat.S_IFCHR | 0o666)),
    "a long name": lambda: zipped(plain("a" * 300)),
    "a long link": lambda: zipped(link("a", "b" * 5000)),
    "bomb": lambda: zipped(plain("a", bytes(3_000_000))),
    "another method": lambda: zipped(plain("a"), method=zipfile.ZIP_LZMA),
    "encrypted": encrypted,
    "false size": false_size,
    "huge directory": huge_directory,
    "cut off": lambda: zipped(plain("a"))[:-30],
    "changed": lambda: zipped(plain("a", b"abc" * 100)).replace(b"PK\x03\x04", b"PK\x03\x05"),
    "not a zip file": lambda: b"PK\x03\x04" + bytes(100),
    "many": lambda: zipped(*[plain(f"{n}") for n in range(101)]),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_zip_file_is_refused_and_nothing_is_outside(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "ALWAYS_ALLOWED", 1_000_000)
    monkeypatch.setattr(members, "MOST_MEMBERS", 100)
    with pytest.raises(InvalidModel) as refusal:
        extract(tmp_path, HOSTILE[kind]())

    assert str(tmp_path) not in refusal.value.message
    outside = {path.name for path in tmp_path.rglob("*")} - {"a.zip", "deep", "out"}
    assert "evil" not in outside


def test_a_sound_zip_file_comes_out_as_it_went_in(tmp_path: Path) -> None:
    out = extract(
        tmp_path,
        zipped(
            ("d/", b"", stat.S_IFDIR | 0o755),
            plain("d/a", b"one"),
            ("run", b"#!", stat.S_IFREG | 0o4755),
            link("b", "d/a"),
            ("from dos", b"two", 0),
        ),
    )

    assert (out / "b").read_bytes() == (out / "d/a").read_bytes() == b"one"
    assert (out / "from dos").read_bytes() == b"two"
    assert (out / "run").stat().st_mode & 0o7777 == 0o755


def test_the_bound_of_the_directory_covers_zip64(tmp_path: Path) -> None:
    record = b"PK\x06\x06" + bytes(36) + (2**40).to_bytes(8, "little") + bytes(8)
    locator = b"PK\x06\x07" + bytes(4) + (4).to_bytes(8, "little") + bytes(4)
    end = b"PK\x05\x06" + b"\xff" * 16 + bytes(2)

    with pytest.raises(InvalidModel, match=f"over {zip_archive.LARGEST_DIRECTORY} bytes"):
        extract(tmp_path, b"PK\x03\x04" + record + locator + end)
