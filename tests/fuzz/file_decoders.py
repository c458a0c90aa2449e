"""Targets: files that others wrote. Settings, records, requirements, archives, and frames."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.target import Target
from headrace import configuration
from headrace.archives import archive, zip_archive
from headrace.environments import lines, mlflow_files, yaml_file
from headrace.errors import ConfigurationError, InvalidModel, LoadFailed
from headrace.packaging import build_file
from headrace.sources.folder_source import FolderSource
from headrace.store.manifest import Manifest
from headrace.store.record_yaml import read_record
from headrace.store.tag import Tag

LARGEST_CONTENT = 4 * 1024 * 1024
STOP = threading.Event()


class _Folder:
    """A folder that lasts as long as the process; libFuzzer leaves it to whoever gave TMPDIR."""

    def __init__(self) -> None:
        self._held = tempfile.TemporaryDirectory(prefix="headrace-fuzz-")
        self.path = Path(self._held.name)

    def file(self, name: str, data: bytes) -> Path:
        """A file with this content."""
        path = self.path / name
        path.write_bytes(data)
        return path


_made: list[_Folder] = []


def folder() -> _Folder:
    """The folder of this process, which is made when the first target needs it."""
    if not _made:
        _made.append(_Folder())
    return _made[0]


def server_settings(data: bytes) -> None:
    folder().file("settings.json", data)
    configuration.resolve({}, {}, folder().path)


def model_settings(data: bytes) -> None:
    here = folder().path / "model"
    here.mkdir(exist_ok=True)
    (here / "model-settings.json").write_bytes(data)
    FolderSource(str(here), None, {}).read()


def model_yaml(data: bytes) -> None:
    yaml_file.read(folder().file("MLmodel", data))


def record_yaml(data: bytes) -> None:
    read_record(folder().file("model.yaml", data))


def bundle_yaml(data: bytes) -> None:
    here = folder().path / "bundle"
    here.mkdir(exist_ok=True)
    (here / "bentofile.yaml").write_bytes(data)
    build_file.read(here / "bentofile.yaml", here, {})


def conda_yaml(data: bytes) -> None:
    mlflow_files.of_conda(folder().file("conda.yaml", data))


def requirements(data: bytes) -> None:
    before = lines.MOST_PROJECT_FILES
    # Inputs may name folders of the machine, which may be large.
    lines.MOST_PROJECT_FILES = 100
    try:
        lines.read(folder().file("requirements.txt", data), folder().path)
    finally:
        lines.MOST_PROJECT_FILES = before


def manifest(data: bytes) -> None:
    found = Manifest.of_bytes(data)
    assert all(".." not in path.split("/") and path[:1] != "/" for path in found.files)
    assert Manifest.of_bytes(found.to_bytes()).files == found.files


def tag(data: bytes) -> None:
    """A tag is below the folder of a store, whatever it is made from."""
    found = Tag.parse(data.decode("utf-8", "surrogateescape"))
    path = os.path.normpath(os.path.join("/store", found.path()))
    assert path.startswith("/store/"), path
    assert Tag.parse(str(found)) == found


def _unpacked(data: bytes, extract: Callable[[Any, Path], None]) -> None:
    """Unpack in a folder; nothing may appear outside of it."""
    here = folder().path / "archives"
    shutil.rmtree(here, ignore_errors=True)
    target = here / "deep" / "down"
    target.mkdir(parents=True)
    file = folder().file("archive", data)
    try:
        with file.open("rb") as opened:
            extract(opened, target)
    finally:
        outside = [each for each in here.rglob("*") if target not in (each, *each.parents)]
        assert outside == [target.parent], outside
        for each in target.rglob("*"):
            assert each.resolve().is_relative_to(target), each


def tar(data: bytes) -> None:
    _unpacked(data, lambda file, to: archive.Archive(file, STOP, LARGEST_CONTENT).extract(to))


def zip_file(data: bytes) -> None:
    _unpacked(data, lambda file, to: zip_archive.extract_zip(file, to, LARGEST_CONTENT))


def _tar(pack: Callable[[bytes], bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as packed:
        for name, kind, link in (
            ("bin", tarfile.DIRTYPE, ""),
            ("bin/python", tarfile.REGTYPE, ""),
            ("lib/link", tarfile.SYMTYPE, "../bin"),
            ("hard", tarfile.LNKTYPE, "bin/python"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, 3 * (kind == tarfile.REGTYPE)
            packed.addfile(info, io.BytesIO(b"abc"))
    return pack(written.getvalue().rstrip(b"\0") + bytes(1024))


def _zip(*names: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as packed:
        for name in names:
            packed.writestr(zipfile.ZipInfo(name), b"abc")
    return written.getvalue()


_YAML = [
    b"name: a\nversion: v1\nlabels: {a: 1}\n",
    b"flavors:\n  python_function:\n    env: {conda: conda.yaml}\n",
    b"a: &a [1]\nb: *a\nc: !!python/tuple [1, 2]\nd: 2020-01-01\n",
]
_YAML_WORDS = [b": ", b"- ", b"&a ", b"*a", b"!!", b"|\n", b"<<: ", b"'", b"{", b"[", b"\t", b"? "]
_JSON_WORDS = [b"null", b"true", b'""', b"[]", b"{}", b"1e400", b'"parameters"', b'"name"']

WRONG_FILES = (ConfigurationError, InvalidModel, LoadFailed)
TARGETS = {
    "server_settings": Target(
        server_settings,
        [b'{"http_port": 8080, "debug": "true", "cors_settings": {"allow_origins": ["*"]}}'],
        [*_JSON_WORDS, b'"max_body_size"', b'"grpc_port"', b'"log_level"', b'"cors_settings"'],
        WRONG_FILES,
    ),
    "model_settings": Target(
        model_settings,
        [
            b'{"name": "m", "implementation": "sklearn", "max_batch_size": 8, "parameters": '
            b'{"uri": "model.joblib", "version": "v1", "extra": {"a": 1}}, "inputs": [{"name": '
            b'"x", "datatype": "FP64", "shape": [-1, 2]}]}'
        ],
        [*_JSON_WORDS, b'"implementation"', b'"inputs"', b'"max_batch_time"', b'"extra"'],
        WRONG_FILES,
    ),
    "model_yaml": Target(model_yaml, _YAML, _YAML_WORDS, WRONG_FILES),
    "record_yaml": Target(
        record_yaml,
        [*_YAML, b"a: !!python/object/apply:datetime.time.fromisoformat ['10:00']\n"],
        [*_YAML_WORDS, b"!!python/complex", b"!!binary", b"!!timestamp", b"!!set", b"!!omap"],
        WRONG_FILES,
    ),
    "bundle_yaml": Target(
        bundle_yaml,
        [
            b"service: service.py:svc\ninclude: ['*.py']\npython: {packages: [numpy]}\n"
            b"docker: {env: {A: b}, system_packages: [git]}\nmodels: ['iris:latest']\n"
        ],
        [*_YAML_WORDS, b"${HOME}", b"../", b"file:", b"conda:", b"labels:", b"exclude:"],
        WRONG_FILES,
    ),
    "conda_yaml": Target(
        conda_yaml,
        [b"name: e\ndependencies:\n- python=3.11\n- pip:\n  - numpy==1.0\n"],
        _YAML_WORDS,
        WRONG_FILES,
    ),
    "requirements": Target(
        requirements,
        [b"numpy>=1.0; python_version > '3'\n-r other.txt\n--index-url https://x\n./a.whl # b\n"],
        [b"-r ", b"-c ", b"-e ", b"--hash=sha256:", b"\\\n", b"@ ", b"; ", b"file://", b"../"],
        WRONG_FILES,
    ),
    "manifest": Target(
        manifest,
        [b'{"files": {"a/b": {"size": 1, "sha256": "' + b"0" * 64 + b'"}}, "folders": ["c"]}'],
        [*_JSON_WORDS, b'"files"', b'"../"', b'"/"', b"\\u0000"],
        WRONG_FILES,
    ),
    "tag": Target(tag, [b"iris:v1", b"iris", b"a.b_c-d:latest"], [b"..", b"/", b":", b"\x00"]),
    "tar": Target(
        tar,
        [_tar(lambda data: data), _tar(lambda data: gzip.compress(data, mtime=0))],
        [b"ustar\x0000", b"../", b"/etc/passwd", b"\x1f\x8b\x08"],
        WRONG_FILES,
    ),
    "zip_file": Target(
        zip_file,
        [_zip("a/", "a/b", "c")],
        [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"../"],
        WRONG_FILES,
    ),
}

# Damaged zip files that name a member twice.
warnings.filterwarnings("ignore", "Duplicate name", UserWarning)
