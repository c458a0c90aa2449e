"""Reads compressed files, with bounds that the standard readers do not have."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import importlib
import lzma
from collections.abc import Callable
from typing import IO, Any, Protocol, cast

from headrace.errors import InvalidModel, MissingDependency
from headrace.settings import MIB

CHUNK = 1 * MIB
# Reading what `xz -9` wrote takes 65 MiB, and the format allows 4 GiB.
MOST_XZ_MEMORY = 256 * MIB

# What `zstd --long=31` wrote would take 2 GiB to read; without that flag it takes 8 MiB at most.
MOST_ZSTD_WINDOW = 27
INSTALL_ZSTD = "pip install 'headrace[store]'"


class Stop(Protocol):
    """Says whether the work is no longer wanted; a `threading.Event` is one."""

    def is_set(self) -> bool: ...


class Abandoned(Exception):
    """The work was stopped."""


def opened(file: IO[bytes], stop: Stop) -> IO[bytes]:
    """The content of a file, from its start; reading raises `Abandoned` once `stop` is set.

    Raises:
        InvalidModel: it is in a known format that is not supported.
        MissingDependency: it is compressed with zstd, and no library for that is installed.
    """
    file.seek(0)
    start = file.read(8)
    file.seek(0)
    if start.startswith(b"PK\x03\x04"):
        raise InvalidModel("it is a zip file; make it .tar.gz, .tar.bz2, .tar.xz or .tar.zst")
    watched = cast(IO[bytes], _Watched(file, stop))
    for magic, opener in _FORMATS:
        if start.startswith(magic):
            return cast(IO[bytes], opener(watched))
    return watched


class _Watched:
    """The compressed file. `stop` is checked here, because reading much of it may yield nothing."""

    def __init__(self, file: IO[bytes], stop: Stop) -> None:
        self._file = file
        self._stop = stop

    def read(self, size: int = -1) -> bytes:
        if self._stop.is_set():
            raise Abandoned
        return self._file.read(size)


class _Xz:
    """Like `lzma.open`, with a bound on the memory that a stream may ask for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._stream: lzma.LZMADecompressor | None = None

    def read(self, size: int) -> bytes:
        while True:
            if self._stream is None or self._stream.eof:
                given = self._next_stream()
                if not given:
                    return b""
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, MOST_XZ_MEMORY)
            else:
                given = self._file.read(CHUNK) if self._stream.needs_input else b""
                if self._stream.needs_input and not given:
                    raise EOFError
            if data := self._decompressed(self._stream, given, size):
                return data

    @staticmethod
    def _decompressed(stream: lzma.LZMADecompressor, given: bytes, size: int) -> bytes:
        try:
            return stream.decompress(given, size)
        except lzma.LZMAError as error:
            if "limit" not in str(error):
                raise
            raise InvalidModel(
                f"it takes more than {MOST_XZ_MEMORY} bytes of memory to read; `xz -9` takes less"
            ) from None

    def _next_stream(self) -> bytes:
        """The beginning of the next stream, after any padding; empty at the end."""
        given = self._stream.unused_data if self._stream is not None else b""
        while not (given := given.lstrip(b"\0")):
            given = self._file.read(CHUNK)
            if not given:
                return b""
        return given


def zstd() -> Any:
    """The module `compression.zstd` of Python 3.14, or its backport.

    Raises:
        MissingDependency: neither is installed.
    """
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    raise MissingDependency(f"zstd needs a package that is not installed: {INSTALL_ZSTD}")


def _open_zstd(file: IO[bytes]) -> Any:
    module = zstd()
    limit = {module.DecompressionParameter.window_log_max: MOST_ZSTD_WINDOW}
    return module.ZstdFile(file, "rb", options=limit)


_FORMATS: tuple[tuple[bytes, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file, mode="rb")),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", _Xz),
    (b"\x28\xb5\x2f\xfd", _open_zstd),
)
