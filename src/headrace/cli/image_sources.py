"""What an image is made of: a folder of models, a URI, a stored model, a bundle or a service."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import ConfigurationError
from headrace.settings import ServerSettings

if TYPE_CHECKING:
    from headrace.packaging.build_file import BuildFile


def kind_of(source: str) -> str:
    """What an image is made of: a `bundle`, a `service`, a stored `model`, or a `folder` or URI."""
    from headrace.sources import bundle_source, service_source, store_source
    from headrace.store.kinds import is_bundle

    if service_source.reference_of(source) is not None:
        return "service"
    if is_bundle(Path(source)):
        return "bundle"
    if Path(source).exists():
        return "folder"
    if bundle_source.is_stored_bundle(source):
        return "bundle"
    return "model" if store_source.is_stored(source) else "folder"


def variables(options: argparse.Namespace) -> dict[str, str]:
    """What the flags `--env` set.

    Raises:
        ConfigurationError: one of them is not the name of a variable, or its value has two lines.
    """
    from headrace.packaging import dockerfile_syntax

    pairs = [pair.partition("=") for pair in options.env]
    return dict(dockerfile_syntax.variable(name, value, "--env") for name, _, value in pairs)


def refuse_flags_of_others(options: argparse.Namespace, kind: str) -> None:
    """Refuse flags that would have no effect on the image of a bundle, a service or a stored model.

    Raises:
        ConfigurationError: there is one.
    """
    useless = [("--name", options.name is not None), ("--no-mounts", not options.mounts)]
    if kind == "bundle":
        useless += [
            ("--env", bool(options.env)),
            ("--base-image", options.base_image is not None),
            ("--headrace-wheel", options.headrace_wheel is not None),
        ]
    given = [flag for flag, is_given in useless if is_given]
    if not given:
        return
    hint = (
        ": its build file had docker.env and docker.base_image, and `headrace build` has the flags"
        if kind == "bundle"
        else ""
    )
    what = "stored model" if kind == "model" else kind
    raise ConfigurationError(f"{given[0]} has no effect on the image of a {what}{hint}")


@contextmanager
def folder_of(options: argparse.Namespace, kind: str, source: str = "") -> Iterator[Path]:
    """The folder NAME/VERSION of a bundle, or of one that is made of a service or a stored model.

    Raises:
        ConfigurationError: what it is made of is wrong.
        NotFound: there is no such bundle.
    """
    from headrace import bundles
    from headrace.packaging import build_context
    from headrace.packaging.bundle_record import BundleInfo
    from headrace.store.kinds import is_bundle

    source = source or options.source
    if kind != "bundle":
        with _made(options, kind, source) as folder:
            yield folder
    elif is_bundle(Path(source)):
        info = BundleInfo.read(Path(source))
        build_context.refuse_links_out(Path(source))
        with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
            # Only the names are needed: its files are where they are.
            (Path(scratch) / info.name).mkdir()
            link = Path(scratch) / info.name / info.version
            link.symlink_to(Path(source).resolve())
            yield link
    else:
        bundle = bundles.get(source)
        bundle.verify()
        yield Path(bundle.path)


@contextmanager
def _made(options: argparse.Namespace, kind: str, source: str) -> Iterator[Path]:
    """A bundle of a service and the files next to it, or of a stored model, for the time being."""
    from headrace.packaging import build_context, bundle_builder
    from headrace.packaging.build_file import DockerPart
    from headrace.store.staging import Staging

    with Staging(build_context.scratch_folder()).folder() as place:
        described = _of_model(source, place) if kind == "model" else _of_service(source)
        described = replace(described, docker=DockerPart(env=variables(options)))
        built = bundle_builder.build(
            described, None, options.headrace_wheel, options.base_image, place / "bundles"
        )
        print_notes(built.notes)
        yield built.item.path


def _of_service(service: str) -> BuildFile:
    from headrace.packaging.build_file import BuildFile

    file, _, attribute = service.partition(":")
    if file.endswith(".py") and not Path(file).is_file():
        raise ConfigurationError(f"SOURCE '{service}': there is no file {Path(file).resolve()}")
    folder = Path(file).parent if file.endswith(".py") else Path()
    name = Path(file).name if file.endswith(".py") else file
    return BuildFile(folder.resolve(), service=f"{name}:{attribute}" if attribute else name)


def _of_model(tag: str, place: Path) -> BuildFile:
    from headrace.packaging.build_file import BuildFile
    from headrace.store.tag import Tag

    folder = place / "sources"
    folder.mkdir()
    return BuildFile(folder, name=Tag.parse(tag).name, models=(Tag.parse(tag),))


@contextmanager
def local(source: str) -> Iterator[Path]:
    """The folder of what is named, which is downloaded for the time being if it is a URI.

    Raises:
        ConfigurationError: there is no such folder, or the URI cannot be fetched.
    """
    from headrace.errors import LoadFailed
    from headrace.sources import artifacts
    from headrace.sources.names import is_uri

    if not is_uri(source):
        if not Path(source).is_dir():
            raise ConfigurationError(
                f"SOURCE '{source}' does not exist; expected a folder of models, an MLflow model "
                "or its URI, the tag of a stored model or a bundle, or a service such as "
                "service.py:svc"
            )
        yield Path(source)
        return
    try:
        timeout = ServerSettings().fetch_timeout
        place, download, _ = asyncio.run(artifacts.fetch(source, timeout, print_note))
    except LoadFailed as error:
        raise ConfigurationError(f"SOURCE '{source}': {error.message}") from None
    try:
        yield Path(place)
    finally:
        if download is not None:
            shutil.rmtree(download, ignore_errors=True)


def print_notes(notes: Sequence[str]) -> None:
    """Print what a user should know about an image or a bundle, to standard error."""
    for note in notes:
        print_note(note)


def print_note(note: str) -> None:
    """Print one of them."""
    print(f"headrace: {note}", file=sys.stderr)
