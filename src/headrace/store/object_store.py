"""Object stores, named by URLs such as `s3://bucket/folder`; obstore speaks to them."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from headrace.archives.decompression import INSTALL_ZSTD as INSTALL
from headrace.errors import InvalidInput, MissingDependency, NotFound, StoreFailed, shorten
from headrace.settings import MIB
from headrace.store.progress_bar import ProgressBar

BinaryFile = IO[bytes]
SCHEMES = (
    "s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "http", "https", "file", "memory",
)  # fmt: skip
CHUNK = 8 * MIB
# Object stores accept 10,000 parts; sizes differ a little from what is planned.
MOST_PARTS = 9_000
# Enough for a server that restarts; by default, one that is not there is asked for minutes.
RETRIES: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
# After so many seconds without a byte, the process of an upload must have been killed.
ABANDONED = 3600.0
# As obstore calls the file of an upload that has not ended; no other may have such a name.
_UNFINISHED = re.compile(r"(.+)#\d+")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(place: str) -> bool:
    """Whether it names something in an object store rather than a path."""
    return _URL.match(place) is not None


def open_url(url: str) -> Any:
    """The obstore store of a URL, whose keys are below the path of the URL.

    Raises:
        MissingDependency: obstore is not installed.
        InvalidInput: it is not the URL of an object store.
        StoreFailed: it cannot be opened, for example for want of a region or credentials.
    """
    try:
        from obstore.store import from_url
    except ModuleNotFoundError:
        raise MissingDependency(
            f"object stores need obstore, which is not installed: {INSTALL}"
        ) from None
    scheme = url.partition(":")[0].lower()
    if not is_url(url) or scheme not in SCHEMES:
        raise InvalidInput(
            f"'{safe(url)}' is not the URL of an object store, such as s3://bucket/folder; "
            f"schemes are {', '.join(SCHEMES)}"
        )
    with failing(url):
        if scheme == "file":
            return from_url(url, mkdir=True)
        return from_url(url) if scheme == "memory" else from_url(url, retry_config=RETRIES)


def put(store: Any, key: str, file: Path, bar: ProgressBar) -> None:
    """Upload a file, in parts if it is large."""
    import obstore

    size = file.stat().st_size
    with file.open("rb") as opened:
        obstore.put(
            store,
            key,
            _chunks(opened, bar) if size else b"",
            chunk_size=max(CHUNK, size // MOST_PARTS + 1),
        )


def get(store: Any, key: str, file: Path, size: int, bar: ProgressBar) -> Iterator[bytes]:
    """Download a file, and yield what is written; more than `size` bytes are refused.

    Raises:
        StoreFailed: it has another size.
    """
    import obstore

    written = 0
    with file.open("xb") as opened:
        for chunk in obstore.get(store, key).stream(min_chunk_size=CHUNK):
            data = bytes(chunk)
            written += len(data)
            if written > size:
                break
            opened.write(data)
            bar.advance(len(data))
            yield data
    if written != size:
        raise StoreFailed(f"'{shorten(key)}' in the object store has not its {size} bytes")


def upload(file: Path, url: str) -> None:
    """Upload one file to the URL of an object.

    Raises:
        StoreFailed, InvalidInput, MissingDependency: as `open_url`; it cannot be written.
    """
    folder, key = _split(url)
    store = open_url(folder)
    with failing(url), ProgressBar(f"uploading {key}", file.stat().st_size) as bar:
        put(store, key, file, bar)
        sweep(store, [key])


def sweep(store: Any, keys: Iterable[str]) -> None:
    """Remove what killed uploads of objects left in a store on this machine.

    Other stores do not show an upload that has not ended, and remove its parts by their own rules.
    """
    from obstore.store import LocalStore

    if not isinstance(store, LocalStore):
        return
    oldest = time.time() - ABANDONED
    folders: dict[Path, set[str]] = {}
    for key in keys:
        file = Path(str(store.prefix), key)
        folders.setdefault(file.parent, set()).add(file.name)
    for folder, names in folders.items():
        for file in folder.glob("*#*"):
            match = _UNFINISHED.fullmatch(file.name)
            # Another process may be doing the same.
            with contextlib.suppress(FileNotFoundError):
                if match and match[1] in names and file.stat().st_mtime < oldest:
                    file.unlink()


def exists(url: str) -> bool:
    """Whether there is an object at a URL.

    Raises:
        StoreFailed, InvalidInput, MissingDependency: as `open_url`; it cannot be asked.
    """
    folder, key = _split(url)
    store = open_url(folder)
    with failing(url):
        import obstore

        try:
            obstore.head(store, key)
        except FileNotFoundError:
            return False
        return True


def download(url: str, file: Path) -> None:
    """Download one object.

    Raises:
        NotFound: it does not exist.
        StoreFailed, InvalidInput, MissingDependency: as `open_url`; it cannot be read.
    """
    folder, key = _split(url)
    store = open_url(folder)
    with failing(url):
        import obstore

        size = obstore.head(store, key)["size"]
        with ProgressBar(f"downloading {key}", size) as bar:
            for _ in get(store, key, file, size, bar):
                pass


@contextmanager
def failing(url: str) -> Iterator[None]:
    """Turn errors of an object store into ours, without the secrets that a URL may hold."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        if error.errno is not None:
            raise
        raise NotFound(f"'{safe(url)}': there is no such object") from None
    except PermissionError as error:
        raise StoreFailed(f"'{safe(url)}': access is denied: {_reason(error)}") from error
    except (BaseError, NotImplementedError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise StoreFailed(f"'{safe(url)}': {_reason(error)}") from error


def safe(url: str) -> str:
    """A URL for a message: without a password, and without signatures in its query."""
    return shorten(_without_secrets(url), 200)


def _reason(error: Exception) -> str:
    # What follows is for people who debug obstore itself.
    text = str(error).partition("\n\nDebug source")[0]
    return shorten(_without_secrets(" ".join(text.split())), 300)


def _without_secrets(text: str) -> str:
    return re.sub(r"\?\S*", "", re.sub(r"//[^/@\s]*@", "//", text))


def _split(url: str) -> tuple[str, str]:
    folder, _, key = url.rpartition("/")
    if not key or not is_url(folder + "/"):
        raise InvalidInput(f"'{safe(url)}' names no object; expected s3://bucket/folder/object")
    return folder + ("/" if folder.endswith("/") else ""), key


def _chunks(file: BinaryFile, bar: ProgressBar) -> Iterator[bytes]:
    with contextlib.suppress(AttributeError, OSError):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
    while data := file.read(CHUNK):
        bar.advance(len(data))
        yield data
