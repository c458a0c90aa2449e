"""Builds a bundle: sources, models, locks, OpenAPI, a bill of materials and a Dockerfile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.errors import ConfigurationError, HeadraceError, NotFound, listing
from headrace.packaging import (
    bill_of_materials,
    bundle_lock,
    bundle_record,
    folder_image,
    selected_files,
)
from headrace.packaging.build_file import BuildFile
from headrace.packaging.bundle_lock import Wanted
from headrace.packaging.bundle_record import BundleInfo, digest_of
from headrace.packaging.image_text import Image, dockerfile
from headrace.settings import ModelSettings
from headrace.sources.bundle_source import open_service
from headrace.sources.folder_source import FolderSource
from headrace.sources.names import name_of_folder
from headrace.sources.store_source import settings_of
from headrace.store import transfer
from headrace.store.kinds import BUNDLES
from headrace.store.kinds import MODELS as MODEL_KIND
from headrace.store.staging import failures
from headrace.store.store import Item, Store, item_at
from headrace.store.stored_model import StoredModel
from headrace.store.tag import Tag, generated_version

TARGET = "/bundle"


@dataclass(frozen=True)
class Built:
    """The bundle in the store, and what a user should know, such as what was left out."""

    item: Item
    info: BundleInfo
    notes: tuple[str, ...]


def build(
    file: BuildFile,
    version: str | None = None,
    wheel: Path | None = None,
    base_image: str | None = None,
    root: Path | None = None,
) -> Built:
    """Build what a build file describes, and put it into the store of bundles, or that in `root`.

    Raises:
        ConfigurationError: the build file, or what it names, is wrong.
        NotFound: a model is not in the store.
        Conflict: the bundle's version is in the store.
        StoreFailed: the store cannot be written.
        MissingDependency: `headrace[bundles]` is not installed.
    """
    store = Store(BUNDLES, root)
    with store.incoming() as scratch, failures("the bundle", full_only=True):
        sources = scratch / bundle_record.SOURCES
        sources.mkdir()
        paths = selected_files.select(file.folder, file.include, file.exclude)
        if not paths and not file.models:
            raise ConfigurationError(f"{file.folder}: include takes no file")
        selected_files.copy(file.folder, paths, sources)
        found = _described(file, sources)
        with store.create(_tag(file, found, version)) as draft:
            shutil.move(sources, draft.path / bundle_record.SOURCES)
            return _finish(file, found, draft.path, draft.tag, store, wheel, base_image)


@dataclass(frozen=True)
class _Found:
    """What the sources are: the service, as its process describes it, and all models' settings."""

    service: Mapping[str, Any] | None
    settings: tuple[ModelSettings, ...]
    stored: tuple[StoredModel, ...]


def _described(file: BuildFile, sources: Path) -> _Found:
    stored = {model.tag: model for model in _listed(file.models)}
    settings = [_served(model) for model in stored.values()]
    service = None
    if file.service is not None:
        source = open_service(sources, file.service)
        service = source.described()
        runners = [ModelSettings(**fields) for fields in service["runners"]]
        settings += runners
        tags = [Tag.parse(tag) for tag in service["models"]]
        for model in (*_listed(tags), *_of_runners(runners)):
            stored.setdefault(model.tag, model)
    else:
        settings += [found.settings for found in FolderSource(str(sources), None, {}).found()]
    if file.service is None and not settings:
        raise ConfigurationError(
            f"{file.folder}: there is nothing to serve: no service, no models, and no "
            "model-settings.json among the sources"
        )
    ordered = sorted(stored.values(), key=lambda model: model.tag)
    return _Found(service, tuple(settings), tuple(ordered))


def _finish(
    file: BuildFile,
    found: _Found,
    folder: Path,
    tag: Tag,
    store: Store,
    wheel: Path | None,
    base_image: str | None,
) -> Built:
    models = [_add_model(model, folder) for model in found.stored]
    asked = bundle_lock.wanted(file)
    extras = {extra for each in found.settings for extra in folder_image.extras(each, asked.names)}
    python = folder / bundle_record.PYTHON
    bundle_lock.write(python, asked, extras, file.python.lock, wheel)
    _add_description(found, folder, tag.name)
    _add_image(file, asked, folder, tag.name, base_image)
    lock = (python / bundle_lock.installed_file(python)).read_text()
    bill = bill_of_materials.cyclonedx(tag.name, bundle_lock.packages(lock), models)
    (folder / bundle_record.SBOM).write_text(bill)
    info = BundleInfo(
        name=tag.name,
        version=str(tag.version),
        service=file.service,
        digest=digest_of(folder),
        description=file.description,
        labels=file.labels,
        models=tuple(models),
        endpoints=tuple(_endpoints(found)),
    )
    (folder / bundle_record.RECORD).write_text(info.dump(), encoding="utf-8")
    final = Item(tag, store.root / tag.name / str(tag.version), BUNDLES)
    return Built(final, info, tuple(_notes(asked)))


