"""Items in and out of a store as archives and folders, here or in an object store."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from headrace.archives.archive import Archive
from headrace.archives.archive_writer import format_of, pack
from headrace.archives.decompression import CHUNK
from headrace.archives.walking import walk
from headrace.archives.zip_archive import extract_zip
from headrace.errors import Conflict, InvalidInput, InvalidModel, LoadFailed, shorten
from headrace.settings import MIB
from headrace.store import object_store
from headrace.store.kinds import BENTO_RECORD
from headrace.store.progress_bar import ProgressBar
from headrace.store.staging import FULL, failure, failures, settle, sync
from headrace.store.store import Item, Store

DEFAULT_END = ".tar.zst"
FOLDER = "folder"
ENDS = {
    "tar.zst": ".tar.zst", "tar.gz": ".tar.gz", "tar.xz": ".tar.xz", "tar.bz2": ".tar.bz2",
    "tar": ".tar", "zip": ".zip", FOLDER: "",
}  # fmt: skip
# BentoML's names for formats.
OTHER_NAMES = {"gz": "tar.gz", "xz": "tar.xz", "bz2": "tar.bz2"}
BENTO = (
    "it is a bento, which BentoML built: unpack it, add its models by `headrace models import "
    "FOLDER`, and build a bundle of its sources by `headrace build FOLDER/src`"
)
MOST_BYTES = 1024 * 1024 * MIB
# How far below an imported folder its record may be: NAME/VERSION/model.yaml.
DEEPEST_RECORD = 2


def export_item(
    store: Store, item: Item, place: str, form: str | None = None, overwrite: bool = False
) -> str:
    """Write an item to an archive or a folder; returns its path or URL.

    `place` is a path or the URL of an object. The end of its name says which format it has, unless
    `form` does; without either, an existing folder gets a `NAME-VERSION.tar.zst`, and a path
    that does not exist becomes a folder. An archive is replaced if `overwrite` says so.

    Raises:
        InvalidModel: the files of the item are not as they were stored.
        NotFound: it was deleted meanwhile.
        InvalidInput: there is no such format, or it is not known which one the extension names.
        Conflict: there is an archive already, or a folder with something in it.
        StoreFailed: it cannot be written.
        MissingDependency: the format or the object store needs a package that is not installed.
    """
    form = OTHER_NAMES.get(form, form) if form is not None else None
    if form is not None and form not in ENDS:
        raise InvalidInput(
            f"there is no format '{shorten(form)}'; expected one of {', '.join(ENDS)}"
        )
    item.verify()
    default = f"{item.tag.name}-{item.tag.version}"
    if object_store.is_url(place):
        return _export_to_url(store, item, place, form, default, overwrite)
    path = Path(place)
    if form != FOLDER and (path.is_dir() or place.endswith("/")):
        path = path / (default + (ENDS[form] if form else DEFAULT_END))
    packed = format_of(path.name) if form is None else format_of(ENDS[form])
    if packed is None:
        if form is None:
            _check_end(path.name)
        _export_folder(item, path)
        return str(path)
    if path.exists() and not overwrite:
        raise _occupied(str(path))
    _export_archive(item, path, packed)
    return str(path)


def _check_end(name: str) -> None:
    """Refuse a name that looks like that of an archive of another format.

    Raises:
        InvalidInput: the message says how to name a folder like that.
    """
    end = PurePosixPath(name).suffix
    if end:
        known = ", ".join(each for each in ENDS.values() if each)
        raise InvalidInput(
            f"'{shorten(name)}': '{shorten(end)}' is no known archive format, expected one of "
            f"{known}; for a folder of that name, the format is '{FOLDER}'"
        )


def _occupied(place: str) -> Conflict:
    return Conflict(
        f"'{place}' exists; remove it, choose another name, or replace it with --overwrite "
        "(overwrite=True in Python)"
    )


def import_item(store: Store, place: str, check: Callable[[Path], object]) -> Item:
    """Add what is in an archive or a folder to a store, under the tag in its record.

    `place` is a path or the URL of an archive. `check` gets the folder with the record and raises
    if it is wrong. An item that is there already, with the same content, stays as it is.

    Raises:
        InvalidModel: there is no record, or it is wrong; the archive is damaged or hostile.
        Conflict: the version is there with another content.
        StoreFailed: it cannot be read, or the store cannot be written.
    """
    shown = shorten(place, 200)
    with store.incoming() as folder:
        content = folder / "content"
        with failures(f"'{shown}'"):
            content.mkdir()
        try:
            _unpack(place, folder, content)
            found = _record_folder(content, store.kind.record)
            check(found)
            return store.adopt(found)
        except (LoadFailed, InvalidInput) as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in FULL:
                raise failure(f"'{shown}'", cause) from error
            raise type(error)(f"'{shown}': {error.message}") from None


def records_below(place: Path, record: str) -> list[Path]:
    """The folders in `place` that have a record: itself, or those of names and versions below."""
    for depth in range(DEEPEST_RECORD + 2):
        pattern = "/".join(["*"] * depth + [record])
        found = [path.parent for path in sorted(place.glob(pattern)) if path.is_file()]
        if found:
            return found
    return []


def _unpack(place: str, folder: Path, content: Path) -> None:
    path = Path(place)
    with failures(f"'{shorten(place, 200)}'"):
        if object_store.is_url(place):
            path = folder / "archive"
            object_store.download(place, path)
        if path.is_dir():
            copy_content(path, content, f"importing {path.name}")
            return
        if not path.is_file():
            raise InvalidModel("there is no such file or folder")
        with path.open("rb") as file:
            _extract(file, path, content)


def _extract(file: object_store.BinaryFile, path: Path, content: Path) -> None:
    with ProgressBar(f"unpacking {path.name}", path.stat().st_size) as bar:
        is_zip = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        if is_zip:
            extract_zip(file, content, MOST_BYTES)
            return
        Archive(_Watched(file, bar), threading.Event(), MOST_BYTES).extract(content)  # type: ignore[arg-type]


def _record_folder(content: Path, record: str) -> Path:
    if records_below(content, BENTO_RECORD):
        raise InvalidModel(BENTO)
    found = records_below(content, record)
    if len(found) != 1:
        number = "no" if not found else f"{len(found)} times"
        raise InvalidModel(f"it has {number} '{record}'; expected one, at its top or below")
    return found[0]


def _export_to_url(
    store: Store, item: Item, url: str, form: str | None, default: str, overwrite: bool
) -> str:
    if form == FOLDER:
        raise InvalidInput("a folder is exported to a path; `push` copies one to an object store")
    packed = format_of(url) if form is None else format_of(ENDS[form])
    if packed is None:
        url, packed = f"{url.rstrip('/')}/{default}{DEFAULT_END}", "zst"
    if not overwrite and object_store.exists(url):
        raise _occupied(object_store.safe(url))
    with store.incoming() as folder:
        archive = folder / "archive"
        _pack(item, archive, packed)
        object_store.upload(archive, url)
    return url


def _export_archive(item: Item, path: Path, packed: str) -> None:
    with failures(f"'{path}'"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _draft(path) as draft:
            _pack(item, draft, packed)
            os.replace(draft, path)
            sync(path.parent)


def _export_folder(item: Item, path: Path) -> None:
    with failures(f"'{path}'"):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise Conflict(f"'{path}' exists, and is not an empty folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with _draft(path, folder=True) as draft:
            with item.held():
                copy_content(item.path, draft, f"exporting {item.tag}")
            settle(draft)
            os.rename(draft, path)
            sync(path.parent)


def _pack(item: Item, path: Path, packed: str) -> None:
    with item.held(), path.open("wb") as file:
        manifest = item.manifest()
        with ProgressBar(f"exporting {item.tag}", manifest.size if manifest else 0) as bar:
            pack(item.path, file, packed, bar.advance)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _draft(path: Path, folder: bool = False) -> Iterator[Path]:
    """A file or folder next to `path`, to be renamed to it. Drafts of killed processes go."""
    for old in path.parent.glob(f".{_escaped(path.name)}.*.part"):
        _remove_unheld(old)
    while True:
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        if folder:
            draft.mkdir()
        else:
            draft.touch(exist_ok=False)
        held = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(held, fcntl.LOCK_SH)
        # Until it was locked, it looked like that of a killed process.
        if draft.exists():
            break
        os.close(held)
    try:
        yield draft
    finally:
        _remove(draft)
        os.close(held)


def _remove_unheld(draft: Path) -> None:
    with contextlib.suppress(OSError):
        held = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(draft)
        finally:
            os.close(held)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _escaped(name: str) -> str:
    return "".join(f"[{each}]" if each in "*?[" else each for each in name)


def copy_content(source: Path, target: Path, what: str) -> None:
    """Copy the files and folders in one folder to another that is there; links stay links.

    Raises:
        InvalidModel: there is something else, such as a pipe.
        OSError: it cannot be read or written.
    """
    total = sum(path.lstat().st_size for path in source.rglob("*"))
    with ProgressBar(what, total) as bar:
        for parent, below, names in walk(source):
            place = target / Path(parent).relative_to(source)
            for name in (*below, *names):
                path = Path(parent, name)
                if path.is_symlink():
                    (place / name).symlink_to(os.readlink(path))
                elif path.is_dir():
                    (place / name).mkdir()
                elif path.is_file():
                    _copy_file(path, place / name, bar)
                else:
                    raise InvalidModel(f"'{shorten(name)}' is neither a file nor a folder")


def _copy_file(source: Path, target: Path, bar: ProgressBar) -> None:
    with source.open("rb") as read, target.open("xb") as written:
        while data := read.read(CHUNK):
            written.write(data)
            bar.advance(len(data))
    shutil.copymode(source, target)


class _Watched:
    """An archive whose reads are reported."""

    def __init__(self, file: object_store.BinaryFile, bar: ProgressBar) -> None:
        self._file = file
        self._bar = bar

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._bar.advance(len(data))
        return data

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def fileno(self) -> int:
        return self._file.fileno()


def share(item: Item, folder: Path) -> None:
    """Put the files of an item into a folder on the same disk, without copying their content."""
    with item.held():
        for parent, below, names in walk(item.path):
            place = folder / Path(parent).relative_to(item.path)
            for name in below:
                (place / name).mkdir()
            for name in names:
                try:
                    os.link(Path(parent, name), place / name)
                except OSError:
                    # Some file systems have no links.
                    shutil.copyfile(Path(parent, name), place / name)
