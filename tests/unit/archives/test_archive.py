"""Archives of environments: sound ones come out as they went in, hostile ones not at all."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import struct
import tarfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.archives import archive, members
from headrace.archives.decompression import Abandoned
from headrace.environments import tarball
from headrace.errors import LoadFailed

CASES = 200
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": zstd.compress,
}
Member = tuple[tarfile.TarInfo, bytes]


def member(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", link: str = ""
) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(content), 0o755
    return info, content


def symlink(name: str, target: str) -> Member:
    return member(name, tarfile.SYMTYPE, link=target)


def hardlink(name: str, target: str) -> Member:
    return member(name, tarfile.LNKTYPE, link=target)


def sound() -> list[Member]:
    return [
        member("./", tarfile.DIRTYPE),
        member("bin", tarfile.DIRTYPE),
        member("bin/python3.11", content=b"#!/bin/sh\n" * 50),
        symlink("bin/python", "python3.11"),
        hardlink("bin/python3", "bin/python3.11"),
        member("lib/python3.11/site.py", content=b"import os\n"),
        symlink("lib64", "lib"),
        symlink("lib/python3.11/up", "../../bin/./python"),
    ]


def packed(parts: list[Member], form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for info, content in parts:
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> bytes:
    """A header alone, whatever follows it."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def amid(rng: random.Random, *extra: Member) -> bytes:
    """The extra members in this order, somewhere among sound ones."""
    parts = sound()
    places = sorted(rng.randrange(len(parts) + 1) for _ in extra)
    for shift, (place, each) in enumerate(zip(places, extra, strict=True)):
        parts.insert(place + shift, each)
    return packed(parts, rng.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))


def spliced(rng: random.Random, raw: bytes) -> bytes:
    """Raw blocks after the sound members, before the end."""
    blocks = packed(sound()).rstrip(b"\0")
    blocks += bytes(-len(blocks) % tarfile.BLOCKSIZE)
    return blocks + raw + bytes(2 * tarfile.BLOCKSIZE)


def out(rng: random.Random) -> str:
    """A name that leads out of a folder."""
    ups = "../" * rng.randint(1, 6)
    return rng.choice(["", "./", "bin/../", "lib/./"]) + "../" * rng.randint(0, 2) + ups + "evil"


def a_device(rng: random.Random) -> bytes:
    kind = rng.choice([tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"Z"])
    if kind in (tarfile.CONTTYPE, b"Z"):
        # Types that tar readers take for files.
        return amid(rng, member(out(rng), kind, b"x"))
    return amid(rng, member("dev", kind))


def a_duplicate(rng: random.Random) -> bytes:
    file, link = member("x", content=b"1"), symlink("x", "bin")
    folder, below = member("x", tarfile.DIRTYPE), member("x/y", content=b"2")
    pairs = [(file, link), (link, file), (folder, link), (file, file), (below, link), (file, below)]
    return amid(rng, *rng.choice(pairs))


def a_long_name(rng: random.Random) -> bytes:
    parts = ["a/" * 2100 + "b", "a" * 300, "/".join(["d" * 100] * 50), "d/" * 200 + "b"]
    return amid(rng, member(rng.choice(parts), content=b"x"))


def a_lie_about_size(rng: random.Random) -> bytes:
    size = rng.choice([10**7, 10**13, -512, -(10**6)])
    return spliced(rng, header("big", size=size) + b"x" * 512)


