"""A file to score: its kind, its compression, its encoding."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from headrace.errors import ConfigurationError

LINES = (".jsonl", ".ndjson", ".json")
# Each with what separates its columns.
CSV = {".csv": ",", ".tsv": "\t"}
PARQUET = (".parquet", ".pq")
GZIP_ENDING, GZIP_START = ".gz", b"\x1f\x8b"
# The longer ones first: UTF-32 begins as UTF-16 does.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LONGEST_MARK = 4
UTF_8 = ("utf-8", "utf-8-sig")
# Characters that are read at once where the text is decoded.
PIECE = 2**16


@dataclass(frozen=True)
class InputFile:
    """A file of rows or requests, which may be compressed with gzip.

    Without an `encoding`, it is what a byte order mark says, else UTF-8. Without a `delimiter`,
    the columns of `.csv` are separated by commas, those of `.tsv` by tabs.
    """

    path: Path
    encoding: str = ""
    delimiter: str = ""

    @property
    def kind(self) -> str:
        """The kind by the ending: `lines`, `csv` or `parquet`; `.gz` may follow it."""
        return kind_of(self._plain_path(), compressed=True)

    @property
    def ending(self) -> str:
        """The ending in lower case, without `.gz`."""
        return self._plain_path().suffix.lower()

    @property
    def separator(self) -> str:
        """What separates the columns of a CSV file."""
        return self.delimiter or CSV.get(self.ending, ",")

    @property
    def compression(self) -> str | None:
        """`gzip`, or None; by the first bytes, as names mislead."""
        with self.path.open("rb") as file:
            return "gzip" if file.read(len(GZIP_START)) == GZIP_START else None

    def known_encoding(self) -> str:
        """The encoding of the text; of UTF-8, whether it begins with a byte order mark."""
        if self.encoding and codecs.lookup(self.encoding).name not in UTF_8:
            return self.encoding
        with self.open() as file:
            start = file.read(LONGEST_MARK)
        marks = MARKS[:1] if self.encoding else MARKS
        return next((name for mark, name in marks if start.startswith(mark)), "utf-8")

    def open(self) -> BinaryIO:
        """The uncompressed bytes."""
        if self.compression is None:
            return self.path.open("rb")
        return io.BufferedReader(gzip.open(self.path, "rb"))

    @contextmanager
    def utf_8(self) -> Iterator[Iterator[bytes]]:
        """The lines in UTF-8, without a byte order mark."""
        with self.open_utf_8() as file:
            if self.known_encoding() == "utf-8-sig":
                file.read(len(codecs.BOM_UTF8))
            yield file

    def open_utf_8(self) -> BinaryIO:
        """The bytes of the text in UTF-8; what is in UTF-8 is as in the file."""
        encoding = self.known_encoding()
        file = self.open()
        if encoding in UTF_8:
            return file
        text = io.TextIOWrapper(file, encoding, newline="")
        chunks = iter(partial(text.read, PIECE), "")
        return io.BufferedReader(Chunks((chunk.encode() for chunk in chunks), text.close))

    def check(self) -> None:
        """Raise ConfigurationError if there is no such file, or it holds nothing."""
        if self.path.is_dir():
            raise ConfigurationError(f"{self.path}: is a folder, expected a file")
        if not self.path.exists():
            raise ConfigurationError(f"{self.path}: there is no such file")
        if self.encoding:
            _check_encoding(self.encoding)
        with reading(self), self.open() as file:
            if not file.read(1):
                raise ConfigurationError(f"{self.path}: the file is empty")

    def _plain_path(self) -> Path:
        return self.path.with_suffix("") if self.path.suffix.lower() == GZIP_ENDING else self.path


class Chunks(io.RawIOBase):
    """Bytes that come in pieces, as a file. `close` closes what they come from."""

    def __init__(self, chunks: Iterator[bytes], close: Callable[[], None]) -> None:
        self._chunks = chunks
        self._close = close
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(filter(None, self._chunks), b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._close()
        super().close()


@contextmanager
def reading(file: InputFile) -> Iterator[None]:
    """Turn what reading a file raises into a ConfigurationError that says what to do."""
    try:
        yield
    except UnicodeError as error:
        raise ConfigurationError(
            f"{file.path}: not in the encoding {file.encoding or 'UTF-8'}: {error}; "
            "name the right one, as in --encoding cp1252"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigurationError(f"{file.path}: not a whole gzip file: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"{file.path}: {error.strerror or error}") from error


def kind_of(path: Path, *, compressed: bool = False) -> str:
    """The kind of file by its ending: `lines`, `csv` or `parquet`.

    Raises:
        ConfigurationError: the ending is not one of these kinds; `compressed` says in it that
            `.gz` may follow.
    """
    for kind, endings in (("lines", LINES), ("csv", CSV), ("parquet", PARQUET)):
        if path.suffix.lower() in endings:
            return kind
    known = ", ".join((*LINES, *CSV, *PARQUET))
    more = f" ({GZIP_ENDING} may follow)" if compressed else ""
    raise ConfigurationError(f"{path}: expected a file that ends in one of {known}{more}")


def _check_encoding(name: str) -> None:
    try:
        codecs.lookup(name)
    except LookupError:
        raise ConfigurationError(
            f"--encoding: Python has no encoding '{name}'; usual ones are utf-8, cp1252, utf-16"
        ) from None