def _add_model(model: StoredModel, folder: Path) -> dict[str, str]:
    """Put a model into a bundle as a store has it; its record for the bundle's own."""
    item = Store(MODEL_KIND).get(model.tag)
    item.verify()
    place = folder / bundle_record.MODELS / model.tag.name / str(model.tag.version)
    place.mkdir(parents=True)
    transfer.share(item, place)
    (place.parent / "latest").write_text(_latest_of(place.parent))
    manifest = item.manifest()
    digest = manifest.digest if manifest is not None else digest_of(place)
    return {"tag": str(model.tag), "module": model.info.module, "digest": digest}


def _latest_of(folder: Path) -> str:
    """The version that `latest` means in a bundle: of those it has, that which the store means."""
    versions = sorted(path.name for path in folder.iterdir() if path.is_dir())
    latest = str(Store(MODEL_KIND).get(folder.name).tag.version)
    return latest if latest in versions else versions[-1]


def _add_description(found: _Found, folder: Path, name: str) -> None:
    """Write the OpenAPI document of a service's endpoints."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for each in (found.service or {}).get("endpoints", ()):
        paths.setdefault(each["path"], {})[each["method"].lower()] = each["operation"] or {}
        schemas.update(each["components"])
    document = {
        "openapi": "3.1.0",
        "info": {"title": name, "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    place = folder / bundle_record.OPENAPI
    place.parent.mkdir()
    place.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def _add_image(
    file: BuildFile, asked: Wanted, folder: Path, name: str, base_image: str | None
) -> None:
    place = folder / bundle_record.DOCKERFILE
    place.parent.mkdir(parents=True)
    script = None
    if file.docker.setup_script is not None:
        script = bundle_record.SETUP_SCRIPT
        shutil.copyfile(file.docker.setup_script, folder / script)
    gpu = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    options = folder_image.ImageOptions(base_image or file.docker.base_image)
    image = Image(
        base=folder_image.base_image(options, asked.python),
        content=".",
        target=TARGET,
        requirements=bundle_record.PYTHON,
        requirements_file=bundle_lock.installed_file(folder / bundle_record.PYTHON),
        env={**(gpu if file.docker.gpu else {}), **file.docker.env},
        system_packages=file.docker.system_packages,
        setup_script=script,
        title=name,
    )
    place.write_text(dockerfile(image))


def _tag(file: BuildFile, found: _Found, version: str | None) -> Tag:
    name = file.name or (found.service or {}).get("name") or name_of_folder(file.folder)
    return Tag(name.lower(), version or generated_version())


def _listed(tags: Iterable[Tag]) -> Iterator[StoredModel]:
    store = Store(MODEL_KIND)
    for tag in tags:
        try:
            yield StoredModel.of(store.get(tag))
        except NotFound as error:
            raise NotFound(f"models: {error.message}") from None


def _of_runners(runners: Iterable[ModelSettings]) -> Iterator[StoredModel]:
    for each in runners:
        item = item_at(Path(each.uri)) or item_at(Path(each.folder))
        if item is not None:
            yield StoredModel.of(item)


def _served(model: StoredModel) -> ModelSettings:
    try:
        return ModelSettings(**settings_of(model))
    except HeadraceError as error:
        raise ConfigurationError(f"models: '{model.tag}': {error.message}") from None


def _endpoints(found: _Found) -> Iterator[dict[str, str]]:
    for each in (found.service or {}).get("endpoints", ()):
        yield {"name": each["handler"], "route": each["path"], "method": each["method"]}


def _notes(asked: Wanted) -> Iterator[str]:
    if asked.replaced:
        yield f"{listing(asked.replaced)}: left out, Headrace takes their place"
    if asked.conda_only:
        yield (
            f"{listing(asked.conda_only)}: left out, since only conda installs them; list them "
            "under python.packages, or docker.system_packages, by the names they have there"
        )