def a_large_header(rng: random.Random) -> bytes:
    kind = rng.choice([tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
    size = rng.choice([200 * 1024, 10**12])
    return spliced(rng, header("head", kind, size) + b"x" * 200 * 1024)


def many_globals(rng: random.Random) -> bytes:
    records = b"".join(b"%d k%03d=v\n" % (len(b"10 k000=v\n"), n) for n in range(150))
    block = header("g", tarfile.XGLTYPE, len(records)) + records + bytes(-len(records) % 512)
    return spliced(rng, block + packed([member("after", content=b"x")]).rstrip(b"\0"))


def a_sparse_file(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return spliced(rng, header("sparse", tarfile.GNUTYPE_SPARSE, 512) + bytes(512))
    info, content = member("sparse", content=b"0\n" + bytes(510))
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "x",
        "GNU.sparse.realsize": "99999999",
    }
    return packed([*sound(), (info, content)])


def an_impossible_time(rng: random.Random) -> bytes:
    info, content = member("late", content=b"x")
    info.pax_headers = {"mtime": rng.choice(["nan", "inf", "-inf", "1e300", "9" * 30])}
    return packed([*sound(), (info, content)])


def cut_off(rng: random.Random) -> bytes:
    data = packed(sound()).rstrip(b"\0")
    # In a header, in a file, or right after one.
    return data[: rng.choice([rng.randrange(1, len(data)), 512 * rng.randrange(1, 7)])]


def a_broken_header(rng: random.Random) -> bytes:
    data = bytearray(packed(sound()))
    for index in range(8):
        data[rng.choice([0, 512, 1024]) + index * 19] ^= 1 << rng.randrange(7)
    return bytes(data)


def not_an_archive(rng: random.Random) -> bytes:
    return rng.choice(
        [b"", rng.randbytes(5000), b"PK\x03\x04" + bytes(600), b"\x28\xb5\x2f\xfd" + bytes(600)]
    )


HOSTILE: list[Callable[[random.Random], bytes]] = [
    lambda rng: amid(rng, member(out(rng), content=b"evil")),
    lambda rng: amid(rng, member("/" * rng.randint(1, 3) + "tmp/evil", content=b"evil")),
    lambda rng: amid(rng, symlink("x", rng.choice(["/etc/passwd", "/", "//tmp"]))),
    # Up to the folder above, or further.
    lambda rng: amid(
        rng, symlink("a/" * (n := rng.randrange(3)) + "x", "../" * (n + rng.choice([1, 1, 6])))
    ),
    lambda rng: amid(rng, symlink("d", "."), symlink("e", "d/../evil")),
    lambda rng: amid(rng, symlink("d", "lib"), member("d/evil", content=b"evil")),
    lambda rng: amid(rng, hardlink("x", rng.choice(["/etc/passwd", "../evil", "none", "bin"]))),
    lambda rng: amid(rng, symlink("s", "bin"), hardlink("x", "s")),
    lambda rng: amid(rng, *[member(f"many/{n}") for n in range(members.MOST_MEMBERS + 1)]),
    lambda rng: amid(rng, member("zeros", content=bytes(rng.randint(2, 5) * 1024 * 1024))),
    a_device,
    a_duplicate,
    a_long_name,
    a_lie_about_size,
    a_large_header,
    many_globals,
    a_sparse_file,
    an_impossible_time,
    cut_off,
    a_broken_header,
    not_an_archive,
]  # fmt: skip


@pytest.fixture(autouse=True)
def _small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bombs that burst early, so that hundreds of them cost seconds."""
    monkeypatch.setattr(archive, "ALWAYS_ALLOWED", 1024 * 1024)
    monkeypatch.setattr(archive, "MOST_BYTES", 1536 * 1024)
    monkeypatch.setattr(members, "MOST_MEMBERS", 100)


def unpack(file: Path, folder: Path) -> None:
    tarball.unpack_files(file, folder, threading.Event())


def everything_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("seed", range(CASES))
def test_a_hostile_archive_is_refused_whole(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    name, compress = rng.choice(list(COMPRESSIONS.items()))
    file = tmp_path / "deep" / "down" / f"hostile.{name}"
    file.parent.mkdir(parents=True)
    file.write_bytes(compress(HOSTILE[seed % len(HOSTILE)](rng)))
    before = everything_below(tmp_path)

    with pytest.raises(LoadFailed) as refusal:
        unpack(file, file.parent / "environment")

    assert "bin/python" not in refusal.value.message, "unpacked, and refused for another reason"
    assert str(tmp_path) not in refusal.value.message
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_sound_archive_comes_out_as_it_went_in(tmp_path: Path, name: str, form: int) -> None:
    file = tmp_path / f"sound.{name}"
    file.write_bytes(COMPRESSIONS[name](packed(sound(), form)))

    unpack(file, tmp_path / "e")

    assert (tmp_path / "e/bin/python").read_bytes() == b"#!/bin/sh\n" * 50
    assert os.access(tmp_path / "e/bin/python", os.X_OK)
    assert (tmp_path / "e/bin/python3").samefile(tmp_path / "e/bin/python")
    assert (tmp_path / "e/lib64/python3.11/site.py").read_text() == "import os\n"
    assert (tmp_path / "e/lib/python3.11/up").samefile(tmp_path / "e/bin/python3.11")


def test_bits_that_change_the_user_are_dropped_and_times_kept(tmp_path: Path) -> None:
    info, content = member("bin/tool", content=b"x")
    info.mode, info.mtime = 0o7777, 1_000_000_000
    (tmp_path / "a.tar").write_bytes(packed([*sound(), (info, content)]))

    unpack(tmp_path / "a.tar", tmp_path / "e")

    status = (tmp_path / "e/bin/tool").stat()
    assert (status.st_mode & 0o7777, status.st_mtime) == (0o755, 1_000_000_000)


def test_an_archive_without_python_at_its_top_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(packed([member("env/bin/python", content=b"x")]))

    with pytest.raises(LoadFailed, match="no bin/python at its top"):
        unpack(tmp_path / "a.tar", tmp_path / "e")
    assert not (tmp_path / "e").exists()


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(sorted(COMPRESSIONS)),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
    keep=st.floats(0, 1),
)
def test_a_damaged_archive_is_at_worst_refused(
    tmp_path: Path, name: str, changes: list[tuple[float, int]], keep: float
) -> None:
    data = bytearray(COMPRESSIONS[name](packed(sound()).rstrip(b"\0") + bytes(1024)))
    for place, value in changes:
        data[int(place * len(data))] = value
    with (tmp_path / "damaged").open("w+b") as file:
        file.write(data[: int(keep * len(data)) + 1])
        file.flush()
        with contextlib.suppress(LoadFailed):
            archive.Archive(file, threading.Event()).check("bin/python")


def test_unpacking_stops_when_nobody_wants_it_any_more(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(packed(sound()))
    stop = threading.Event()
    stop.set()

    with pytest.raises(Abandoned):
        tarball.unpack_files(tmp_path / "a.tar", tmp_path / "e", stop)


@pytest.mark.parametrize("name", ["tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
def test_unpacking_stops_in_the_middle_of_data_that_yields_nothing(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / f"a.{name}"
    file.write_bytes(COMPRESSIONS[name](b"") * 200_000)

    with pytest.raises(Abandoned):
        tarball.unpack_files(file, tmp_path / "e", After(2))


class After:
    """Set once it has been asked `times` times."""

    def __init__(self, times: int) -> None:
        self._left = times

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


@pytest.mark.parametrize("name", ["tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
def test_an_archive_may_be_compressed_in_several_parts(tmp_path: Path, name: str) -> None:
    data, compress = packed(sound()), COMPRESSIONS[name]
    (tmp_path / "a").write_bytes(compress(data[:700]) + compress(b"") + compress(data[700:]))

    unpack(tmp_path / "a", tmp_path / "e")

    assert (tmp_path / "e/bin/python").read_bytes() == b"#!/bin/sh\n" * 50


def test_streams_of_xz_may_be_padded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(lzma.compress(packed(sound())) + bytes(4))

    unpack(tmp_path / "a", tmp_path / "e")

    assert (tmp_path / "e/bin/python").exists()


def test_a_small_file_that_would_take_much_memory_is_refused(tmp_path: Path) -> None:
    stream = bytearray(lzma.compress(packed(sound()), filters=[{"id": lzma.FILTER_LZMA2}]))
    header = slice(12, 12 + (stream[12] + 1) * 4)
    block = stream[header]
    # The size of the dictionary: 4 GiB.
    block[block.index(b"\x21\x01") + 2] = 40
    block[-4:] = struct.pack("<I", zlib.crc32(block[:-4]))
    stream[header] = block
    assert lzma.decompress(stream) == packed(sound()), "it is sound"
    (tmp_path / "a").write_bytes(stream)

    with pytest.raises(LoadFailed, match="more than 268435456 bytes of memory"):
        unpack(tmp_path / "a", tmp_path / "e")
