"""Archives that are sound but for one thing, or for some bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from backports import zstd

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "tar.gz": lambda data: gzip.compress(data, mtime=0),
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": zstd.compress,
}
MIB = 1024 * 1024


class Member(NamedTuple):
    """A member of an archive, whatever its form."""

    name: str
    content: bytes = b""
    kind: bytes = tarfile.REGTYPE
    link: str = ""


def archives(rng: random.Random, base: Mapping[str, bytes]) -> Iterator[tuple[str, bytes, str]]:
    """Endlessly: how the name of a file ends, its content, and what is wrong with it.

    `base` is what a sound one has in it. What is wrong with members alone ends with "!": such an
    archive may not be taken, whatever its form.
    """
    sound = [Member(name, content) for name, content in base.items()]
    while True:
        for wrong, make in MEMBERS.items():
            parts = list(sound)
            for extra in make(rng):
                parts.insert(
                    rng.randint(0, len(parts)) if "order" not in wrong else len(parts), extra
                )
            form = rng.choice([*PACKERS, "zip"])
            if form == "zip" and "tar" in wrong:
                form = "tar.gz"
            yield form, packed(rng, parts, form), f"{wrong}!"
        for wrong, change in BYTES.items():
            form = rng.choice([*PACKERS, "zip"])
            yield form, change(rng, packed(rng, sound, form)), wrong


def packed(rng: random.Random, members: list[Member], form: str) -> bytes:
    """The members as an archive."""
    file = io.BytesIO()
    if form == "zip":
        with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
            warnings.simplefilter("ignore")
            for each in members:
                _add_to_zip(out, each)
        return file.getvalue()
    style = rng.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
    with tarfile.open(fileobj=file, mode="w", format=style) as tar:
        for each in members:
            info = tarfile.TarInfo(each.name)
            info.type, info.linkname, info.size = each.kind, each.link, len(each.content)
            tar.addfile(info, io.BytesIO(each.content))
    return PACKERS[form](file.getvalue())


MODES = {
    tarfile.SYMTYPE: stat.S_IFLNK, tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO, tarfile.LNKTYPE: stat.S_IFSOCK, tarfile.CONTTYPE: stat.S_IFSOCK,
    b"Z": stat.S_IFSOCK,
}  # fmt: skip


def _add_to_zip(out: zipfile.ZipFile, member: Member) -> None:
    info = zipfile.ZipInfo(member.name)
    # The constructor ends names at a NUL, which others do not.
    info.filename = member.name
    info.external_attr = (MODES.get(member.kind, stat.S_IFREG) | 0o644) << 16
    out.writestr(info, member.link.encode() if member.link else member.content)


def _way_out(rng: random.Random) -> str:
    start = rng.choice(["", "./", "a/../", "a/b/../../", "//", ".//"])
    return start.lstrip("/") + "../" * rng.randint(1, 6) + "evil"


def _link(rng: random.Random, kind: bytes) -> list[Member]:
    target = rng.choice(["/etc/passwd", "/", "..", "../..", "../../../evil", "a/../../..", "//tmp"])
    return [Member("link", b"", kind, target)]


def _through_a_link(rng: random.Random) -> list[Member]:
    return [Member("d", b"", tarfile.SYMTYPE, "."), Member("d/evil", b"evil")]


MEMBERS: dict[str, Callable[[random.Random], list[Member]]] = {
    "leads out": lambda rng: [Member(_way_out(rng), b"evil")],
    "is absolute": lambda rng: [Member("/" * rng.randint(1, 3) + "tmp/evil", b"evil")],
    "is a symbolic link": lambda rng: _link(rng, tarfile.SYMTYPE),
    "is a hard link": lambda rng: _link(rng, tarfile.LNKTYPE),
    "is below a link, in this order": _through_a_link,
    "is a link to a link, in this order": lambda rng: [
        Member("d", b"", tarfile.SYMTYPE, "."),
        Member("e", b"", tarfile.SYMTYPE, "d/../evil"),
    ],
    "is a device": lambda rng: [
        Member("x", b"", rng.choice([tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]))
    ],
    "is sparse, tar": lambda rng: [Member("x", bytes(512), tarfile.GNUTYPE_SPARSE)],
    "appears twice": lambda rng: [Member("x", b"1"), Member("x", b"2")],
    "appears twice by other names": lambda rng: [Member("x", b"1"), Member("./a/../x", b"2")],
    "is a file and a folder": lambda rng: [Member("x", b"1"), Member("x/y", b"2")],
    "is too deep": lambda rng: [Member("d/" * 2100 + "x", b"1")],
    "is too long": lambda rng: [Member("a" * rng.choice([256, 300, 5000]), b"1")],
    "is a bomb": lambda rng: [Member("x", bytes(rng.randint(3, 6) * MIB))],
    "is one of too many": lambda rng: [Member(f"many/{n}") for n in range(101)],
}


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwritten(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randint(1, 600)) + data[at + rng.randint(0, 600) :]


def _lying(rng: random.Random, data: bytes) -> bytes:
    """Numbers of four or eight bytes, as sizes and places are in zip files."""
    at = rng.randrange(max(1, len(data) - 8))
    form, most = rng.choice([("<I", 2**32), ("<Q", 2**64), (">I", 2**32)])
    number = struct.pack(form, rng.choice([0, 1, most - 1, most // 2, rng.randrange(most)]))
    return data[:at] + number + data[at + len(number) :]


BYTES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "is cut off": _cut,
    "has other bits": _flipped,
    "has other bytes": _overwritten,
    "has other numbers": _lying,
    "is there twice": lambda rng, data: data + data,
    "is in itself": lambda rng, data: gzip.compress(data, mtime=0),
    "is something else": lambda rng, data: rng.randbytes(rng.randint(0, 3000)),
    "is a bomb of nothing": lambda rng, data: gzip.compress(b"", mtime=0) * 1000 + data,
}
