"""What is known of a bundle: its record, `bundle.yaml`, and where its parts are."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace import __version__
from headrace.errors import InvalidModel
from headrace.store.kinds import BUNDLES
from headrace.store.manifest import Manifest
from headrace.store.model_info import now, time_of
from headrace.store.record_yaml import dump, read_record

RECORD = BUNDLES.record
SOURCES = "src"
MODELS = "models"
PYTHON = "env/python"
DOCKERFILE = "env/docker/Dockerfile"
SETUP_SCRIPT = "env/docker/setup_script"
OPENAPI = "apis/openapi.json"
SBOM = "sbom.cdx.json"


@dataclass(frozen=True)
class BundleInfo:
    """The record of a bundle.

    `service` is `module:attribute` or `file.py:attribute` below `src`, or None if the bundle
    holds models only. `digest` is the SHA-256 of all of its content but this record, so that
    equal inputs have equal digests whenever they were built.
    """

    name: str
    version: str
    service: str | None = None
    digest: str = ""
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    models: tuple[Mapping[str, str], ...] = ()
    endpoints: tuple[Mapping[str, str], ...] = ()
    headrace_version: str = __version__
    creation_time: datetime.datetime = field(default_factory=now)

    def to_dict(self) -> dict[str, Any]:
        """The content of the record, in its order."""
        return {
            "name": self.name,
            "version": self.version,
            "service": self.service,
            "description": self.description,
            "labels": dict(self.labels),
            "models": [dict(each) for each in self.models],
            "endpoints": [dict(each) for each in self.endpoints],
            "headrace_version": self.headrace_version,
            "digest": self.digest,
            "creation_time": self.creation_time.isoformat(),
        }

    def dump(self) -> str:
        """The text of the record."""
        return dump(self.to_dict())

    @classmethod
    def read(cls, folder: Path) -> BundleInfo:
        """The record in a bundle's folder.

        Raises:
            InvalidModel: it is missing or wrong.
        """
        raw = read_record(folder / RECORD)
        service = raw.get("service")
        texts = {key: raw.get(key, "") for key in ("name", "version", "digest", "description")}
        wrong = [key for key, value in texts.items() if not isinstance(value, str)]
        if wrong or not (service is None or isinstance(service, str)):
            raise InvalidModel(f"'{RECORD}': {(wrong or ['service'])[0]}: expected text")
        if service is not None and (".." in service.split("/") or service.startswith("/")):
            raise InvalidModel(f"'{RECORD}': service: leads out of the bundle")
        return cls(
            service=service,
            labels=_mapping(raw.get("labels")),
            models=_mappings(raw, "models"),
            endpoints=_mappings(raw, "endpoints"),
            headrace_version=str(raw.get("headrace_version", "")),
            creation_time=time_of(raw),
            **texts,
        )


def digest_of(folder: Path) -> str:
    """The digest of everything in a bundle's folder but its record."""
    return _digest(Manifest.of_folder(folder, f"hashing {folder.name}"))


def check(folder: Path) -> None:
    """Refuse a bundle whose record is wrong, or that was changed after it was built.

    Raises:
        InvalidModel: the message says which.
    """
    stated = BundleInfo.read(folder).digest
    # What the manifest says of the files is compared with them when they are stored.
    manifest = Manifest.read(folder) or Manifest.of_folder(folder, "reading the bundle")
    if stated != _digest(manifest):
        raise InvalidModel(f"'{RECORD}': digest: its files were changed after it was built")


def _digest(manifest: Manifest) -> str:
    files = {path: entry for path, entry in manifest.files.items() if path != RECORD}
    return Manifest(files, manifest.folders).digest


def _mapping(given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        return {}
    return {str(key): str(value) for key, value in given.items()}


def _mappings(raw: Mapping[str, Any], key: str) -> tuple[dict[str, str], ...]:
    given = raw.get(key) or []
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise InvalidModel(f"'{RECORD}': {key}: expected a list of mappings")
    return tuple(_mapping(each) for each in given)
