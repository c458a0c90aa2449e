"""`bentoml.bentos`: BentoML's signatures over `headrace.bundles`."""

from __future__ import annotations

import builtins
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from headrace.errors import InvalidInput, listing
from headrace.lazy_modules import imported

# BentoML's formats of archives, and ours.
FORMATS = {"bento": "tar.xz", "gz": "tar.gz", "xz": "tar.xz", "tar": "tar", "zip": "zip",
           "folder": "folder"}  # fmt: skip


def _bundles() -> ModuleType:
    missing = "'bentoml.bentos' is headrace.bundles here, which this installation does not have"
    return imported("headrace.bundles", missing)


def build(
    service: str,
    *,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    description: str | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    docker: Mapping[str, Any] | None = None,
    python: Mapping[str, Any] | None = None,
    conda: Mapping[str, Any] | None = None,
    models: Sequence[Any] | None = None,
    version: str | None = None,
    build_ctx: str | os.PathLike[str] | None = None,
) -> Any:
    """Build a bundle; the arguments are the keys of a build file, and `build_ctx` is its folder.

    Raises:
        ConfigurationError, NotFound, Conflict: see `headrace.bundles.build`.
    """
    options = {
        "service": service,
        "name": name,
        "labels": dict(labels) if labels else None,
        "description": description,
        "include": builtins.list(include) if include else None,
        "exclude": builtins.list(exclude) if exclude else None,
        "docker": dict(docker) if docker else None,
        "python": dict(python) if python else None,
        "conda": dict(conda) if conda else None,
        "models": [str(each) for each in models] if models else None,
    }
    given = {key: value for key, value in options.items() if value is not None}
    return _bundles().build(build_ctx or ".", options=given, version=version)


def build_bentofile(
    bentofile: str | os.PathLike[str] | None = None,
    *,
    version: str | None = None,
    build_ctx: str | os.PathLike[str] | None = None,
) -> Any:
    """Build the bundle that a build file describes; by default the one in `build_ctx`.

    Raises:
        ConfigurationError, NotFound, Conflict: see `headrace.bundles.build`.
    """
    folder = build_ctx or "."
    file = None if bentofile is None else os.path.join(folder, bentofile)
    return _bundles().build(folder, file, version=version)


def list(tag: Any = None) -> builtins.list[Any]:
    """See `headrace.bundles.list`."""
    found: builtins.list[Any] = _bundles().list(tag)
    return found


def get(tag: Any) -> Any:
    """See `headrace.bundles.get`."""
    return _bundles().get(tag)


def delete(tag: Any) -> None:
    """See `headrace.bundles.delete`."""
    _bundles().delete(tag)


def import_bento(path: str, input_format: str | None = None, **access: Any) -> Any:
    """See `headrace.bundles.import_bundle`; the file says itself which format it has.

    Raises:
        InvalidInput: `protocol`, `user`, `passwd`, `params` or `subpath` is given.
    """
    _refuse(access)
    return _bundles().import_bundle(path)


def export_bento(tag: Any, path: str, output_format: str | None = None, **access: Any) -> str:
    """See `headrace.bundles.export_bundle`; a path that ends in `.bento` is a `tar.xz`.

    Raises:
        InvalidInput: it is not a format, or `protocol` or the like is given.
    """
    _refuse(access)
    if output_format is None and str(path).endswith(".bento"):
        output_format = "bento"
    if output_format is not None and output_format not in FORMATS:
        raise InvalidInput(
            f"output_format: expected one of {listing(builtins.list(FORMATS))}, got "
            f"'{output_format}'"
        )
    form = None if output_format is None else FORMATS[output_format]
    exported: str = _bundles().export_bundle(tag, path, form)
    return exported


def push(tag: Any, url: str | None = None, *, force: bool = False) -> None:
    """See `headrace.bundles.push`.

    Raises:
        InvalidInput: no URL is given, or `force`.
    """
    _bundles().push(tag, _store("push", url, force))


def pull(tag: Any, url: str | None = None, *, force: bool = False) -> Any:
    """See `headrace.bundles.pull`.

    Raises:
        InvalidInput: no URL is given, or `force`.
    """
    return _bundles().pull(tag, _store("pull", url, force))


def _store(what: str, url: str | None, force: bool) -> str:
    if url is None:
        raise InvalidInput(
            f"{what}: there is no Yatai here; name an object store that your team shares: "
            f"{what}(tag, 's3://bucket/bundles')"
        )
    if force:
        raise InvalidInput(f"{what}: a version is never replaced, so force has no meaning")
    return url


def _refuse(access: Mapping[str, Any]) -> None:
    given = [name for name, value in access.items() if value is not None]
    if given:
        raise InvalidInput(
            f"{listing(given)}: a path or the URL of an object says where the archive is, and the "
            "environment has the credentials"
        )
